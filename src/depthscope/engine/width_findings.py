"""What fitted directions say: ranks, dimensions and new directions, with jackknife intervals over groups of units."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.engine.directions import SPECTRUM
from depthscope.engine.jackknife import jackknife
from depthscope.engine.needs import Facts
from depthscope.results.measurement import Measurement


def described(fit: Mapping[str, np.ndarray], places: tuple[int, ...], facts: Facts) -> list[Measurement]:
    """Ranks, intrinsic dimension and the share of new directions, each with a jackknife interval over groups."""
    tokens, units, _ = (int(c) for c in fit["counts"][0])
    axes, d = {"state": np.asarray(places)}, facts.d_model
    layer = {"layer": np.asarray([s for s in places if s < facts.n_layers])}
    note = f"{tokens:,} positions; sinks left out, rows of unit root mean square"
    by = {name: fit["ranks"][0][..., k] for k, name in enumerate(SPECTRUM)}
    by["intrinsic_dimension"] = fit["neighbours"][0]
    found = [_jackknifed(name, axes, values, (units, tokens), note) for name, values in by.items()]
    fresh = fit["fresh"][0][:, : len(layer["layer"])]
    chance = 1 - by["k90"][0, : len(layer["layer"])] / d
    limit = np.asarray(d * tokens / (d + tokens))
    return [
        *found,
        _jackknifed("new_direction_share", layer, fresh, (units, tokens), note),
        Measurement("new_direction_chance", layer, chance, "1", note="1 - k90 / d", missing=_gone(chance)),
        Measurement(
            "isotropic_limit", {}, limit, "1", note="d N / (d + N): participation ratio of isotropic data"
        ),
    ]


def _jackknifed(
    name: str, axes: Mapping[str, np.ndarray], values: np.ndarray, counts: tuple[int, int], note: str
) -> Measurement:
    """Value of all groups, with an interval from leaving each group out."""
    value = values[0]
    low, high = jackknife(value, list(values[1:]))
    n, items = (np.where(np.isfinite(value), c, 0) for c in counts)
    return Measurement(name, axes, value, "1", low, high, n, items, note, _gone(value))


def _gone(value: np.ndarray) -> str:
    return "too few positions, or states that are all alike" if np.isnan(value).any() else ""


def shares(found: Mapping[str, Measurement], d: int) -> Measurement:
    """Every width over d, side by side."""
    names = (*SPECTRUM, "intrinsic_dimension", "causal_width")
    value, low, high = (
        np.stack([found[name].columns()[c] for name in names], -1) / d for c in ("value", "low", "high")
    )
    axes = {"state": found["k90"].axes["state"], "mode": np.asarray(names)}
    return Measurement("width_share", axes, value, "1", low, high, missing=_gone(value))


def floor(kl: Measurement) -> Measurement:
    """Largest output KL of a state that kept all its directions."""
    return Measurement(
        "noise_floor", {}, np.asarray(kl.value[:, -1].max()), "nats", note="all directions kept"
    )


def notes(fit: Mapping[str, np.ndarray], d: int) -> tuple[str, ...]:
    """What limits the fit: too few positions, or the very windows that are replayed."""
    tokens, _, apart = (int(c) for c in fit["counts"][0])
    few = f"Directions were fitted on {tokens:,} positions, fewer than ten times the width {d}: ranks are understated."
    same = "The windows that are replayed are also those that the directions were fitted on."
    return (*((few,) if tokens < 10 * d else ()), *(() if apart else (same,)))
