"""Effective depths of divergences: the first state near the final prediction, once or for good, or only the final one.

Sources: Hu et al. 2025 (arXiv 2512.14064) for half of the largest divergence and an overlap of 0.3; half of the value
at state 2 and the condition for good are ours: the embedding's divergence and a lucky dip say nothing of the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from depthscope.engine.curves import for_good
from depthscope.engine.measured import DRAWS
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument
from depthscope.measures.statistics import resampled
from depthscope.results.measurement import Measurement

EARLY = 2
"""The state after two blocks: what later divergences are held against."""
MODES = ("maximum", "state_2")
DEFINITIONS = ("first", "stable")
OVERLAP = 0.3


def convergence(curves: Mapping[str, PerDocument], facts: Facts) -> list[Measurement]:
    """Depth of half of the largest divergence and of half of that at state 2, by divergence.

    Args:
        curves: name -> sums and counts [unit, state]; one without any unit gives missing cells.
    """
    found = [_located(each, _halved, facts, (len(MODES), len(DEFINITIONS))) for each in curves.values()]
    axes = {
        "variant": np.asarray(list(curves)), "mode": np.asarray(MODES), "definition": np.asarray(DEFINITIONS),
    }  # fmt: skip
    note = f"first state with half of the divergence or less, of {facts.n_layers}; lens {facts.lens}"
    return _measured("convergence", axes, np.stack(found, 1), list(curves.values()), note)


def overlap_depths(overlap: PerDocument, facts: Facts) -> list[Measurement]:
    """Depth of a top-5 overlap above OVERLAP."""

    def crossed(curves: np.ndarray) -> np.ndarray:
        held = curves > OVERLAP
        held[..., -1] = True
        return _both(held)

    found = _located(overlap, crossed, facts, (len(DEFINITIONS),))
    note = f"first state with a top-5 overlap above {OVERLAP:g}, of {facts.n_layers}; lens {facts.lens}"
    return _measured("overlap", {"definition": np.asarray(DEFINITIONS)}, found, [overlap], note)


def _halved(curves: np.ndarray) -> np.ndarray:
    """Curves [draw, state] -> depths [draw, mode, definition]."""
    early = min(EARLY, curves.shape[-1] - 1)
    largest = 2 * curves <= curves.max(-1, keepdims=True)
    second = 2 * curves <= curves[..., early, None]
    # the state that others are held against, and those before it, cannot have crossed
    second[..., : early + 1] = False
    largest[..., -1] = second[..., -1] = True
    return np.stack([_both(largest), _both(second)], -2)


def _both(held: np.ndarray) -> np.ndarray:
    """Bool [.., state] -> the first state that holds, and the first from which on all hold."""
    return np.stack([held.argmax(-1).astype(np.float64), for_good(held)], -1)


def _located(
    found: PerDocument,
    depths: Callable[[np.ndarray], np.ndarray],
    facts: Facts,
    shape: tuple[int, ...],
) -> np.ndarray:
    """Value, both ends, and share of draws at the final state, [4, *cells]; the interval holds the value."""
    if not found.units:
        return np.full((4, *shape), np.nan)
    value = depths((found.sums.sum(0) / np.maximum(found.counts.sum(0), 1))[None])[0]
    drawn = depths(resampled(found.sums, found.counts, DRAWS, facts.seed))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    if len(found.units) < 2:
        low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
    else:
        low, high = np.minimum(low, value), np.maximum(high, value)
    return np.stack([value, low, high, (drawn == facts.n_layers).mean(0)])


def _measured(
    name: str, axes: Mapping[str, np.ndarray], found: np.ndarray, parts: list[PerDocument], note: str
) -> list[Measurement]:
    value, low, high, censored = found
    first = "variant" in axes
    shape = (len(parts), *(1,) * (value.ndim - 1)) if first else (1,) * value.ndim
    n, items = (
        np.broadcast_to(np.asarray(each).reshape(shape), value.shape)
        for each in ([len(p.units) for p in parts], [int(p.counts.max(1, initial=0).sum()) for p in parts])
    )
    gone = "no position was decoded for it" if np.isnan(value).any() else ""
    said = "share of bootstrap draws in which only the final state is there"
    return [
        Measurement(f"{name}_depth", axes, value, "1", low, high, n, items, note, gone),
        Measurement(f"{name}_censored", axes, censored, "probability", note=said, missing=gone),
    ]
