"""Made-up results of component steering and of a predictor sweep, as pages and plots read them."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings, Result, Text

LAYERS, N = (0, 5, 11), 24
FITS = Path(__file__).parents[2] / "src" / "depthscope" / "fits"
VARIANTS = ("predictable", "random", "shuffled", "raw", "novel")
SPACES = ("predictable", "novel", "raw", "random")
WRITTEN = ("plain", "nothing", "other", "swap_predictable", "swap_random", "swap_novel", "vector_novel")
DESIGNS = ("attention 1x8x32, all, rope", "gru 1x128", "linear, 4", "again, other seed")
EVIL = "</script><img src=x onerror=alert(1)>\u202eevil\x1b[31m\n<!--"


def made(
    name: str, axes: Mapping[str, Any], value: Any, unit: str = "1", wide: float = 0.02, n: int = N
) -> Measurement:
    value = np.asarray(value, np.float64)
    labels = {axis: np.asarray(names) for axis, names in axes.items()}
    counts = {"n": np.full(value.shape, n), "n_items": np.full(value.shape, 90 * n)}
    return Measurement(
        name, labels, value, unit, np.asarray(value - wide), np.asarray(value + wide), **counts
    )


def result(analysis: str, found: Sequence[Measurement], **examples: Table) -> Result:
    text = Text.of(ast.get_docstring(ast.parse((FITS / f"{analysis}.py").read_text(encoding="utf-8"))) or "")
    return Result(
        analysis, {"pairs": N}, Findings({m.name: m for m in found}, examples), text, {"documents": N}
    )


def written_texts() -> Table:
    """Two prompts; the text under the swap is hostile."""
    rows = [(pair, v) for pair in (0, 1) for v in WRITTEN]
    text = [EVIL if v == "swap_predictable" else f"and {v} went on" for _, v in rows]
    columns: dict[str, Any] = {
        "pair": [pair for pair, _ in rows], "prompt": ["The <b>tide</b> rose"] * len(rows),
        "own": ["fiction"] * len(rows), "other": ["law & order"] * len(rows), "variant": [v for _, v in rows],
        "text": text,
    }  # fmt: skip
    scores = {name: np.linspace(0, 1, len(rows)) for name in ("towards_other", "shared_own")}
    scores["shared_own"][0] = np.nan
    return Table({name: np.asarray(values) for name, values in (columns | scores).items()})


def component_steering(
    over: float = 0.2, kept: float = 0.3, turned: float = 0.15, random: float = 0.01, n: int = N
) -> Result:
    """Swaps that bring the other text's words by `over` more than random steps, and turn written text by `turned`."""
    by = {"layer": LAYERS}
    grid = np.linspace(0.1, 0.6, len(LAYERS) * len(VARIANTS)).reshape(len(LAYERS), -1)
    swap = {**by, "variant": VARIANTS}
    others = {**by, "variant": VARIANTS[1:]}
    scale = {
        **by,
        "variant": ("predictable", "novel", "raw", "random_predictable", "random_novel"),
        "level": (-1.0, 0.5),
    }
    vector = {**by, "target": ("domain", "token_type"), "variant": SPACES, "level": (0.1, 0.3, 1.0)}
    towards = np.linspace(0.2, 0.7, len(WRITTEN))
    gain = np.where([v == "swap_predictable" for v in WRITTEN], turned, random)
    found = [
        made("scale_kl", scale, np.full((len(LAYERS), 5, 2), 0.4), "nats"),
        *(made(f"swap_{name}", swap, grid) for name in ("kl", "gain", "same_own", "same_other")),
        made("swap_gain_over", others, np.full((len(LAYERS), 4), over), "nats", n=n),
        made("swap_same_own_over", others, np.full((len(LAYERS), 4), kept), "probability", n=n),
        made("vector_gain", vector, np.full((len(LAYERS), 2, 4, 3), 0.3), "nats"),
        made("written_towards_other", {"variant": WRITTEN}, towards, "probability"),
        made("written_towards_other_gain", {"variant": WRITTEN}, gain, "probability", n=n),
        made("judge_accuracy", {}, 0.71, "probability"),
    ]
    return result("component_steering", found, written=written_texts())


def predictor_sweep(agreement: float = 0.9, wide: float = 0.02, n: int = N, r2: float = 0.6) -> Result:
    """Designs whose novelties agree with those of the base that much; the second seed agrees best."""
    by = {"layer": LAYERS, "variant": DESIGNS}
    shape = (len(LAYERS), len(DESIGNS))
    agreed = np.full(shape, agreement)
    agreed[:, 0], agreed[:, -1] = 1.0, max(agreement, 0.97)
    explained = np.linspace(0.05, r2, 4 * len(LAYERS) * len(DESIGNS)).reshape(*shape, 4)
    found = [
        made("r2", {**by, "definition": ("dim", "element", "uniform", "position")}, explained),
        made("r2_over_base", by, np.zeros(shape)),
        made("parameters", {"variant": DESIGNS}, [70_000, 90_000, 65_536, 70_000]),
        made("cka", {**by, "other": DESIGNS}, np.full((*shape, len(DESIGNS)), 0.8)),
        made("novelty_with_base", by, agreed, wide=wide, n=n),
        made(
            "probe_difference",
            {"task": ("domain", "token_type"), **by},
            np.stack([0.1 + 0 * agreed, 0 * agreed - 0.2]),
        ),
    ]
    return result("predictor_sweep", found)


def results() -> dict[str, Result]:
    return {one.analysis: one for one in (component_steering(), predictor_sweep())}
