"""A made-up result of a predictor fit, as pages and plots read it."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np

from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result, Text

LAYERS, STEPS, N = np.array([0, 5, 11]), np.array([0, 100, 200]), 24
GUESSES = {
    "predictor": (0.1, 0.3, 0.4), "mean": (-0.01, -0.01, -0.01), "position_mean": (0.0, 0.0, 0.0),
    "copy": (-0.9, -0.6, -0.5), "unigram": (0.05, 0.1, 0.2), "ridge": (0.09, 0.2, 0.3), "ridge_2": (0.1, 0.22, 0.33),
    "token": (0.9, 0.6, 0.6), "ridge_token": (0.8, 0.6, 0.7),
}  # fmt: skip
FIT = Path(__file__).parents[2] / "src" / "depthscope" / "fits" / "predictor.py"


def predictor(wide: float = 0.01) -> Result:
    """Three layers; the gain over ridge is 0.01, 0.1 and 0.1, `wide` to either side."""
    r2 = np.array(list(GUESSES.values())).T
    gain = r2[:, :1] - r2[:, 1:]
    names, rest = np.array(list(GUESSES)), np.array(list(GUESSES)[1:])
    rise = r2[:, :1, None] * np.array([0.5, 0.8, 1.0])[None, :, None] * np.ones(2)
    axes = {"layer": LAYERS, "step": STEPS, "definition": np.array(["dim", "element"])}
    made = [
        _made("guess_r2", {"layer": LAYERS, "variant": names}, r2, wide),
        _made("gain", {"layer": LAYERS, "variant": rest}, gain, wide),
        Measurement("curve_r2", axes, rise.reshape(3, 3, 2), "1"),
    ]
    text = Text.of(ast.get_docstring(ast.parse(FIT.read_text(encoding="utf-8"))) or "")
    return Result(
        "predictor", {"preset": "robust"}, Findings({m.name: m for m in made}), text, {"documents": N}
    )


def _made(name: str, axes: dict[str, np.ndarray], value: np.ndarray, wide: float) -> Measurement:
    counts = {"n": np.full(value.shape, N), "n_items": np.full(value.shape, 90 * N)}
    return Measurement(name, axes, value, "1", value - wide, value + wide, **counts)
