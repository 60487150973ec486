"""What analyses of predictable and novel parts share: predictors, refusals, repeated text, groups of positions."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Bool, Int
from torch import nn

from depthscope.anatomy.anatomy import Anatomy
from depthscope.errors import Refused
from depthscope.materials.window import Window, Windows
from depthscope.runtime.model import Model
from depthscope.runtime.predictor import CARD, Predictors, load_predictors
from depthscope.store.atomic import read_json

REPEATED = 8
"""Tokens that must have stood together before for a position to count as repeated."""
SINGLE = 32
"""Positions that have a group of their own; later groups are a quarter as wide as where they begin."""
_LOADED: WeakKeyDictionary[nn.Module, tuple[tuple[str, str], Predictors]] = WeakKeyDictionary()
"""The last predictors of each network: every shard asks for them."""


def check_predictor(folder: str, anatomy: Anatomy) -> None:
    """Nothing, where predictors can be asked.

    Raises:
        Refused: without a folder, and for a model whose states see later tokens.
    """
    if not anatomy.family.causal:
        raise Refused(
            "it is no causal language model: a state has seen the tokens it would be predicted before"
        )
    if not folder:
        raise Refused(
            "it needs predictors of states: train them with `depthscope fit predictor MODEL --layers ... --out DIR`, "
            "then "
            "give --predictor DIR"
        )


def digest_of(folder: str) -> str:
    """The digest of the predictors in a folder, which changes with their numbers; "" where there are none."""
    card = Path(folder) / CARD
    return str(read_json(card).get("identity", "")) if folder and card.is_file() else ""


def predictors_of(folder: str, model: Model) -> Predictors:
    """The predictors of a folder, kept between shards.

    Raises:
        What `load_predictors` raises.
    """
    key = (str(folder), digest_of(folder))
    known = _LOADED.get(model.net)
    if known is None or known[0] != key:
        known = _LOADED[model.net] = (key, load_predictors(folder, model))
    return known[1]


def fresh(whole: Windows, window: Window) -> Bool[np.ndarray, " token"]:
    """True where the last REPEATED tokens (or all since the start) stand together nowhere else in the text."""
    counts = _sequences(whole.hash)
    if not counts:
        counts.update(key for each in whole.items for key in _keys(each.ids))
    return np.array([counts[key] == 1 for key in _keys(window.ids)])


@lru_cache(maxsize=2)
def _sequences(digest: str) -> Counter[tuple[int, ...]]:
    """A counter for one text, filled by whoever needs it first."""
    del digest
    return Counter()


def _keys(ids: tuple[int, ...]) -> list[tuple[int, ...]]:
    # a start is another sequence than the same tokens inside a text: nothing stands before it
    return [ids[p + 1 - REPEATED : p + 1] if p >= REPEATED else (-1, *ids[: p + 1]) for p in range(len(ids))]


def position_groups(length: int) -> Int[np.ndarray, " position"]:
    """The group of each position 0..length-1: the first SINGLE by themselves, later ones in stretches that widen."""
    found, start, group = np.arange(length), SINGLE, SINGLE
    while start < length:
        stop = start + max(1, start // 4)
        found[start:stop] = group
        start, group = stop, group + 1
    return found
