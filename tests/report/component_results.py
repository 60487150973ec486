"""Made-up results of predictability and component probes, as pages and plots read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from depthscope.registry import ANALYSES
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings, Result, Text

LAYERS, N = [0, 7, 15, 22, 29], 40
INPUTS = ("h", "expected", "novel", "both", "shuffled", "leaky_expected", "leaky_novel")
HOSTILE = "</script><b>bold</b>"


def made(
    name: str, axes: Mapping[str, Any], value: Any, unit: str = "1", spread: float = 0.05
) -> Measurement:
    value = np.asarray(value, np.float64)
    labels = {axis: np.asarray(names) for axis, names in axes.items()}
    counts = {"n": np.full(value.shape, N), "n_items": np.full(value.shape, 9 * N)}
    missing = "made up without" if np.isnan(value).any() else ""
    low, high = np.asarray(value - spread), np.asarray(value + spread)
    return Measurement(name, labels, value, unit, low, high, missing=missing, **counts)


def result(analysis: str, found: Sequence[Measurement], **examples: Table) -> Result:
    text = Text.of(ANALYSES.docstring(analysis))
    return Result(analysis, {"k": 5}, Findings({m.name: m for m in found}, examples), text, {"documents": N})


def predictability(correlation: float = 0.3, spread: float = 0.05) -> Result:
    at, place = {"layer": LAYERS}, {"layer": LAYERS, "position": np.arange(1, 300)}
    r2 = np.linspace(0.1, 0.4, 5)[:, None] + np.array([0, 0.5, -0.01, -0.02, 0.01, 0, -0.03, -0.05])
    curve = 1 - np.linspace(0, 0.1, 5)[:, None] + 1 / np.arange(1, 300)
    modes = ("plain", "given_norm", "given_frequency", "given_both")
    found = [
        made(
            "r2",
            at
            | {
                "definition": (
                    "dim",
                    "element",
                    "uniform",
                    "position",
                    "late",
                    "plain",
                    "fresh",
                    "without_top",
                )
            },
            r2,
        ),
        made("baseline_r2", at | {"variant": ("copy", "position_mean")}, np.full((5, 2), -0.4)),
        made("mse", at, np.arange(1, 6)),
        made("relative_novelty", place, curve),
        made("surprisal_correlation", place, curve - 0.7),
        made("correlation", at | {"mode": modes}, np.full((5, 4), correlation), spread=spread),
        made("novelty", at, np.full(5, np.nan), "nats"),
    ]
    return result("predictability", found)


def component_probes(
    domain: Sequence[float] = (0.1, 0.2, 0.3, 0.3, 0.2), token: Sequence[float] = (-0.6, -0.5, -0.5, -0.4, -0.4),
    spread: float = 0.05,
) -> Result:  # fmt: skip
    tasks, scores = ("domain", "token_type"), ("macro_f1", "micro_f1")
    by = {"task": tasks, "score": scores}
    f1 = np.linspace(0.1, 0.9, 2 * 2 * len(INPUTS) * 5).reshape(2, 2, len(INPUTS), 5)
    causal = np.stack([np.asarray(domain), np.asarray(token)])
    difference = np.stack([causal, -causal], 1)[:, None].repeat(2, 1)
    found = [
        made("f1", by | {"feature": INPUTS, "layer": LAYERS}, f1),
        made("difference", by | {"variant": ("causal", "leaky"), "layer": LAYERS}, difference, spread=spread),
        made("ordering", by | {"variant": ("causal", "leaky")}, difference.mean(-1), spread=spread / 2),
        made("majority", by, np.full((2, 2), 0.1)),
    ]
    table = Table(
        {"id": np.array([1, 2]), "token": np.array(["(", HOSTILE]), "class": np.array(["other", "other"])}
    )
    return result("component_probes", found, token_classes=table)


def results() -> dict[str, Result]:
    return {one.analysis: one for one in (predictability(), component_probes())}
