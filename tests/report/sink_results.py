"""Made-up results of sinks, massive entries and streaming caches, as pages, plots and verdicts read them."""

from __future__ import annotations

import numpy as np
from grammar_results import HEADS, LAYERS, made, result

from depthscope.results.result import Result

SOURCES, MODES, LEVELS = ("natural", "random", "repeated"), ("start", "none"), (0.3, 0.8)
BY = {"source": SOURCES, "mode": MODES, "level": LEVELS}


def attention_sinks(share: float = 0.8) -> Result:
    layers = np.linspace(0.2, 1, LAYERS) * share
    shares = np.zeros((3, 2, 2, 6))
    shares[..., 0] = share
    first = np.full((LAYERS, HEADS), share)
    first[3] = np.nan
    found = [
        made("sink_share", {**BY, "position": np.arange(6)}, shares),
        made("sink_by_layer", {**BY, "layer": np.arange(LAYERS)}, np.broadcast_to(layers, (3, 2, 2, LAYERS))),
        made("first_share", {"layer": np.arange(LAYERS), "head": np.arange(HEADS)}, first),
    ]
    return result("attention_sinks", found)


def massive_activations(zero: float = 4.0, mean: float = 0.01) -> Result:
    states = np.arange(LAYERS + 1)
    found = [
        made("top_magnitude", {"state": states}, np.where(states > 2, 3000.0, 4.0)),
        made("median_magnitude", {"state": states}, 0.5 + 0.1 * states),
        made(
            "loss_increase", {"variant": ("clean", "zero", "mean", "random")}, np.array([0, zero, mean, 0.0])
        ),
    ]
    return result("massive_activations", found)


def streaming_cache(none: float = 0.8, some: float = 0.03) -> Result:
    excess = np.array([[[none, some, some]], [[none, some, some]], [[np.nan, np.nan, some]]])
    axes = {"variant": ("mask", "rolling", "line_feeds"), "kept": (256,), "sinks": (0, 1, 4)}
    return result("streaming_cache", [made("excess", axes, excess)])


def results() -> dict[str, Result]:
    """All of them by name."""
    return {one.analysis: one for one in (attention_sinks(), massive_activations(), streaming_cache())}
