"""What written answers look like from outside: whether they repeat themselves, were cut off, or have no usable form."""

from __future__ import annotations

import re

from depthscope.materials.tasks import LETTERS, Item, number_in

WORDS = 12
"""Answers of fewer words are too short to be called repeating."""
DISTINCT = 0.5
"""A longer answer repeats where fewer than this share of its runs of three words are different ones."""


def repeats(text: str) -> bool:
    """Whether an answer goes in circles: under half of its runs of three words are distinct."""
    words = text.casefold().split()
    runs = [tuple(words[k : k + 3]) for k in range(len(words) - 2)]
    return len(words) >= WORDS and len(set(runs)) < DISTINCT * len(runs)


def malformed(item: Item, text: str) -> bool:
    """Whether an answer has no form that its scorer could read: empty, no number, or no letter of an option."""
    if not text.strip():
        return True
    if item.scorer == "number":
        return number_in(text) is None
    if item.scorer == "letter":
        letters = LETTERS[: len(item.options)]
        named = any(text.casefold().lstrip().startswith(option.casefold()) for option in item.options)
        return not named and re.search(rf"(?<!\w)[{letters}](?!\w)", text) is None
    return False
