"""From top inputs and decoded values to measurements: what memories wait for and what they say."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.engine.cells import Items
from depthscope.engine.measured import mean
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument, Top
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings

SIGNS = ("positive", "negative")
"""Of a hidden number: each neuron is two memories."""
SHOWN = 100
"""Memories in the table, those with the likeliest words."""
TOKEN, NEXT = 2, 3
"""Places of the context's last token and of the one that follows, in `Top.place`."""


def found(contexts: Top, said: Mapping[str, np.ndarray], active: PerDocument, facts: Facts) -> Findings:
    """Everything but the words.

    Args:
        contexts: [layer neuron sign context]. said: a row a neuron, in the same order: "layer", "neuron", and of both
            signs "first" (likeliest id), "probability", "words".
    """
    shape = contexts.value.shape[:3]
    layers = said["layer"].reshape(shape[:2])[:, 0]
    first, likely = (said[name].reshape(shape) for name in ("first", "probability"))
    # items of one layer are its neurons: values go as [neuron, layer, sign]
    items = Items(np.array([str(k) for k in range(shape[1])]), facts, 1, "neurons")
    axes = {"layer": layers, "mode": np.array(SIGNS)}
    agrees = (contexts.place[..., 0, NEXT] == first).astype(float).swapaxes(0, 1)
    note = "the likeliest token of the value is the one that follows the context of the largest hidden number"
    made = [
        items.mean(agrees, "agreement", axes, "probability", note),
        _chance(contexts.place[..., 0, NEXT], first, axes),
        items.mean(likely.swapaxes(0, 1), "value_probability", axes, "probability", "of the likeliest token"),
        items.mean(_entropy(contexts).swapaxes(0, 1), "trigger_entropy", axes, "nats", "of the contexts' last token"),
        mean(active, "active_share", {"layer": layers}, "probability", facts, "above a tenth of the largest, in size"),
    ]  # fmt: skip
    return Findings({m.name: m for m in made}, examples={"memories": _table(contexts, said)})


def _chance(after: np.ndarray, first: np.ndarray, axes: Mapping[str, np.ndarray]) -> Measurement:
    """Agreement of random pairs: over all pairs of a context and a value of one layer and sign."""
    value = np.zeros((len(after), len(SIGNS)))
    for layer, sign in np.ndindex(*value.shape):
        equal = after[layer, :, sign, None] == first[layer, None, :, sign]
        value[layer, sign] = equal.mean()
    count = np.full(value.shape, after.shape[1])
    note = "the same over all pairs of a context and a value of one layer"
    return Measurement("agreement_chance", axes, value, "probability", n=count, n_items=count, note=note)


def _entropy(contexts: Top) -> np.ndarray:
    """Entropy in nats of the last token over the contexts of each memory, [layer neuron sign]."""
    tokens = contexts.place[..., TOKEN]
    same = (tokens[..., :, None] == tokens[..., None, :]) & np.isfinite(contexts.value)[..., None, :]
    kept = np.isfinite(contexts.value)
    count = kept.sum(-1, keepdims=True)
    share = same.sum(-1) / np.maximum(count, 1)
    # each context carries 1 / count of the weight, and says the surprise of its own token
    return -(np.where(kept, np.log(np.where(share > 0, share, 1.0)), 0.0) / np.maximum(count, 1)).sum(-1)


def _table(contexts: Top, said: Mapping[str, np.ndarray]) -> Table:
    shape = contexts.value.shape[:3]
    flat = said["probability"].ravel()
    order = np.argsort(-flat, kind="stable")[:SHOWN]
    neuron, sign = order // len(SIGNS), order % len(SIGNS)
    text = contexts.text.reshape(-1, len(SIGNS), contexts.text.shape[-1])
    value = contexts.value.reshape(-1, len(SIGNS), contexts.value.shape[-1])
    shown = [" // ".join(t for t in text[n, s, :3] if t) for n, s in zip(neuron, sign, strict=True)]
    assert shape[0] * shape[1] == len(said["layer"])
    return Table(
        {
            "layer": said["layer"][neuron],
            "neuron": said["neuron"][neuron],
            "sign": np.array(SIGNS)[sign],
            "probability": flat[order],
            "says": said["words"].reshape(-1, len(SIGNS))[neuron, sign],
            "largest": value[neuron, sign, 0],
            "contexts": np.array(shown, dtype=str),
        },
        "a row is a memory: the contexts of its largest values, and what its value says; likeliest words first",
    )
