"""From rows of sequences to measurements: stripes of heads, accuracies with and without them, probes of the step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from depthscope.engine.cells import Items
from depthscope.engine.measured import ratio
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument
from depthscope.measures.token_probes import ridge_predictions
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings

Columns = Mapping[str, np.ndarray]
HALF = 0.5
FITTED = 3
"""Steps that a probe of their numbers needs."""
NO_HEADS = "the layer has no attention heads"


def found(c: Columns, facts: Facts, kinds: tuple[str, ...], shifts: tuple[int, ...]) -> Findings:
    """Everything but the words.

    Args:
        c: one row a sequence: weights "input" and "end" [layer head t], "right" [t], "without" [layer head + mlp kind],
            "shifted" [layer head k], "stream" [t state d_model], "length". kinds, shifts: labels of the last axes.
    """
    items = Items(c["unit"], facts, 1, "sequences")
    heads = {"layer": np.arange(facts.n_layers), "head": np.arange(c["input"].shape[2])}
    made = [
        *_stripes(c, items, heads),
        *_accuracies(c, items),
        *_without(c, items, heads, kinds),
        _shifted(c, items, {**heads, "offset": np.array(shifts)}),
        _probe(c, facts),
    ]  # fmt: skip
    return Findings({m.name: m for m in made})


def _stripes(c: Columns, items: Items, heads: Mapping[str, np.ndarray]) -> list[Measurement]:
    made: list[Measurement] = []
    for name, said in (
        ("input", "rows that predict s_t, on x_t"),
        ("end", "rows on a step, on the end word"),
    ):
        weight = c[name]
        over = np.where(np.isnan(weight), np.nan, weight > HALF)
        made += [
            items.mean(_mean(over), f"{name}_share", heads, "probability", f"{said}: weight above one half"),
            items.mean(_mean(weight), f"{name}_weight", heads, "probability", f"{said}: mean weight"),
            _same(weight, c["length"], f"{name}_same", heads, said),
        ]
    return [replace(m, missing=NO_HEADS) if m.missing else m for m in made]


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the last axis, missing ones left out; NaN where all are missing."""
    there = np.isfinite(values)
    total, count = np.where(there, values, 0.0).sum(-1), there.sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _same(
    weight: np.ndarray, length: np.ndarray, name: str, heads: Mapping[str, np.ndarray], said: str
) -> Measurement:
    """1 - mean over places and lengths of the standard deviation over sequences."""
    lengths = np.unique(length)
    spread = np.concatenate([weight[length == n].std(0)[..., :n] for n in lengths], axis=-1)
    value = 1 - _mean(spread)
    missing = "" if np.isfinite(value).all() else NO_HEADS
    count = np.full(value.shape, len(length))
    note = f"{said}: 1 minus the standard deviation over sequences of one length"
    return Measurement(name, heads, value, "1", n=count, n_items=count, note=note, missing=missing)


def _accuracies(c: Columns, items: Items) -> list[Measurement]:
    lengths = np.unique(c["length"])
    own = np.where(c["length"][:, None] == lengths, 1.0, np.nan)
    each, whole = _mean(c["right"]), np.where(np.isnan(c["right"]), 1.0, c["right"]).all(1).astype(float)
    by, note = {"level": lengths}, "level: inputs of the sequence; teacher-forced"
    return [
        items.mean(whole[:, None] * own, "accuracy", by, "probability", f"whole sequences; {note}"),
        items.mean(each[:, None] * own, "step_accuracy", by, "probability", f"single steps; {note}"),
    ]


def _without(
    c: Columns, items: Items, heads: Mapping[str, np.ndarray], kinds: tuple[str, ...]
) -> list[Measurement]:
    gone = c["without"]
    few = "heads are ablated one by one only where there are few of them (parameter `few`)"
    axes = {**heads, "variant": np.array(kinds)}
    found = [
        items.mean(gone[:, :, :-1], "ablated_accuracy", axes, "probability", "whole sequences, one head ablated"),
        items.mean(
            gone[:, :, -1, 0], "mlp_ablated_accuracy", {"layer": heads["layer"]}, "probability", "one MLP silent"
        ),
    ]  # fmt: skip
    return [replace(m, missing=few) if m.missing and np.isnan(m.value).all() else m for m in found]


def _shifted(c: Columns, items: Items, axes: Mapping[str, np.ndarray]) -> Measurement:
    note = "on the input k places before, the end word moved k places on"
    found = items.mean(c["shifted"], "shifted_weight", axes, "probability", note)
    fixed = "the end word is moved only where a table of positions is learned and long enough"
    return replace(found, missing=fixed) if found.missing and np.isnan(found.value).all() else found


def _probe(c: Columns, facts: Facts) -> Measurement:
    """How well t is read from each state on the steps: fitted on every other sequence, judged on the rest."""
    stream = c["stream"]
    states = np.arange(stream.shape[2])
    fitted = np.arange(len(stream)) % 2 == 0
    rows = np.isfinite(stream[:, :, 0, 0])
    step = np.broadcast_to(np.arange(1, stream.shape[1] + 1), rows.shape).astype(float)
    note = "share of the variance of the step's number, read linearly on other sequences"
    if rows[fitted].sum() < FITTED:
        nothing = np.full(len(states), np.nan)
        few = f"insufficient: {int(rows[fitted].sum())} steps to fit on where {FITTED} are needed"
        return Measurement("position_r2", {"state": states}, nothing, "1", note=note, missing=few)
    wrong, spread = np.zeros((len(stream), len(states))), np.zeros((len(stream), len(states)))
    middle = step[fitted][rows[fitted]].mean()
    for s in states:
        read = stream[fitted][rows[fitted]][:, s].astype(float)
        said = np.zeros(rows.shape)
        said[rows] = ridge_predictions(read, step[fitted][rows[fitted]][:, None], stream[rows][:, s])[:, 0]
        wrong[:, s] = np.where(rows, (said - step) ** 2, 0).sum(1)
        spread[:, s] = np.where(rows, (step - middle) ** 2, 0).sum(1)
    units = c["unit"][~fitted].tolist()
    judged = [PerDocument.of(units, part[~fitted]) for part in (wrong, spread)]
    lost = ratio(judged[0], judged[1], "position_r2", {"state": states}, "1", facts, note)
    assert lost.low is not None
    assert lost.high is not None
    return replace(lost, value=1 - lost.value, low=1 - lost.high, high=1 - lost.low)
