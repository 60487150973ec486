"""Passkeys: lists of words hidden in a text and asked for at its end, for what must be kept from far back.

Source: Xiao et al. 2024 (arXiv 2410.10819), section 2.3; the words and sentences are our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from depthscope.errors import BadInput
from depthscope.materials.plain_ids import plain_ids
from depthscope.runtime.model import Model

WORDS = (
    "apple", "bridge", "candle", "desert", "engine", "forest", "garden", "hammer", "island", "jungle",
    "kettle", "ladder", "mirror", "needle", "orange", "pencil", "quarry", "ribbon", "saddle", "tunnel",
    "umbrella", "valley", "window", "yellow", "zebra", "anchor",
)  # fmt: skip
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


@dataclass(frozen=True)
class Asked:
    """A text with passkeys.

    Args:
        ids: all tokens. marks: positions that predict the words of the answers.
    """

    ids: tuple[int, ...]
    marks: tuple[int, ...]


def with_passkeys(
    model: Model, hay: Sequence[int], passkeys: int, words: int, seed: Sequence[int], room: int = 0
) -> Asked:
    """Passkeys at random places of a text, and the question for each behind it with its answer.

    Args:
        hay: token ids. passkeys: at most 8. words: of each. room: the most tokens in all, 0 for no limit.

    Raises:
        BadInput: for more passkeys than have an ordinal, fewer than 1 word, or no room for any hay.
    """
    if not 1 <= passkeys <= len(ORDINALS) or not 1 <= words <= len(WORDS):
        raise BadInput(
            f"{passkeys} passkeys of {words} words; 1 to {len(ORDINALS)} passkeys of 1 to {len(WORDS)} words"
        )
    draw = np.random.default_rng(list(seed))
    lists = [" ".join(draw.choice(WORDS, words, replace=False)) for _ in range(passkeys)]
    hidden = [
        plain_ids(model.tokenizer, f" The {o} list is: {text}.")
        for o, text in zip(ORDINALS, lists, strict=False)
    ]
    asked = [
        (plain_ids(model.tokenizer, f"\nThe {o} list is:"), plain_ids(model.tokenizer, f" {text}"))
        for o, text in zip(ORDINALS, lists, strict=False)
    ]
    taken = sum(map(len, hidden)) + sum(len(a) + len(b) for a, b in asked)
    hay = list(hay)[: len(hay) if not room else max(0, room - taken)]
    if not hay:
        raise BadInput(
            f"passkeys take {taken} tokens, there is room for {room}; ask for fewer or shorter ones"
        )
    places = sorted(int(k) for k in draw.integers(1, len(hay) + 1, passkeys))
    ids: list[int] = []
    for place, (cut, key) in enumerate(zip(places, hidden, strict=True)):
        ids += hay[places[place - 1] if place else 0 : cut] + key
    ids += hay[places[-1] :]
    marks: list[int] = []
    for question, answer in asked:
        ids += question
        marks += range(len(ids) - 1, len(ids) - 1 + len(answer))
        ids += answer
    return Asked(tuple(ids), tuple(marks))
