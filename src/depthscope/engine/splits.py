"""Splits: positions of a window that separate what is edited from what is measured as its future."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from depthscope.engine.shard import hashed
from depthscope.errors import BadInput
from depthscope.materials.window import Window

NONE = -1
"""Stands where a window has fewer splits than another of its batch."""


def splits_of(windows: Sequence[Window], length: int, count: int, seed: int) -> Int[Tensor, "row branch"]:
    """The splits of each window in ascending order, filled up with NONE.

    A window that names its own in `about["splits"]` keeps those that lie within the `length` tokens that are read.
    Others get one in each of `count` equal stretches of positions 2 .. length - 1, by a hash of window and seed alone,
    so every analysis and every kind of skip splits a window at the same places. Position 1 is no split: before it
    there is only position 0, which is protected.

    Raises:
        BadInput: when a window names a split outside 1 .. its length - 1.
    """
    found = [
        _named(w, length) if "splits" in w.about else _chosen(w.index, length, count, seed) for w in windows
    ]
    most = max(map(len, found), default=0)
    return torch.tensor([[*s, *[NONE] * (most - len(s))] for s in found], dtype=torch.long).reshape(
        len(found), most
    )


def _named(window: Window, length: int) -> list[int]:
    splits = sorted({int(t) for t in window.about["splits"]})
    outside = [t for t in splits if not 0 < t < len(window.ids)]
    if outside:
        raise BadInput(
            f"a window of {window.document!r} names the split {outside[0]}; a split stands between tokens, 1 to "
            f"{len(window.ids) - 1}"
        )
    return [t for t in splits if t < length]


def _chosen(window: int, length: int, count: int, seed: int) -> list[int]:
    """One position of each stretch; a stretch without positions has none."""
    bounds = [2 + k * max(0, length - 2) // max(1, count) for k in range(count + 1)]
    keys = hashed(np.full(count, window), np.arange(count), seed)
    return [
        low + int(key) % (high - low)
        for low, high, key in zip(bounds, bounds[1:], keys, strict=False)
        if high > low
    ]
