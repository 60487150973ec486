"""From the sums of skips to measurements: effects on the output, maps of pairs of layers, and summaries over depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from depthscope.engine.measured import DRAWS, layers, mean, part, ratio
from depthscope.engine.needs import Facts
from depthscope.engine.skip_sums import of_sublayer
from depthscope.engine.tally import Extremes, PerDocument, Rows, Sum, Tally
from depthscope.measures.depth_use import depth_holding, half_ratio, row_effect
from depthscope.measures.statistics import Interval, bootstrap_curve
from depthscope.measures.trend import depth_score
from depthscope.results.measurement import Measurement

SUBLAYERS = ("attention", "block", "mlp")
FLOOR = 3.0
"""Effects below so many noise floors are shown as 0."""
OUTPUTS = {"output_kl": "nats", "loss_increase": "nats", "shift": "1"}
FUTURES = {"future_kl": "nats", "future_loss": "nats", "future_shift": "1"}
PROFILES = ("shift", "future_shift", "effect_on_later", "future_effect_on_later")
"""What summaries over the depth are of: effects on the output, and mean effects on later layers."""
_EARLIER = "earlier layers cannot be affected; a layer that was not skipped in this run has no row"
_ENCODER = "the model is no causal language model: every position sees every other, so there is no next or future token"


@dataclass(frozen=True)
class Skipped:
    """The total of all skips and what is needed to read it.

    Args:
        future: why there are no effects on future tokens, empty where there may be.
        local: why there are no direct effects.
    """

    total: Tally
    facts: Facts
    future: str
    local: str

    def outputs(self) -> list[Measurement]:
        """Means over layer x sublayer, at all tokens and at future ones."""
        now = [
            self._output(name, unit, place, "floor", "") for place, (name, unit) in enumerate(OUTPUTS.items())
        ]
        later = [
            self._output(name, unit, place, "future_floor", self._why_no_future())
            for place, (name, unit) in enumerate(FUTURES.items())
        ]
        return [
            *now,
            *later,
            self._largest_shift("", ""),
            self._largest_shift("future_", self._why_no_future()),
        ]

    def maps(self) -> list[Measurement]:
        """Effects on later layers as ratios of sums, by pair of layers, of whole layers and of sublayers."""
        why = self._why_no_future()
        kinds = (
            ("effect_on_later", "changed", "clean", "floor", ""),
            ("future_effect_on_later", "future_changed", "future_clean", "future_floor", why),
            ("local_effect", "local_changed", "clean", "floor", self.local),
        )
        whole = [self._map(name, top, bottom, floor, missing) for name, top, bottom, floor, missing in kinds]
        parts = [
            self._parts(name, top, bottom, floor, missing) for name, top, bottom, floor, missing in kinds
        ]
        return [*whole, *parts, *self._positions("", ""), *self._positions("future_", why)]

    def summaries(self) -> list[Measurement]:
        """Halves, the depth that holds 90 % and the depth score of whole layers' effects."""
        curves = {name: self._profile(name) for name in PROFILES}
        axes = {"variant": np.asarray(PROFILES)}
        ways: tuple[tuple[str, Callable[[np.ndarray], np.ndarray], str], ...] = (
            (
                "half_ratio",
                half_ratio,
                "mean of the second half of layers over that of the first, layers 2 to L - 2",
            ),
            (
                "depth_holding_90",
                depth_holding,
                "smallest depth whose layers hold 90 % of the sum of effects",
            ),
            ("depth_score", depth_score, "centre of mass of effects over layers, counted from 0"),
        )
        found = [self._summary(name, way, curves, axes, note) for name, way, note in ways]
        return [*found, self._contrast(curves)]

    def floors(self) -> list[Measurement]:
        """The noise floors of the output."""
        found = []
        for name, kind in (("noise_floor", "floor"), ("future_noise_floor", "future_floor")):
            level = self._floor(kind)[0]
            note = "mean output KL of the clean pass against itself"
            gap = self._why_no_future() if np.isnan(level) else ""
            found.append(Measurement(name, {}, np.asarray(level), "nats", note=note, missing=gap))
        return found

    def _why_no_future(self) -> str:
        return _ENCODER if not self.facts.causal else self.future

    def _floor(self, kind: str) -> np.ndarray:
        floor = part(self.total, kind, Sum)
        return np.where(floor.count > 0, floor.total / np.maximum(floor.count, 1), np.nan)

    def _output(self, name: str, unit: str, place: int, kind: str, why: str) -> Measurement:
        """One measurement over layer x sublayer; a sublayer that was not swept is missing."""
        floor = FLOOR * float(np.nan_to_num(self._floor(kind)[place]))
        note = f"sinks left out; effects below {floor:.2g} (3 x noise floor) shown as 0; n_items differs by sublayer"
        parts = [self._one(name, sublayer, unit) for sublayer in SUBLAYERS]
        found = {
            c: np.stack([getattr(p, c) for p in parts], -1) for c in ("value", "low", "high", "n", "n_items")
        }
        found = _quiet(found, np.asarray(floor))
        missing = why or "the layer has no such sublayer, or it was not skipped in this run"
        if not self.facts.causal and "loss" in name:
            missing = _ENCODER
        axes = {**layers(self.facts), "sublayer": np.asarray(SUBLAYERS)}
        gaps = missing if np.isnan(found["value"]).any() else ""
        return Measurement(name, axes, unit=unit, note=note, missing=gaps, **found)

    def _one(self, name: str, sublayer: str, unit: str) -> Measurement:
        found = self.total.get(of_sublayer(name, sublayer))
        if isinstance(found, PerDocument) and (self.facts.causal or "loss" not in name):
            return mean(found, name, layers(self.facts), unit, self.facts)
        return _nothing(name, layers(self.facts), unit)

    def _largest_shift(self, kind: str, why: str) -> Measurement:
        values = [
            self._largest(of_sublayer(f"{kind}shift_largest", s), (self.facts.n_layers,)) for s in SUBLAYERS
        ]
        value = np.stack(values, -1)
        axes = {**layers(self.facts), "sublayer": np.asarray(SUBLAYERS)}
        gaps = why or "the layer has no such sublayer, or it was not skipped in this run"
        note = "largest over positions and documents; it grows with their number"
        return Measurement(
            f"{kind}shift_largest", axes, value, "1", note=note, missing=gaps if np.isnan(value).any() else ""
        )

    def _largest(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        found = self.total.get(name)
        value = found.value if isinstance(found, Extremes) else np.full(shape, -np.inf)
        return np.where(np.isneginf(value), np.nan, value)

    def _pair_axes(self) -> dict[str, np.ndarray]:
        return {"layer": np.arange(self.facts.n_layers), "later_layer": np.arange(self.facts.n_layers)}

    def _earlier(self) -> np.ndarray:
        place = np.arange(self.facts.n_layers)
        return place[None, :] < place[:, None]

    def _map(
        self, name: str, top: str, bottom: str, kind: str, why: str, sublayer: str = "block"
    ) -> Measurement:
        axes = self._pair_axes()
        above, below = (self.total.get(of_sublayer(n, sublayer)) for n in (top, bottom))
        if not (isinstance(above, PerDocument) and isinstance(below, PerDocument)):
            return _nothing(
                name, axes, "1", why or "no layer has such a sublayer, or none was skipped in this run"
            )
        note = "ratio of sums over positions that are no sinks; the diagonal is the skipped layer itself"
        found = ratio(above, below, name, axes, "1", self.facts, note)
        floor = FLOOR * np.nan_to_num(self._floor(kind)[3:])
        cells = {c: np.asarray(getattr(found, c)) for c in ("value", "low", "high")}
        cells = _quiet(cells, np.broadcast_to(floor[None, :], found.value.shape))
        blank = {c: np.where(self._earlier(), np.nan, v) for c, v in cells.items()}
        return replace(found, missing=why or _EARLIER, **blank)

    def _parts(self, name: str, top: str, bottom: str, kind: str, why: str) -> Measurement:
        """The same map of attention and of MLPs."""
        chosen = [s for s in SUBLAYERS if s != "block"]
        maps = [self._map(name, top, bottom, kind, why, sublayer) for sublayer in chosen]
        axes = {**self._pair_axes(), "sublayer": np.asarray(chosen)}
        cells = {
            c: np.stack([getattr(m, c) for m in maps], -1) for c in ("value", "low", "high", "n", "n_items")
        }
        reason = why or f"{_EARLIER}; layers without the sublayer have none either"
        return Measurement(f"sublayer_{name}", axes, unit="1", note=maps[0].note, missing=reason, **cells)

    def _positions(self, kind: str, why: str) -> list[Measurement]:
        """The largest relative change and the 95 % quantile over positions, whole layers."""
        axes, shape = self._pair_axes(), (self.facts.n_layers, self.facts.n_layers)
        largest = self._largest(of_sublayer(f"{kind}largest", "block"), shape)
        rows = self.total.get(of_sublayer(f"{kind}rows", "block"))
        p95, items = np.full(shape, np.nan), 0
        if isinstance(rows, Rows) and len(rows.key):
            p95 = np.quantile(
                rows.columns["relative"].astype(np.float64), 0.95, axis=0, method="inverted_cdf"
            )
            items = len(rows.key)
        found = []
        for name, value, note in (
            (
                "effect_p95",
                p95,
                f"95 % quantile over a sample of {items} positions, |change| / max(|clean|, 1e-6)",
            ),
            ("effect_largest", largest, "largest over positions and documents; it grows with their number"),
        ):
            blank = np.where(self._earlier(), np.nan, value)
            found.append(Measurement(f"{kind}{name}", axes, blank, "1", note=note, missing=why or _EARLIER))
        return found

    def _profile(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Sums and counts whose ratio is the profile, [unit, layer] or [unit, layer, later layer]."""
        top, bottom = {
            "effect_on_later": ("changed", "clean"),
            "future_effect_on_later": ("future_changed", "future_clean"),
        }.get(name, (name, ""))
        found = self.total.get(of_sublayer(top, "block"))
        if not isinstance(found, PerDocument):
            return None
        below = part(self.total, of_sublayer(bottom, "block"), PerDocument).sums if bottom else found.counts
        return found.sums, below

    def _summary(
        self,
        name: str,
        way: Callable[[np.ndarray], np.ndarray],
        curves: dict[str, tuple[np.ndarray, np.ndarray] | None],
        axes: dict[str, np.ndarray],
        note: str,
    ) -> Measurement:
        cells = np.full((3, len(PROFILES)), np.nan)
        n = np.zeros(len(PROFILES))
        for k, (profile, curve) in enumerate(curves.items()):
            if curve is not None and (curve[1] > 0).any():
                cells[:, k] = self._interval(way, curve, self._profile_floor(profile))
                n[k] = (curve[1].reshape(len(curve[1]), -1) > 0).any(1).sum()
        missing = "too few layers, layers that were not skipped, no effect at all, or no future token"
        gaps = missing if np.isnan(cells[0]).any() else ""
        return Measurement(name, axes, cells[0], "1", cells[1], cells[2], n, n, note, gaps)

    def _interval(
        self, way: Callable[[np.ndarray], np.ndarray], curve: tuple[np.ndarray, np.ndarray], floor: np.ndarray
    ) -> Interval:
        def statistic(drawn: np.ndarray) -> np.ndarray:
            return way(_rows(drawn, floor))

        return bootstrap_curve(*curve, statistic, DRAWS, self.facts.seed).holding()

    def _contrast(self, curves: dict[str, tuple[np.ndarray, np.ndarray] | None]) -> Measurement:
        """Half ratio of the effect on future tokens minus that of the effect on all, drawn together."""
        name, note = (
            "half_ratio_difference",
            "half_ratio of future_shift minus that of shift, over the same documents",
        )
        now, later = curves["shift"], curves["future_shift"]
        cells, n = np.full(3, np.nan), 0
        if now is not None and later is not None and (later[1] > 0).any():
            sums, counts = (np.stack(pair, 1) for pair in zip(now, later, strict=True))
            floors = np.stack([self._profile_floor(p) for p in ("shift", "future_shift")])

            def statistic(drawn: np.ndarray) -> np.ndarray:
                found = half_ratio(np.where(drawn < floors, 0.0, drawn))
                return found[:, 1] - found[:, 0]

            cells = np.asarray(bootstrap_curve(sums, counts, statistic, DRAWS, self.facts.seed).holding())
            n = int((later[1] > 0).any(1).sum())
        gaps = self._why_no_future() or "too few layers, or layers that were not skipped"
        return Measurement(
            name, {}, np.asarray(cells[0]), "1", np.asarray(cells[1]), np.asarray(cells[2]), np.asarray(n),
            np.asarray(n), note,
            gaps if np.isnan(cells[0]) else "",
        )  # fmt: skip

    def _profile_floor(self, profile: str) -> np.ndarray:
        """Below it a cell of a profile is noise."""
        kind = "future_floor" if profile.startswith("future") else "floor"
        level = FLOOR * np.nan_to_num(self._floor(kind))
        return level[2:3] if profile.endswith("shift") else level[3:]


def _rows(drawn: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Profiles over layers, [draw layer]: of maps the mean over later layers; noise counts as 0."""
    quiet = np.where(drawn < floor, 0.0, drawn)
    return row_effect(quiet) if drawn.ndim == 3 else quiet


def _quiet(cells: dict[str, np.ndarray], floor: np.ndarray) -> dict[str, np.ndarray]:
    """Values below the floor as 0, with 0 inside their intervals."""
    quiet = np.abs(cells["value"]) < floor
    return {
        **cells,
        "value": np.where(quiet, 0.0, cells["value"]),
        "low": np.where(quiet, np.minimum(cells["low"], 0.0), cells["low"]),
        "high": np.where(quiet, np.maximum(cells["high"], 0.0), cells["high"]),
    }


def _nothing(name: str, axes: dict[str, np.ndarray], unit: str, missing: str = "not swept") -> Measurement:
    shape = tuple(len(labels) for labels in axes.values())
    empty, zero = np.full(shape, np.nan), np.zeros(shape)
    return Measurement(name, axes, empty, unit, empty, empty, zero, zero, missing=missing)
