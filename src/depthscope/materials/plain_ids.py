"""Ids of a text and nothing around it: the one place where materials are tokenised."""

from __future__ import annotations

from typing import Any


def plain_ids(tokenizer: Any, text: str) -> list[int]:  # noqa: ANN401  (a transformers tokenizer or one like it)
    """Ids of a text of any length without special tokens, [] of an empty one.

    Windows are cut from them afterwards, so a tokenizer's warning that a whole document is longer than what its model
    reads would be about nothing: `verbose=False` leaves it out.
    """
    return [int(i) for i in tokenizer.encode(text, add_special_tokens=False, verbose=False)]
