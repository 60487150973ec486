"""From trained gates and from groups closed one by one to measurements, and the table that an atlas joins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from depthscope.engine.cells import Items
from depthscope.engine.needs import Facts
from depthscope.results.measurement import Measurement

BETWEEN = (0.2, 0.8)
WINDOW = "its window is no longer than what streaming keeps, or the layer has no attention heads"


def each_head(facts: Facts, groups: np.ndarray) -> np.ndarray:
    """Numbers [.., kv_head] given to every head that reads that head's keys, [.., head]."""
    return np.repeat(groups, facts.n_heads // groups.shape[-1], -1)


def _axes(facts: Facts) -> dict[str, np.ndarray]:
    return {"layer": np.arange(facts.n_layers), "head": np.arange(facts.n_heads)}


def sensitivity_of(facts: Facts, found: np.ndarray) -> Measurement:
    """Squared differences [layer, kv_head, text] as a mean over texts with its interval, by head."""
    each = each_head(facts, np.moveaxis(found, -1, 0))
    items = Items(np.array([f"text {k}" for k in range(len(each))]), facts, noun="texts")
    note = "squared difference of last states, one key-value group streaming; of the head's group"
    made = items.mean(each, "sensitivity", _axes(facts), "1", note)
    return replace(made, missing=WINDOW if np.isnan(each).any() else "")


def gates_of(
    facts: Facts, gates: np.ndarray, losses: np.ndarray, sensitivity: np.ndarray
) -> list[Measurement]:
    """Gates by head, shares of them, the loss that was trained, and how gates and sensitivity agree.

    Args:
        gates, sensitivity: [layer, kv_head], NaN where there is no gate. losses: of each step.
    """
    known = gates[np.isfinite(gates)]
    low, high = BETWEEN
    heads = Items(np.array([f"head {k}" for k in range(len(known))]), facts, noun="heads")
    every = np.unique(np.linspace(0, len(losses) - 1, min(20, len(losses))).astype(int))
    each = each_head(facts, gates)
    note = "0 streams, 1 keeps all; of the head's key-value group"
    missing = WINDOW if np.isnan(each).any() else ""
    full, open_ = "key-value heads whose gate is above one half", f"gates from {low:g} to {high:g}"
    return [
        Measurement("gate", _axes(facts), each, "1", note=note, missing=missing),
        heads.mean((known > 0.5).astype(float), "share_full", {}, "probability", full),
        heads.mean(((known >= low) & (known <= high)).astype(float), "share_between", {}, "probability", open_),
        Measurement("difference", {"step": every}, losses[every], "1", note="mean squared difference of last states"),
        _agreement(gates, sensitivity),
    ]  # fmt: skip


def table_of(gates: np.ndarray) -> str:
    """CSV of layer, head and gate [layer, head]; empty where there is none."""
    lines = [
        f"{layer},{head},{'' if np.isnan(x) else f'{x:.6g}'}" for (layer, head), x in np.ndenumerate(gates)
    ]
    return "\n".join(["layer,head,gate", *lines, ""])


def _agreement(gates: np.ndarray, sensitivity: np.ndarray) -> Measurement:
    from scipy.stats import spearmanr

    known = np.isfinite(gates) & np.isfinite(sensitivity)
    note = "rank correlation of gates and sensitivity over key-value heads"
    if known.sum() < 3 or np.ptp(gates[known]) == 0 or np.ptp(sensitivity[known]) == 0:
        return Measurement(
            "agreement", {}, np.asarray(np.nan), "1", note=note, missing="fewer than 3 different heads"
        )
    rho = np.asarray(spearmanr(gates[known], sensitivity[known])[0])
    return Measurement("agreement", {}, rho, "1", n_items=np.asarray(int(known.sum())), note=note)
