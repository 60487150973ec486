"""Spelling: the text of token ids, and which characters each token touches.

Two ways lead to the characters, and they agree where both go. A fast tokenizer that gives the same ids for the text
names the characters itself. Otherwise the ids are decoded one more at a time: token k added what the text of k + 1 ids
has beyond the text of k ids. Where neither holds, the text is refused: a word of the wrong token is worse than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from depthscope.errors import Refused
from depthscope.materials.plain_ids import plain_ids

Span = tuple[int, int]
UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What decoders put where the bytes of a character are not all there yet."""


@dataclass(frozen=True)
class Spelled:
    """The text of some token ids.

    Args:
        text: their characters; a line feed stands for a special token.
        spans: (start, stop) of the characters that each token touches, in the order of the tokens. Tokens that share
            a character (its bytes are split between them) both touch it.
        special: numbers of the tokens that are special: they spell nothing.
    """

    text: str
    spans: tuple[Span, ...]
    special: frozenset[int]


def spelled(tokenizer: Any, ids: Sequence[int]) -> Spelled:  # noqa: ANN401
    """The text of ids and the characters of each.

    Raises:
        Refused: when the tokenizer gives no offsets and its texts do not grow token by token.
    """
    known = frozenset(special_ids(tokenizer))
    text, spans, special = "", list[Span](), set[int]()
    for is_special, group in groupby(map(int, ids), key=lambda i: i in known):
        run = list(group)
        if is_special:
            special.update(range(len(spans), len(spans) + len(run)))
            part, found = "\n" * len(run), [(k, k + 1) for k in range(len(run))]
        else:
            part, found = _offsets(tokenizer, run)
        spans += [(len(text) + start, len(text) + stop) for start, stop in found]
        text += part
    return Spelled(text, tuple(spans), frozenset(special))


def special_ids(tokenizer: Any) -> tuple[int, ...]:  # noqa: ANN401
    """Ids that stand for no text: BOS, EOS, padding and the like, ascending."""
    found = getattr(tokenizer, "all_special_ids", None)
    if found is None:
        names = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
        found = [k for name in names if (k := getattr(tokenizer, name, None)) is not None]
    return tuple(sorted(set(map(int, found))))


def single_tokens(tokenizer: Any, word: str) -> tuple[int, ...]:  # noqa: ANN401
    """Ids of every spelling of a word that is one token: as given, lower, capital, upper, with and without a space.

    In the order of the spellings; empty where no spelling is one token, and for an empty word.
    """
    forms = (word, word.lower(), word.capitalize(), word.upper()) if word else ()
    texts = sorted({space + form for form in forms for space in ("", " ")})
    encoded = [plain_ids(tokenizer, text) for text in texts]
    return tuple(dict.fromkeys(int(ids[0]) for ids in encoded if len(ids) == 1))


def text_of(tokenizer: Any, ids: Sequence[int]) -> str:  # noqa: ANN401
    """Ids as text, nothing tidied up."""
    if hasattr(tokenizer, "is_fast"):
        return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
    return str(tokenizer.decode(list(ids)))


def _offsets(tokenizer: Any, ids: list[int]) -> tuple[str, list[Span]]:  # noqa: ANN401
    text = text_of(tokenizer, ids)
    named = named_offsets(tokenizer, text, ids)
    return text, grown_offsets(tokenizer, text, ids) if named is None else named


def named_offsets(tokenizer: Any, text: str, ids: list[int]) -> list[Span] | None:  # noqa: ANN401
    """Offsets as a fast tokenizer names them; None where it is none or reads other ids in the text."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [(a, b) for a, b in read["offset_mapping"]] if list(read["input_ids"]) == ids else None


def grown_offsets(tokenizer: Any, text: str, ids: list[int]) -> list[Span]:  # noqa: ANN401
    """Offsets from the texts of 1, 2, 3 ... ids, each of which must be how the whole text begins.

    Raises:
        Refused: when one is not; unfinished characters at its end are no difference.
    """
    spans, begun = list[Span](), 0
    for k in range(1, len(ids) + 1):
        part = text_of(tokenizer, ids[:k])
        same = _common(part, text)
        if part[same:].strip(UNFINISHED) or same < begun:
            raise Refused(
                f"tokenizer without offsets: {type(tokenizer).__name__} writes its first {k} tokens as {part[-20:]!r} "
                f"and the whole text as {text[max(0, same - 10) : same + 10]!r}; no token can be given its characters"
            )
        spans.append((begun, min(len(text), same + (same < len(part)))))
        begun = same
    return spans


def _common(part: str, text: str) -> int:
    """Length of the common beginning."""
    if text.startswith(part):
        return len(part)
    return next(
        (k for k, (a, b) in enumerate(zip(part, text, strict=False)) if a != b), min(len(part), len(text))
    )
