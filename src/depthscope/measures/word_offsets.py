"""Whether one offset leads from each word to its partner: nearest neighbours of x + o among some words.

A task is an offset where f(x) - x is the same for all words. It cannot be one where words lead back to themselves in a
circle (hot, cold, hot; Monday to Sunday, Monday): the offsets of a circle add up to 0, so its best offset is none.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32

CHUNK = 16_384
"""Words that points are compared with at one time."""


def circles(pairs: Sequence[tuple[str, str]]) -> list[int]:
    """Of each pair the number of the circle it is in, counted from 0 as they come; -1 where it is in none.

    A circle is a chain of pairs, each one's output the next one's input, that returns to its start. Where an input has
    several outputs the last one counts.
    """
    after = dict(pairs)
    number: dict[str, int] = {}
    for start in list(after):
        chain, word = [start], after[start]
        while word in after and word not in chain:
            chain.append(word)
            word = after[word]
        if word == start and start not in number:
            number |= dict.fromkeys(chain, len(set(number.values())))
    return [number.get(x, -1) if after[x] == y else -1 for x, y in pairs]


def grouped(pairs: Sequence[tuple[str, str]]) -> list[int]:
    """Of each pair the number of its group: pairs that share a word, directly or through others, are in one group."""
    root: dict[str, str] = {}

    def top(word: str) -> str:
        while root.setdefault(word, word) != word:
            word = root[word]
        return word

    for x, y in pairs:
        root[top(x)] = top(y)
    number = {name: k for k, name in enumerate(dict.fromkeys(top(x) for x, _ in pairs))}
    return [number[top(x)] for x, _ in pairs]


def held_out_offsets(
    x: Float[Tensor, "pair d"], y: Float[Tensor, "pair d"], group: Int[Tensor, " pair"]
) -> Float[Tensor, "pair d"]:
    """Of each pair the mean of y - x over the pairs of all other groups; 0 where there is no other group."""
    each = at_least_float32(y) - at_least_float32(x)
    own = (group[:, None] == group).to(each)
    others = 1 - own
    return others @ each / others.sum(1, keepdim=True).clamp_min(1)


def nearest(
    points: Float[Tensor, "item d"], words: Float[Tensor, "word d"], own: Int[Tensor, " item"]
) -> Int[Tensor, " item"]:
    """The word of the largest cosine to each point, the item's own word left out; the first of equals."""
    some = torch.nn.functional.normalize(at_least_float32(points), dim=-1)
    best, found = some.new_full((len(points),), -torch.inf), torch.zeros(len(points), dtype=torch.long)
    for start in range(0, len(words), CHUNK):
        part = torch.nn.functional.normalize(words[start : start + CHUNK].to(some), dim=-1)
        cosine = some @ part.T
        here = (own >= start) & (own < start + len(part))
        cosine[here.nonzero()[:, 0], own[here] - start] = -torch.inf
        value, place = cosine.max(-1)
        found = torch.where(value > best, place + start, found)
        best = torch.maximum(best, value)
    return found


def shared_length(x: Float[Tensor, "pair d"], y: Float[Tensor, "pair d"]) -> float:
    """|mean(y - x)| / mean |y - x|, 0 to 1: 1 where all offsets are equal, 0 where they cancel; NaN without any."""
    each = at_least_float32(y) - at_least_float32(x)
    length = float(torch.linalg.vector_norm(each, dim=-1).mean()) if len(each) else 0.0
    return float(torch.linalg.vector_norm(each.mean(0))) / length if length else float(np.nan)


LAWS = (
    Law(circles, (), {"pairs": [("a", "b"), ("b", "a")]}),
    Law(grouped, (), {"pairs": [("a", "b"), ("b", "a")]}),
    Law(held_out_offsets, ("zero_on_equal",)),
    Law(nearest, (), {}),
    Law(shared_length, ("bounded_by_one", "non_negative", "scale_free", "rotation_free", "shift_free")),
)
