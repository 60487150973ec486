"""Made-up results of the analyses of grammar and of what sinks hold, as pages and plots read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from depthscope.registry import ANALYSES
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings, Result, Text

LAYERS, HEADS, N = 6, 4, 40
HOSTILE = "</script><b>bold</b>"


def made(name: str, axes: Mapping[str, Any], value: Any, unit: str = "probability") -> Measurement:
    value = np.asarray(value, np.float64)
    labels = {axis: np.asarray(names) for axis, names in axes.items()}
    counts = {"n": np.full(value.shape, N), "n_items": np.full(value.shape, 9 * N)}
    missing = "made up without" if np.isnan(value).any() else ""
    low, high = np.asarray(value - 0.05), np.asarray(value + 0.05)
    return Measurement(name, labels, value, unit, low, high, missing=missing, **counts)


def result(analysis: str, found: Sequence[Measurement], **examples: Table) -> Result:
    text = Text.of(ANALYSES.docstring(analysis))
    return Result(analysis, {"k": 5}, Findings({m.name: m for m in found}, examples), text, {"documents": N})


def grammar_heads() -> Result:
    by = {"layer": np.arange(LAYERS), "head": np.arange(HEADS)}
    asked = {"relation": ["det", "nsubj"], "mode": ["to_head", "to_dependent"]}
    grid = np.linspace(0.1, 0.9, LAYERS * HEADS).reshape(LAYERS, HEADS)
    grid[2] = np.nan
    found = [
        made("relation_accuracy", asked, [[np.nan, 0.9], [0.4, 0.8]]),
        made("relation_offset_accuracy", asked, [[np.nan, 0.7], [0.5, 0.3]]),
        *(made(name, by, grid) for name in ("best_accuracy", "sink_share")),
        made("gain", by, grid - 0.4),
        made("tree_uas", by, grid / 2),
        made("tree_rival_uas", {"variant": ["offset +1", "next to next"]}, [0.4, 0.2]),
        made("tree_best_uas", {}, 0.3),
        made("tree_gain", {}, -0.1),
        made("uas", {}, 0.7),
        made("uas_offset", {}, 0.5),
        made("uas_gain", {}, 0.2),
    ]
    return result("grammar_heads", found)


def head_atlas() -> Result:
    by = {"layer": np.arange(LAYERS), "head": np.arange(HEADS)}
    grid = np.linspace(0, 1, LAYERS * HEADS).reshape(LAYERS, HEADS)
    roles = ["previous", "induction", "retrieval"]
    role = np.stack([(grid < 0.1), (grid > 0.8), np.full(grid.shape, np.nan)]).astype(float)
    found = [
        made("previous", by, 1 - grid),
        made("induction", by, grid),
        made("retrieval", by, np.full(grid.shape, np.nan)),
        made("role", {"role": roles, **by}, role, "1"),
        made("role_share", {"role": roles}, [0.1, 0.2, np.nan]),
        made("role_depth", {"role": roles}, [0.0, 0.9, np.nan], "1"),
    ]
    layers, heads = np.meshgrid(*by.values(), indexing="ij")
    label = np.where(grid < 0.1, "previous", np.where(grid > 0.8, "induction", "")).ravel()
    table = {"layer": layers.ravel(), "head": heads.ravel(), "labels": label, "previous": 1 - grid.ravel()}
    table |= {
        "kv_head": heads.ravel() // 2,
        "induction": grid.ravel(),
        "retrieval": np.full(grid.size, np.nan),
    }
    arcs = {
        "layer": np.zeros(2, int), "head": np.array([0, 1]), "weight": np.array([0.5, 0.4]),
        "word": np.array(["dog", HOSTILE]), "looks_at": np.array(["the", "small"]), "sentence": np.array(["a", "b"]),
    }  # fmt: skip
    return result("head_atlas", found, heads=Table(table), arcs=Table(arcs))


def sink_content() -> Result:
    by = {"state": np.arange(7), "sinks": ["first", "sink", "normal"]}
    value = np.linspace(0.1, 0.9, 21).reshape(7, 3)
    return result(
        "sink_content", [made("label_accuracy", by, value), made("own_cosine", by, value[::-1], "1")]
    )


def minimal_pairs() -> Result:
    tasks = {"task": ["attractor", "no attractor"]}
    found = [made("accuracy", {}, 0.8), made("paradigm_accuracy", tasks, [0.4, 0.9])]
    return result("minimal_pairs", found)


def grammar_emergence() -> Result:
    from depthscope.fits import grammar_emergence as study

    steps = {"step": [0, 1, 4, 16, 64]}
    rise = np.array([0.1, 0.1, 0.4, 0.8, 0.9])
    found = [made(name, steps, rise) for name in study.CURVES[1:]]
    found += [
        made("loss", steps, 5 - rise, "nats"),
        made("onset", {"score": study.CURVES}, np.arange(5.0), "1"),
    ]
    text = Text.of(study.__doc__ or "")
    return Result("grammar_emergence", {}, Findings({m.name: m for m in found}), text, {})


def results() -> dict[str, Result]:
    return {
        one.analysis: one
        for one in (
            make() for make in (grammar_heads, head_atlas, sink_content, minimal_pairs, grammar_emergence)
        )
    }
