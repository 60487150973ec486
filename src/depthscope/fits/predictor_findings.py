"""From sums to measurements: R2 of predictors by four definitions, beside closed-form guesses, and learning curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from depthscope.fits.predictor_baselines import NAMES
from depthscope.fits.predictor_judge import Parts
from depthscope.fits.predictor_scores import DRAWS, TARGETS, Scores
from depthscope.fits.predictor_training import Point, number
from depthscope.measures.predictability import DEFINITIONS
from depthscope.measures.statistics import bootstrap_ratio
from depthscope.results.measurement import Measurement

GUESSES = ("predictor", *NAMES)
CONVENTION = "layer k is the output of block k, state k + 1; targets are positions 1 to T - 1"


@dataclass(frozen=True)
class Judged:
    """The scores of each state, and the points of the learning curves."""

    scores: Mapping[int, Scores]
    nats: Mapping[int, torch.Tensor]
    curve: Sequence[Point]
    parts: Parts
    seed: int

    @cached_property
    def _axis(self) -> dict[str, np.ndarray]:
        return {"layer": np.array([s - 1 for s in self.scores])}

    @cached_property
    def _n(self) -> dict[str, np.ndarray]:
        items = [int(each.by_position("predictor", "all").items.sum()) for each in self.scores.values()]
        return {"n": np.full(len(items), len(set(self.parts.units))), "n_items": np.array(items)}

    @property
    def _note(self) -> str:
        return f"{CONVENTION}; judged on {self.parts.source}, n counts {self.parts.kind}"

    def card(self) -> dict[str, Any]:
        """R2 ("dim", all targets) of every guess, by layer, for the card."""
        return {
            str(s - 1): {guess: number(each.r2(guess, "all", "dim")) for guess in GUESSES}
            for s, each in self.scores.items()
        }

    def measurements(self) -> Iterator[Measurement]:
        """All of them."""
        yield self._r2()
        yield self._restricted()
        yield from self._beside()
        yield self._mse()
        yield from self._curves()
        yield from self._novelty()

    def _r2(self) -> Measurement:
        shape = (len(self.scores), len(DEFINITIONS))
        value, low, high = (np.full(shape, np.nan) for _ in range(3))
        for k, each in enumerate(self.scores.values()):
            for j, definition in enumerate(DEFINITIONS):
                value[k, j] = each.r2("predictor", "all", definition)
                if definition != "position":
                    low[k, j], high[k, j] = _ends(each.draws("predictor", definition, self.seed))
        axes = {**self._axis, "definition": np.array(DEFINITIONS)}
        note = f'all targets; {self._note}; "position" without an interval'
        return self._made("r2", axes, value, low, high, note)

    def _restricted(self) -> Measurement:
        value = np.array([
            [[each.r2("predictor", t, d) for d in DEFINITIONS] for t in TARGETS] for each in self.scores.values()
        ])  # fmt: skip
        axes = {**self._axis, "target": np.array(TARGETS), "definition": np.array(DEFINITIONS)}
        note = "no_sinks: targets no longer than 20 medians; late: from position 32 on; trimmed: without the 3 widest "
        return self._made("restricted_r2", axes, value, None, None, f"{note}dimensions; {self._note}")

    def _beside(self) -> Iterator[Measurement]:
        """R2 of every guess, and how much more the predictor has, over the same draws of units."""
        draws = np.array(
            [[each.draws(g, "dim", self.seed) for g in GUESSES] for each in self.scores.values()]
        )
        value = np.array([[each.r2(g, "all", "dim") for g in GUESSES] for each in self.scores.values()])
        axes = {**self._axis, "variant": np.array(GUESSES)}
        note = f'definition "dim", all targets; {self._note}'
        yield self._made("guess_r2", axes, value, *_ends(draws), note)
        rest = {**self._axis, "variant": np.array(NAMES)}
        gain, drawn = value[:, :1] - value[:, 1:], draws[:, :1] - draws[:, 1:]
        yield self._made(
            "gain", rest, gain, *_ends(drawn), f"R2 of the predictor minus that of each guess; {note}"
        )

    def _mse(self) -> Measurement:
        found = [[self._mse_of(each, guess) for guess in GUESSES] for each in self.scores.values()]
        value, low, high = np.moveaxis(np.array(found, dtype=np.float64), -1, 0)
        axes = {**self._axis, "variant": np.array(GUESSES)}
        return self._made(
            "mse", axes, value, low, high, f"a dimension, squared units of the states; {self._note}"
        )

    def _mse_of(self, scores: Scores, guess: str) -> tuple[float, float, float]:
        sums = scores.by_unit(guess)
        counts = sums.items.cpu().numpy() * sums.errors.shape[1]
        value, low, high = bootstrap_ratio(sums.errors.sum(1).cpu().numpy(), counts, DRAWS, self.seed)
        return float(value), float(low), float(high)

    def _curves(self) -> Iterator[Measurement]:
        steps = np.array([point["step"] for point in self.curve])
        axes = {**self._axis, "step": steps}
        found = [[point["states"][str(s)] for point in self.curve] for s in self.scores]
        mse = np.array([[[p["train"], p["eval"]] for p in row] for row in found], dtype=np.float64)
        note = "train: mean over the steps since the point before; eval: a part of the judged windows"
        split = {**axes, "variant": np.array(["train", "eval"])}
        yield Measurement(
            "curve_mse", split, mse, "1", note=note, missing="nothing was trained before step 0"
        )
        r2 = np.array([[[p["all"][d] for d in DEFINITIONS] for p in row] for row in found], dtype=np.float64)
        each = {**axes, "definition": np.array(DEFINITIONS)}
        yield Measurement("curve_r2", each, r2, "1", note=note, missing=_why(r2))
        kept = ("all", "late", "trimmed")
        dim = np.array([[[p[t]["dim"] for t in kept] for p in row] for row in found], dtype=np.float64)
        some = {**axes, "target": np.array(kept)}
        yield Measurement("curve_restricted_r2", some, dim, "1", note=f'"dim"; {note}', missing=_why(dim))
        rates = np.array([point["lr"] for point in self.curve])
        yield Measurement("rate", {"step": steps}, rates, "1", note="the rate of the step before")

    def _novelty(self) -> Iterator[Measurement]:
        """Nats a token, where predictors have a variance."""
        if not self.nats:
            return
        sums = {s: each.cpu().numpy() for s, each in self.nats.items()}
        for name, column, sign in (
            ("nats", (1,), 1.0),
            ("marginal_nats", (2,), 1.0),
            ("known_nats", (2, 1), 1.0),
        ):
            found = []
            for each in sums.values():
                top = each[:, column[0]] - (each[:, column[1]] if len(column) > 1 else 0.0)
                found.append(bootstrap_ratio(sign * top, each[:, 0], DRAWS, self.seed))
            value, low, high = (
                np.array([float(getattr(f, part)) for f in found]) for part in ("value", "low", "high")
            )
            yield Measurement(
                name,
                self._axis,
                value,
                "nats",
                low,
                high,
                self._n["n"],
                self._n["n_items"],
                _NATS[name] + self._note,
            )

    def _made(
        self,
        name: str,
        axes: Mapping[str, np.ndarray],
        value: np.ndarray,
        low: np.ndarray | None,
        high: np.ndarray | None,
        note: str,
    ) -> Measurement:
        spread = (slice(None), *(None,) * (value.ndim - 1))
        n = {part: np.broadcast_to(counts[spread], value.shape) for part, counts in self._n.items()}
        return Measurement(name, axes, value, "1", low, high, **n, note=note, missing=_why(value))


_NATS = {
    "nats": "-log density of a state given those before it, a token, in raw units; ",
    "marginal_nats": "the same under the Gaussian of the training text; ",
    "known_nats": "marginal_nats - nats: what the past tells of a state; ",
}


def _ends(draws: np.ndarray) -> tuple[Any, Any]:
    """95 % of the draws, over the last axis."""
    low, high = np.nanquantile(draws, (0.025, 0.975), axis=-1)
    return low, high


def _why(value: np.ndarray) -> str:
    return "no target is left, or nothing varies" if np.isnan(value).any() else ""
