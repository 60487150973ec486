"""From sums and rows of predicted states to measurements: explained shares, curves by position, correlations.

All sums are of states minus a fixed reference (the mean of the predictor's training text); variances are around the
mean of what was read, which a draw of documents takes anew for `dim`, `uniform` and `without_top`. For the other
definitions a draw keeps the correction of the mean that all documents give: it is second order in what a draw moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from depthscope.engine.measured import DRAWS, part
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument, Rows, Sum, Tally
from depthscope.measures.partial_ranks import partial_rank_correlation
from depthscope.measures.statistics import Interval, bootstrap_ratio, multiplicities
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings

SUBSETS = ("late", "plain", "fresh")
DEFINITIONS = ("dim", "element", "uniform", "position", *SUBSETS, "without_top")
BASELINES = ("copy", "position_mean")
GIVEN = ("plain", "given_norm", "given_frequency", "given_both")
OFFSETS = (-2, -1, 0, 1, 2)
TOP = 3
"""Dimensions of largest variance that `without_top` leaves out."""
NO_NATS = "the predictor gives no distribution; train one with --variance"
NO_SPREAD = "fewer windows than a correlation needs, or a quantity that does not vary"


def findings(total: Tally, facts: Facts, late: int, fewest: int) -> Findings:
    """Everything that the tally of `predictability` says."""
    rows = part(total, "windows", Rows).columns
    numbers = part(total, "reference", Rows).columns["layer"][0]
    layers = {"layer": numbers.astype(np.int64)}
    spread = Spread.of(total)
    found = [
        *explained(spread, layers, facts),
        *by_position(rows, layers, facts),
        *correlations(rows, layers, facts, late, fewest),
        *nats(rows, layers, facts),
    ]
    share = part(total, "part_means", Sum).count[SUBSETS.index("fresh")] / spread.counts.sum()
    notes = (f"{share:.0%} of the positions are fresh: their last 8 tokens stand nowhere else in the text.",)
    return Findings({m.name: m for m in found}, notes=notes)


@dataclass(frozen=True)
class Spread:
    """Sums of one text by document.

    Args:
        dims: [document, layer, (sum, square, novel square), d]; counts: positions, [document].
        parts: [document, layer, subset, (square, novel square)]; part_counts [document, subset].
        part_means: [layer, subset, d] sums. copied: [document, layer]. places: variance between positions, [layer].
        mean: the reference, [layer, d].
    """

    dims: np.ndarray
    counts: np.ndarray
    parts: np.ndarray
    part_counts: np.ndarray
    part_means: np.ndarray
    copied: np.ndarray
    places: np.ndarray
    mean: np.ndarray

    @classmethod
    def of(cls, total: Tally) -> Spread:
        """From the parts of a tally; all documents stand in the same order."""
        dims, parts = part(total, "dims", PerDocument), part(total, "parts", PerDocument)
        by_place, means = part(total, "positions", Sum), part(total, "part_means", Sum)
        counts = dims.counts[:, 0, 0, 0]
        fine = by_place.count > 0
        group = by_place.total[:, fine] / by_place.count[fine][:, None]
        whole = dims.sums[:, :, 0].sum(0) / counts.sum()
        between = (by_place.count[fine][:, None] * (group - whole[:, None]) ** 2).sum((1, 2)) / counts.sum()
        return cls(
            dims.sums, counts, parts.sums, parts.counts[:, 0, :, 0], means.total,
            part(total, "copied", PerDocument).sums, between,
            part(total, "reference", Rows).columns["mean"][0],
        )  # fmt: skip

    def shares(self, weights: np.ndarray) -> np.ndarray:
        """R squared [draw, definition, layer] with documents weighted [draw, document]."""
        n = weights @ self.counts
        found = np.stack([self._dims(weights, n, layer) for layer in range(self.dims.shape[1])], 2)
        parts = np.stack([self._part(weights, k) for k in range(len(SUBSETS))], 1)
        return np.concatenate([found[:, :4], parts, found[:, 4:]], 1)

    def _dims(self, weights: np.ndarray, n: np.ndarray, layer: int) -> np.ndarray:
        """dim, element, uniform, position and without_top of one layer, [draw, definition]."""
        own = self.dims[:, layer]
        drawn = (weights @ own.reshape(len(own), -1)).reshape(len(n), 3, -1) / n[:, None, None]
        first, square, novel = np.moveaxis(drawn, 1, 0)
        variance = np.maximum(square - first**2, 0)
        top = np.argsort(-self.variance()[layer], kind="stable")[TOP:]
        reference = self.mean[layer]
        middle = (first + reference).mean(1)
        raw = (square + 2 * first * reference + reference**2).mean(1) - middle**2
        own_share = _explained(novel, variance)
        with np.errstate(invalid="ignore"):
            uniform = np.where(np.isfinite(own_share).any(1), np.nanmean(_filled(own_share), 1), np.nan)
        return np.stack([
            _explained(novel.sum(1), variance.sum(1)), _explained(novel.mean(1), raw), uniform,
            _explained(novel.sum(1), variance.sum(1) - self.places[layer]),
            _explained(novel[:, top].sum(1), variance[:, top].sum(1)),
        ], 1)  # fmt: skip

    def _part(self, weights: np.ndarray, subset: int) -> np.ndarray:
        """R squared on some positions only, [draw, layer]."""
        count = self.part_counts[:, subset]
        n = np.maximum(weights @ count, 1e-12)[:, None]
        square, novel = (weights @ self.parts[:, :, subset, k] / n for k in range(2))
        shift = ((self.part_means[:, subset] / max(1, int(count.sum()))) ** 2).sum(1)
        return _explained(novel, square - shift)

    def variance(self) -> np.ndarray:
        """Variance of each dimension over all positions, [layer, d]."""
        first, square = (self.dims[:, :, k].sum(0) / self.counts.sum() for k in range(2))
        return np.maximum(square - first**2, 0)

    def baselines(self, weights: np.ndarray) -> np.ndarray:
        """R squared (dim) of a copy of the state before, and of the mean at each position, [draw, baseline, layer]."""
        n = (weights @ self.counts)[:, None]
        first, square = (
            np.einsum("wu,uld->wld", weights, self.dims[:, :, k]) / n[..., None] for k in range(2)
        )
        variance = np.maximum(square - first**2, 0).sum(2)
        copied = weights @ self.copied / n
        return np.stack(
            [_explained(copied, variance), self.places / np.where(variance > 0, variance, np.nan)], 1
        )


def explained(spread: Spread, layers: dict[str, np.ndarray], facts: Facts) -> list[Measurement]:
    """r2 by definition, the baselines, the error and the variance it is held against."""
    units, positions = len(spread.counts), int(spread.counts.sum())
    missing = "no position of this kind, or states that do not vary"
    found = _bootstrapped(spread.shares, units, facts.seed)
    count = np.asarray([positions] * 4 + spread.part_counts.sum(0).tolist() + [positions])
    axes = {**layers, "definition": np.asarray(DEFINITIONS)}
    note = "1 - novel energy / variance; which variance says the definition; targets are positions 1 and on"
    items = np.broadcast_to(count, (len(layers["layer"]), len(DEFINITIONS)))
    there = (spread.part_counts > 0).sum(0).tolist()
    seen = np.broadcast_to([units] * 4 + there + [units], items.shape)
    base = _bootstrapped(spread.baselines, units, facts.seed)
    beside = "definition dim; position_mean knows the mean at each position of this text"
    error = bootstrap_ratio(spread.dims[:, :, 2].mean(2), spread.counts, DRAWS, facts.seed)
    size = spread.variance().mean(1)
    return [
        Measurement("r2", axes, *_turned(found), seen, items, note, _why(found, missing)),
        Measurement(
            "baseline_r2", {**layers, "variant": np.asarray(BASELINES)}, *_turned(base), np.asarray(units),
            np.asarray(positions), beside, _why(base, missing),
        ),
        Measurement(
            "mse", layers, *_of(error), np.asarray(units), np.asarray(positions), "mean over dimensions, raw units"
        ),
        Measurement(
            "variance", layers, size, "1", n=np.asarray(units), n_items=np.asarray(positions),
            note="mean over dimensions of the variance around the dimension's mean, raw units",
        ),
    ]  # fmt: skip


def by_position(
    rows: Mapping[str, np.ndarray], layers: dict[str, np.ndarray], facts: Facts
) -> list[Measurement]:
    """Error, relative novelty and cosine at each position."""
    at = {**layers, "position": np.arange(1, rows["novel"].shape[1])}
    squares = {name: rows[name][:, 1:].astype(np.float64) ** 2 for name in ("novel", "distance")}
    units = rows["unit"].tolist()
    novel, distance = (PerDocument.of(units, np.moveaxis(v, 1, 2)) for v in squares.values())
    cosine = PerDocument.of(units, np.moveaxis(rows["cosine"][:, 1:], 1, 2))
    error = bootstrap_ratio(novel.sums / facts.d_model, novel.counts, DRAWS, facts.seed)
    relative = bootstrap_ratio(novel.sums, distance.sums, DRAWS, facts.seed)
    alike = bootstrap_ratio(cosine.sums, cosine.counts, DRAWS, facts.seed)
    root = Interval(np.sqrt(relative.value), np.sqrt(relative.low), np.sqrt(relative.high))
    said = {
        "mse_by_position": (error, novel, "mean over dimensions, raw units"),
        "relative_novelty": (root, novel, "root of novel energy over energy around the predictor's mean"),
        "cosine": (alike, cosine, "of expected and state, both minus the predictor's mean"),
    }
    return [
        Measurement(
            name, at, *_of(found), (counted.counts > 0).sum(0), counted.counts.sum(0), note,
            _why(found, "no window reaches this position"),
        )
        for name, (found, counted, note) in said.items()
    ]  # fmt: skip


def correlations(
    rows: Mapping[str, np.ndarray], layers: dict[str, np.ndarray], facts: Facts, late: int, fewest: int
) -> list[Measurement]:
    """Spearman's correlation of novelty and surprisal: at each position, over later ones, with the index shifted."""
    surprise, usual = rows["surprisal"], rows["frequency"]
    length = surprise.shape[1]
    pool = np.arange(length) >= min(late, length // 2)
    counts = np.isfinite(surprise).sum(0)
    enough = counts[1:] >= fewest
    alone, beyond, pooled, shifted = ([] for _ in range(4))
    for k in range(len(layers["layer"])):
        novel, norm = rows["novel"][..., k], rows["norm"][..., k]
        given = {"plain": [], "given_norm": [norm], "given_frequency": [usual], "given_both": [norm, usual]}
        each = {name: _stacked(values, novel) for name, values in given.items()}
        for into, name in ((alone, "plain"), (beyond, "given_both")):
            into.append(
                _correlation(novel[:, 1:], surprise[:, 1:], each[name][:, :, 1:], rows, facts, enough)
            )
        pooled.append([_pooled(novel, surprise, values, pool, rows, facts) for values in each.values()])
        shifted.append([
            _pooled(novel, _moved(surprise, by), each["plain"], pool, rows, facts) for by in OFFSETS
        ])  # fmt: skip
    there = np.where(enough, counts[1:], 0)
    n = np.asarray(len(np.unique(rows["unit"])))
    items = np.asarray(int(np.isfinite(surprise[:, pool]).sum()))
    place = {**layers, "position": np.arange(1, length)}
    note = f"Spearman's correlation of |novel| and surprisal over windows; ranks within each position from {late} on"
    both = "taken out: norm of the state, log frequency of the token"
    return [
        _curve("surprisal_correlation", place, alone, there, n, "Spearman's, over windows"),
        _curve("partial_correlation", place, beyond, there, n, f"Spearman's, over windows; {both}"),
        _table("correlation", {**layers, "mode": np.asarray(GIVEN)}, pooled, n, items, note),
        _table(
            "correlation_by_offset", {**layers, "offset": np.asarray(OFFSETS)}, shifted, n, items,
            f"{note}; surprisal taken so many positions later",
        ),
    ]  # fmt: skip


def nats(rows: Mapping[str, np.ndarray], layers: dict[str, np.ndarray], facts: Facts) -> list[Measurement]:
    """Novelty in nats at a position, and what the past tells of it."""
    units = rows["unit"].tolist()
    given, alone = (rows[name][:, 1:].astype(np.float64) for name in ("nats", "nats_alone"))
    told = {
        "novelty": (
            given,
            "-ln density of the state given those before it, raw units: compare differences only",
        ),
        "told": (alone - given, "what the past tells of a state: nats beyond the training text's Gaussian"),
    }
    found: list[Measurement] = []
    for name, (values, note) in told.items():
        flat = PerDocument.of(np.repeat(units, values.shape[1]).tolist(), values.reshape(-1, values.shape[2]))
        interval = bootstrap_ratio(flat.sums, flat.counts, DRAWS, facts.seed).holding()
        n, items = (flat.counts > 0).sum(0), flat.counts.sum(0)
        missing = _why(interval, NO_NATS)
        found.append(
            Measurement(
                name, layers, interval.value, "nats", interval.low, interval.high, n, items, note, missing
            )
        )
    return found


def _bootstrapped(statistic: Callable[[np.ndarray], np.ndarray], units: int, seed: int) -> Interval:
    """A statistic of weighted documents, [*cells], with an interval over draws of documents."""
    value = statistic(np.ones((1, units)))[0]
    if units < 2:
        return Interval(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    weights = multiplicities(units, DRAWS, seed).astype(np.float64)
    drawn = np.concatenate([statistic(some) for some in np.array_split(weights, 10)])
    ends = np.full((2, *value.shape), np.nan)
    fine = np.isfinite(drawn).any(0) & np.isfinite(value)
    if fine.any():
        ends[:, fine] = np.nanquantile(drawn[:, fine], [0.025, 0.975], axis=0)
    return Interval(value, *ends).holding()


def _turned(found: Interval) -> tuple[np.ndarray, str, np.ndarray, np.ndarray]:
    """[definition, layer] as a measurement takes it: value, unit, ends, [layer, definition]."""
    return found.value.T, "1", found.low.T, found.high.T


def _of(found: Interval) -> tuple[np.ndarray, str, np.ndarray, np.ndarray]:
    held = found.holding()
    return held.value, "1", held.low, held.high


def _correlation(
    novel: np.ndarray,
    surprise: np.ndarray,
    given: np.ndarray,
    rows: Mapping[str, np.ndarray],
    facts: Facts,
    enough: np.ndarray,
) -> Interval:
    """At each position; NaN where fewer windows reach it than are needed."""
    found = partial_rank_correlation(novel, surprise, given, rows["unit"], False, DRAWS, facts.seed)
    return Interval(*(np.where(enough, each, np.nan) for each in found)).holding()


def _pooled(
    novel: np.ndarray,
    surprise: np.ndarray,
    given: np.ndarray,
    pool: np.ndarray,
    rows: Mapping[str, np.ndarray],
    facts: Facts,
) -> Interval:
    found = partial_rank_correlation(
        novel[:, pool], surprise[:, pool], given[:, :, pool], rows["unit"], True, DRAWS, facts.seed
    )
    return found.holding()


def _stacked(values: Sequence[np.ndarray], like: np.ndarray) -> np.ndarray:
    return np.stack(values) if values else np.zeros((0, *like.shape))


def _moved(values: np.ndarray, by: int) -> np.ndarray:
    """At each position what stands `by` positions later; NaN where nothing does."""
    found = np.full_like(values, np.nan)
    length = values.shape[1]
    to, start = slice(max(0, -by), min(length, length - by)), slice(max(0, by), min(length, length + by))
    found[:, to] = values[:, start]
    return found


def _curve(
    name: str,
    axes: dict[str, np.ndarray],
    found: Sequence[Interval],
    count: np.ndarray,
    n: np.ndarray,
    note: str,
) -> Measurement:
    value, low, high = (np.stack(each) for each in zip(*found, strict=True))
    items = np.broadcast_to(count, value.shape)
    units = np.minimum(items, n)
    return Measurement(
        name, axes, value, "1", low, high, units, items, note, NO_SPREAD if np.isnan(value).any() else ""
    )


def _table(
    name: str, axes: dict[str, np.ndarray], found: Sequence[Sequence[Interval]], n: np.ndarray, items: np.ndarray,
    note: str,
) -> Measurement:  # fmt: skip
    value, low, high = (np.stack([[cell[k][0] for cell in row] for row in found]) for k in range(3))
    missing = NO_SPREAD if np.isnan(value).any() else ""
    return Measurement(
        name, axes, value, "1", low, high, np.where(np.isnan(value), 0, n), items, note, missing
    )


def _explained(novel: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """1 - novel / variance, NaN where nothing varies."""
    share = np.divide(novel, variance, out=np.full(np.shape(novel), np.nan), where=variance > 1e-300)
    return 1 - share


def _filled(values: np.ndarray) -> np.ndarray:
    """Rows without any number as zeros, so that their mean can be taken; what comes of them is not used."""
    return np.where(np.isfinite(values).any(1, keepdims=True), values, 0.0)


def _why(found: Interval, missing: str) -> str:
    return missing if np.isnan(found.value).any() else ""
