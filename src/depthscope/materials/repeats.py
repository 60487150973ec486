"""Repeats: blocks of random tokens that come again, which only attention to the earlier copy can predict.

Two layouts. `two`: a long block twice, for what happens at each position of the second copy. `four`: a short block four
times, for scores that count all earlier copies. Each example draws its own block, without a token twice, from ids that
begin a word, with the rarest and the most common ids left out. Where asked, running text follows as a control.
Sources: Olsson et al. 2022 (arXiv 2209.11895), 25 tokens four times; Tang et al. 2024 (arXiv 2407.15891).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.edges import edges
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.text import read
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.model import Model

LOWEST, HIGHEST = 100, 1000
"""Ids left out at either end of a large vocabulary: control tokens and single bytes, and the rarest merges."""
SMALL = 4000
"""Vocabularies below it keep all ids but the first three."""
_SALT = 0x4E_9E_A7


@dataclass(frozen=True)
class Repeats:
    """Repeated blocks of random tokens.

    Args:
        length: tokens of a block that comes twice; 0 leaves the layout out. short: of one that comes four times, or 0.
        examples: blocks of each layout.
        bos: what stands before: "always" the tokenizer's BOS, "auto" what the tokenizer itself puts there, "never".
        texts: windows of running text that follow, of `text_length` tokens each. text: where they come from; "" is
            the packaged sample.
    """

    length: int = 50
    short: int = 25
    examples: int = 10
    bos: str = "always"
    texts: int = 0
    text_length: int = 512
    text: str = ""

    def __post_init__(self) -> None:
        if self.length == self.short == 0 or min(x or 2 for x in (self.length, self.short)) < 2:
            raise BadInput(
                f"length={self.length}, short={self.short}; a block has 2 tokens or more, 0 leaves a layout out"
            )
        check_ranges(self, examples=at_least(1), texts=at_least(0), text_length=at_least(8, what="tokens"))

    @property
    def name(self) -> str:
        """The file of ids."""
        return "repeats"

    def windows(self, model: Model, seed: int) -> Windows:
        """Blocks, then texts; `about` says kind, start, length and copies, and where attention rows are wanted.

        Rows are wanted at the second and later copies. Units are examples and texts.

        Raises:
            BadInput: for a block longer than the vocabulary or than the model's positions.
            EmptyMaterial: where no text is long enough.
        """
        before, _, words = edges(model.tokenizer, self.bos, str(getattr(model.config, "model_type", "")))
        pool = drawable(model)
        items: list[Window] = []
        for length, copies in ((self.length, 2), (self.short, 4)):
            _must_fit(model, pool, length, len(before) + length * copies)
            for number in range(self.examples if length else 0):
                draw = np.random.default_rng([seed, _SALT, copies, number])
                block = [int(i) for i in draw.permutation(pool)[:length]]
                items.append(_repeated(len(items), number, before, block, copies))
        texts = _texts(self, model, before, len(items)) if self.texts else []
        said = f"random tokens, {self.length} twice and {self.short} four times"
        return Windows((*items, *texts), said + (f", {len(texts)} texts" if texts else ""), words, 0)


def drawable(model: Model) -> np.ndarray:
    """Ids that random blocks are drawn from, ascending.

    Of a large vocabulary, those that begin a word with a space, without the LOWEST and HIGHEST; all of these where none
    begins with a space; of a small one everything from id 3 on.
    """
    rows = int(model.net.get_input_embeddings().weight.shape[0])  # pyright: ignore[reportCallIssue, reportArgumentType]
    size = min(len(model.tokenizer), rows)
    if size < SMALL:
        return np.arange(3, size)
    inside = np.arange(LOWEST, size - HIGHEST)
    tokens = model.tokenizer.convert_ids_to_tokens(inside.tolist())
    spaced = np.array([_begins_a_word(token) for token in tokens])
    return inside[spaced] if spaced.any() else inside


def _begins_a_word(token: Any) -> bool:  # noqa: ANN401  (text, or bytes of some tokenizers)
    word = str(token)
    return len(word) > 2 and word[0] in "\u0120\u2581 " and word[1:].isalpha()


def _must_fit(model: Model, pool: np.ndarray, length: int, tokens: int) -> None:
    limit = int(getattr(model.config, "max_position_embeddings", None) or 10**9)
    if length > len(pool) or tokens > limit:
        raise BadInput(
            f"a block of {length} different tokens, {tokens} in all, does not fit {model.name}: it has {len(pool)} ids "
            f"to draw from and {limit} positions; give a smaller length"
        )


def _repeated(index: int, number: int, before: list[int], block: list[int], copies: int) -> Window:
    start, length = len(before), len(block)
    queries = list(range(start + length, start + copies * length))
    about = {"kind": "repeat", "start": start, "length": length, "copies": copies, "queries": queries}
    return Window(index, f"repeat-{copies}-{number:03d}", (*before, *block * copies), (), about)


def _texts(asked: Repeats, model: Model, before: list[int], index: int) -> list[Window]:
    where, documents = read(asked.text or None)
    room = asked.text_length - len(before)
    found: list[Window] = []
    for document in documents:
        ids = plain_ids(model.tokenizer, document.text)[:room]
        if len(ids) == room and len(found) < asked.texts:
            about = {"kind": "text", "start": len(before), "length": room, "copies": 1}
            found.append(Window(index + len(found), document.name, (*before, *ids), (), about))
    if not found:
        raise EmptyMaterial(
            f"{where} has no text of {room} tokens; give a longer one, or a smaller text_length"
        )
    return found
