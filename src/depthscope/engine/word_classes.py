"""Word classes of decoded positions: what kind of word the next token starts."""

from __future__ import annotations

from depthscope.engine.view import View
from depthscope.materials.spelling import spelled
from depthscope.materials.taggers import Tagger
from depthscope.materials.words import SPECIAL, token_labels


def next_word_classes(view: View, tagger: Tagger) -> list[str]:
    """For each decoded position the class of the word that the next token starts, or why it starts none.

    A window is tagged as the text that its ids spell, so windows, not documents, are what a tagger sees. Positions
    without a next token count as SPECIAL.

    Raises:
        Refused: when the tokenizer gives no token its characters.
    """
    decoded = view.decoded
    places = list(zip(decoded.rows.tolist(), decoded.positions.tolist(), strict=True))
    by_row = {row: _labels(view, row, tagger) for row in {row for row, _ in places}}
    return [by_row[row][p + 1] if p + 1 < len(by_row[row]) else SPECIAL for row, p in places]


def _labels(view: View, row: int, tagger: Tagger) -> list[str]:
    window, length = view.windows[row], view.seen.batch.length
    spelling = spelled(view.seen.model.tokenizer, window.ids[:length])
    return token_labels(spelling, tagger.words(spelling.text, window.document))
