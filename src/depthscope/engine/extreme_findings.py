"""From entropies of edited texts to curves by level and slopes by state: each text against itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from depthscope.engine.cells import Items
from depthscope.engine.measured import states
from depthscope.engine.needs import Facts
from depthscope.materials.extremes import KINDS, MODES
from depthscope.results.measurement import Measurement

LONG = ("length", "truncation", "copies")
"""Kinds that change the number of tokens: their slopes are over its logarithm."""
DEPTHS = ("early", "middle", "late", "all")
LEVELS = {"repetition": "p", "randomness": "p", "truncation": "share of the tokens kept"}
"""What a level is; of the other kinds the number of tokens."""
PREFIX = {"normalised": "", "raw": "raw_"}
UNIT = {"normalised": "1", "raw": "nats"}
OVER = "mean over texts of a text's own slope, over p, or over ln of the tokens where their number changes"

NOTHING = "no text has two levels of this kind, or no layer lies in this third of the depth"


@dataclass(frozen=True)
class Edited:
    """All texts of one kind of edit.

    Args:
        levels: ascending. tokens: [text, level]. values: "normalised", "raw", "degenerate" [text, level, mode, state],
            NaN where a text lacks a level.
    """

    kind: str
    levels: np.ndarray
    tokens: np.ndarray
    values: Mapping[str, np.ndarray]
    items: Items
    facts: Facts

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray], kind: str, facts: Facts) -> Edited:
        """From one row a window; the two modes of a level may stand in two windows."""
        at = columns["kind"] == kind
        texts, text = np.unique(columns["text"][at], return_inverse=True)
        levels, level = np.unique(columns["level"][at], return_inverse=True)
        tokens = np.full((len(texts), len(levels)), np.nan)
        tokens[text, level] = columns["tokens"][at]
        values: dict[str, np.ndarray] = {}
        for name in ("normalised", "raw", "degenerate"):
            known = columns[name][at]
            values[name] = np.full((*tokens.shape, *known.shape[1:]), np.nan)
            for mode in range(len(MODES)):
                serves = np.isfinite(known[:, mode]).all(-1)
                values[name][text[serves], level[serves], mode] = known[serves, mode]
        units = np.array([f"text {t}" for t in texts], dtype=object)
        if facts.units == "documents":
            units[text] = columns["source"][at]
        return cls(kind, levels, tokens, values, Items(units.astype(str), facts, 1, "texts"), facts)

    def curve(self, name: str) -> Measurement:
        """Mean over texts, by state, level and mode."""
        axes = {**states(self.facts), "level": self.levels, "mode": np.asarray(MODES)}
        values, said = self.values[name].transpose(0, 3, 1, 2), LEVELS.get(self.kind, "tokens")
        full = f"{self.kind}_{PREFIX[name]}entropy"
        return self.items.mean(values, full, axes, UNIT[name], f"mean over texts; level: {said}")

    def slopes(self, name: str) -> np.ndarray:
        """Least-squares slope of each text over its levels, [text, mode, state]; NaN without two different levels."""
        x = np.log(self.tokens) if self.kind in LONG else np.broadcast_to(self.levels, self.tokens.shape)
        y = self.values[name]
        away = np.where(np.isfinite(y), x[..., None, None], np.nan)
        away = away - mean_of_known(away, 1)[:, None]
        below = np.nansum(away**2, 1)
        return np.divide(np.nansum(away * y, 1), below, out=np.full(below.shape, np.nan), where=below > 1e-12)


def mean_of_known(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean along an axis without NaN; NaN where there is nothing else."""
    known = np.isfinite(values)
    count = known.sum(axis)
    total = np.where(known, values, 0.0).sum(axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def thirds(depth: int) -> np.ndarray:
    """Weights [DEPTHS, state] of the means over the layers of each third and over all; state 0 has none.

    Layer l, whose output is state l + 1, belongs to third floor(3 l / L). A third without a layer is NaN.
    """
    layer = np.arange(depth)
    groups = np.stack([*(3 * layer // depth == third for third in range(3)), layer >= 0]).astype(np.float64)
    size = groups.sum(1, keepdims=True)
    weights = np.divide(groups, size, out=np.full(groups.shape, np.nan), where=size > 0)
    return np.concatenate([np.zeros((len(DEPTHS), 1)), weights], 1)


def found(columns: Mapping[str, np.ndarray], facts: Facts) -> dict[str, Measurement]:
    """All measurements of `extreme_inputs`."""
    kinds = [Edited.of(columns, kind, facts) for kind in KINDS if (columns["kind"] == kind).any()]
    long = [each for each in kinds if each.kind in LONG]
    weights = thirds(facts.n_layers)
    by_state = {**states(facts), "mode": np.asarray(MODES)}
    by_depth = {"depth": np.asarray(DEPTHS), "mode": np.asarray(MODES)}
    made = [each.curve("normalised") for each in kinds] + [each.curve("raw") for each in long]
    for name, some in (("normalised", kinds), ("raw", long)):
        said = f"{PREFIX[name]}slope"
        made += [
            _joined(some, said, by_state, UNIT[name], OVER, lambda e, n=name: _last_two(e.slopes(n))),
            _joined(
                some, f"{said}_by_depth", by_depth, UNIT[name], f"{OVER}; mean over layers, state 0 left out",
                lambda e, n=name: _last_two(e.slopes(n) @ weights.T),
            ),
        ]  # fmt: skip
    rise = "slope of the first third of the depth minus that of the last, text by text"
    none = "texts without two different token vectors, entropy set to 0; over all levels"
    made += [
        _joined(
            kinds, "early_minus_late", {"mode": np.asarray(MODES)}, "1", rise,
            lambda e: e.slopes("normalised") @ (weights[0] - weights[2]),
        ),
        _joined(
            kinds, "degenerate", by_state, "probability", none,
            lambda e: _last_two(mean_of_known(e.values["degenerate"], 1)),
        ),
    ]  # fmt: skip
    return {m.name: m for m in made}


def _last_two(values: np.ndarray) -> np.ndarray:
    """[text, mode, state] -> [text, state, mode]."""
    return values.transpose(0, 2, 1)


def _joined(
    kinds: Sequence[Edited],
    name: str,
    axes: Mapping[str, np.ndarray],
    unit: str,
    note: str,
    values: Callable[[Edited], np.ndarray],
) -> Measurement:
    """One measurement of several kinds, each with texts of its own, behind the axis `variant`."""
    each = [kind.items.mean(values(kind), name, axes, unit, note) for kind in kinds]
    parts = {p: np.stack([getattr(m, p) for m in each]) for p in ("value", "low", "high", "n", "n_items")}
    missing = NOTHING if np.isnan(parts["value"]).any() else ""
    labels = {"variant": np.asarray([kind.kind for kind in kinds]), **axes}
    return Measurement(name, labels, unit=unit, note=note, missing=missing, **parts)
