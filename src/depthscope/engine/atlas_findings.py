"""From the scores of all heads to the atlas: one measurement a score, labels as a view, how they go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.engine.atlas_scores import PARTS, SOURCES
from depthscope.engine.measured import DRAWS
from depthscope.engine.needs import Facts
from depthscope.measures.head_labels import RULES, head_labels
from depthscope.measures.head_overlap import (
    correlation_interval,
    overlap,
    rank_correlations,
    rank_correlations_given,
)
from depthscope.measures.statistics import bootstrap_ratio
from depthscope.results.measurement import Measurement, Table

UNITS = {
    "entropy_norm": "1",
    "distance": "tokens",
    "best_offset": "tokens",
    "copying": "1",
    "ov_eigenvalue": "1",
    "mean_write": "1",
    "ablation": "nats",
}
ROLES = tuple(rule.label for rule in RULES)


@dataclass(frozen=True)
class Atlas:
    """All scores of all heads.

    Args:
        scores: score -> [part, layer, head], NaN where not measured. rank: see `measures.head_labels`.
    """

    scores: Mapping[str, np.ndarray]
    facts: Facts
    rank: float = 0.0

    @property
    def grid(self) -> dict[str, np.ndarray]:
        """The axes of every score."""
        return {"layer": np.arange(self.facts.n_layers), "head": np.arange(self.facts.n_heads)}

    @property
    def values(self) -> dict[str, np.ndarray]:
        """Score -> [layer, head]."""
        return {name: parts[0] for name, parts in self.scores.items()}

    @property
    def labels(self) -> dict[str, np.ndarray]:
        """Label -> [layer, head]: 1, 0, or NaN where open."""
        return head_labels(self.values, self.rank)

    def measurements(self) -> list[Measurement]:
        """One measurement a score, the labels, their shares, and what goes with what."""
        labels = self.labels
        return [
            *map(self._score, self.scores),
            *self._roles(labels),
            *self._together(),
            *self._overlaps(labels),
        ]

    def _score(self, name: str) -> Measurement:
        parts = dict(zip(PARTS, self.scores[name], strict=True))
        value = parts["value"]
        source = SOURCES.get(name)
        where = (
            f"{source.analysis}/{source.measurement}" if source else "an imported table or the atlas itself"
        )
        more = {p: parts[p] for p in ("low", "high") if np.isfinite(parts[p]).any()}
        counts = {
            p: np.nan_to_num(parts[p]).astype(np.int64)
            for p in ("n", "n_items")
            if np.isfinite(parts[p]).any()
        }
        missing = "not measured, or the layer has no heads" if np.isnan(value).any() else ""
        unit = UNITS.get(name, "1" if name.endswith("_errors") else "probability")
        return Measurement(
            name, self.grid, value, unit, **more, **counts, note=f"from {where}", missing=missing
        )

    def _roles(self, labels: Mapping[str, np.ndarray]) -> list[Measurement]:
        """Every label of every head, and the share of heads that have it."""
        stacked = np.stack([labels[name] for name in ROLES])
        decided = np.isfinite(stacked).sum((1, 2))
        share = np.array([np.nanmean(x) if np.isfinite(x).any() else np.nan for x in stacked])
        axes = {"role": np.array(ROLES)}
        how = f"largest {self.rank:.0%} of each score" if self.rank else "fixed thresholds"
        gap = "scores that were not measured leave it open" if np.isnan(stacked).any() else ""
        note = f"1 has it, 0 has it not; {how}"
        return [
            Measurement("role", {**axes, **self.grid}, stacked, "1", note=note, missing=gap),
            Measurement(
                "role_share",
                axes,
                share,
                "probability",
                n_items=decided,
                note=f"of heads; {how}",
                missing=gap,
            ),
            self._role_depth(labels),
        ]

    def _role_depth(self, labels: Mapping[str, np.ndarray]) -> Measurement:
        """Where the heads of each label lie, with an interval over these heads: few heads say little of a place."""
        depths = [np.argwhere(labels[r] == 1)[:, 0] / max(1, self.facts.n_layers - 1) for r in ROLES]
        every = [_mean_of(own, self.facts.seed) for own in depths]
        value, low, high = (np.array(part) for part in zip(*every, strict=True))
        heads = np.array(list(map(len, depths)))
        note = "mean relative depth l / (L - 1) of the heads that have it; interval over draws of these heads"
        return Measurement(
            "role_depth", {"role": np.array(ROLES)}, value, "1", low, high, n_items=heads, note=note,
            missing="nobody has the label",
        )  # fmt: skip

    def _together(self) -> list[Measurement]:
        """Spearman's correlations of all scores, plain and given the layer."""
        names = [n for n, v in self.values.items() if np.isfinite(v).sum() > 2]
        flat = np.stack([self.values[n].ravel() for n in names]) if names else np.zeros((0, 0))
        depth = np.repeat(np.arange(self.facts.n_layers, dtype=np.float64), self.facts.n_heads)
        plain, given = rank_correlations(flat), rank_correlations_given(flat, depth)
        there = np.isfinite(flat).astype(np.int64)
        n = there @ there.T
        between = correlation_interval(plain, n)
        axes = {"score": np.array(names, dtype=str), "other": np.array(names, dtype=str)}
        gap = "constant scores, or fewer than 3 heads have both"
        counts = {"n_items": n}
        return [
            Measurement(
                "correlation",
                axes,
                plain,
                "1",
                between.low,
                between.high,
                **counts,
                note="Spearman, over heads",
                missing=gap,
            ),
            Measurement(
                "correlation_given_layer",
                axes,
                given,
                "1",
                **counts,
                note="partial, given the layer",
                missing=gap,
            ),
        ]

    def _overlaps(self, labels: Mapping[str, np.ndarray]) -> list[Measurement]:
        """Jaccard's index of each pair of labels, and the chance of as large an overlap."""
        axes = {"role": np.array(ROLES), "other": np.array(ROLES)}
        flat = [labels[name].ravel() for name in ROLES]
        half = {(a, b): overlap(flat[a], flat[b]) for a in range(len(ROLES)) for b in range(a, len(ROLES))}
        found = [[half[min(a, b), max(a, b)] for b in range(len(ROLES))] for a in range(len(ROLES))]
        counts = np.array([[o.either for o in row] for row in found])
        note, gap = "of the heads on which both labels are decided", "one of the labels has nobody"
        return [
            Measurement("overlap", axes, np.array([[o.jaccard for o in r] for r in found]), "1",
                n_items=counts, note=f"Jaccard, {note}", missing=gap),
            Measurement("overlap_p", axes, np.array([[o.p for o in r] for r in found]), "probability",
                n_items=counts, note=f"hypergeometric, {note}; not corrected for the number of pairs", missing=gap),
        ]  # fmt: skip

    def label_table(self) -> Table:
        """One row a head and label that it has, or that is open, with the score behind it."""
        rows: list[tuple[int, int, str, bool]] = []
        for name, found in self.labels.items():
            rows += [(int(a), int(b), name, bool(found[a, b] == 1)) for a, b in np.argwhere(found == 1)]
        rows.sort()
        return Table(
            {
                "layer": np.array([r[0] for r in rows], np.int64),
                "head": np.array([r[1] for r in rows], np.int64),
                "label": np.array([r[2] for r in rows], dtype=str),
                "content": np.array(
                    [next(x.content for x in RULES if x.label == r[2]) for r in rows], dtype=bool
                ),
            },
            "labels that heads have; a head may have several",
        )

    def head_table(self, kv_group: int) -> Table:
        """One row a head with every score: what other tools read."""
        layers, heads = (axis.ravel() for axis in np.meshgrid(*self.grid.values(), indexing="ij"))
        labels = self.labels
        windows = [self.facts.window_of_layer[k] or 0 for k in layers.tolist()]
        said = [
            " ".join(n for n, v in labels.items() if v[a, b] == 1) for a, b in zip(layers, heads, strict=True)
        ]
        return Table(
            {
                "layer": layers, "head": heads, "kv_head": heads // max(1, kv_group),
                "kind": np.array([self.facts.kind_of_layer[k] for k in layers.tolist()], dtype=str),
                "window": np.array(windows, np.int64), "labels": np.array(said, dtype=str),
                **{name: values.ravel() for name, values in self.values.items()},
            },
            "one row a head; empty where not measured; window 0 is no window",
        )  # fmt: skip

    def gaps(self) -> tuple[str, ...]:
        """Which scores are nowhere, and whose they would be."""
        absent: dict[str, list[str]] = {}
        for name, source in SOURCES.items():
            if name not in self.scores or not np.isfinite(self.scores[name][0]).any():
                absent.setdefault(source.analysis, []).append(name)
        return tuple(
            f"Not measured, as {analysis} gave none: {', '.join(names)}."
            for analysis, names in absent.items()
        )


def _mean_of(depths: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval; NaN of nothing, no interval of one."""
    if len(depths) < 2:
        return (float(depths.mean()) if len(depths) else np.nan), np.nan, np.nan
    found = bootstrap_ratio(depths[:, None], np.ones((len(depths), 1)), DRAWS, seed)
    return float(found.value[0]), float(found.low[0]), float(found.high[0])
