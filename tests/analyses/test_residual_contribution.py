"""Norms and cosines of writes that erase, strengthen or turn the stream by known amounts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import SLOT, Write, at_token, axis, constant, look, planted, rising, text_of, value
from torch import Tensor

from depthscope.results.result import Result
from depthscope.runtime.tiny import tiny


def turned(x: Tensor) -> Tensor:
    """Each pair of numbers by a right angle: as long as x and orthogonal to it."""
    pairs = x.unflatten(-1, (-1, 2))
    return torch.stack([-pairs[..., 1], pairs[..., 0]], -1).flatten(-2)


def at(result: Result, name: str, layer: int = 2) -> tuple[float, float]:
    """Relative norm and cosine of one writer."""
    return float(value(result, f"{name}_relative_norm")[layer]), float(value(result, f"{name}_cosine")[layer])


@pytest.mark.parametrize(
    ("write", "norm", "cosine"),
    [
        (lambda x: -2 * x, 2.0, -1.0),
        (lambda x: 0.5 * x, 0.5, 1.0),
        (turned, 1.0, 0.0),
        (lambda x: x + turned(x), 2**0.5, 0.5**0.5),
        (lambda x: -0.25 * x, 0.25, -1.0),
    ],
    ids=["reverse", "strengthen", "turn", "half and half", "erase"],
)
def test_a_write_has_the_norm_and_the_angle_it_was_made_with(
    write: Write, norm: float, cosine: float, tmp_path: Path
) -> None:
    result = look(planted({2: write}), "residual_contribution", tmp_path, rising())
    np.testing.assert_allclose(at(result, "mlp"), (norm, cosine), atol=1e-12)
    np.testing.assert_allclose(at(result, "block"), (norm, cosine), atol=1e-12)
    assert at(result, "attention") == (0, 0)


def test_layers_that_write_nothing_contribute_nothing(tmp_path: Path) -> None:
    result = look(planted({2: lambda x: -2 * x}), "residual_contribution", tmp_path, rising())
    for name in ("attention", "mlp", "block"):
        others = [k for k in range(6) if k != 2]
        np.testing.assert_array_equal(value(result, f"{name}_relative_norm")[others], 0)
        np.testing.assert_array_equal(value(result, f"{name}_cosine")[others], 0)


def test_doubling_layer_after_layer_keeps_the_ratio(tmp_path: Path) -> None:
    result = look(planted({k: lambda x: x for k in range(6)}), "residual_contribution", tmp_path, rising())
    np.testing.assert_allclose(value(result, "block_relative_norm"), 1)
    np.testing.assert_allclose(value(result, "block_cosine"), 1)


def test_a_fixed_write_weighs_less_as_the_stream_grows(tmp_path: Path) -> None:
    layers = {k: constant(axis(SLOT.start, 1.0)) for k in range(6)}
    result = look(planted(layers), "residual_contribution", tmp_path, rising())
    k = np.arange(6)
    # the stream begins with two unit vectors and has k in the slot after k layers
    np.testing.assert_allclose(value(result, "block_relative_norm"), 1 / np.sqrt(2 + k**2))
    np.testing.assert_allclose(value(result, "block_cosine"), k / np.sqrt(2 + k**2))


def test_position_zero_and_massive_positions_do_not_count(tmp_path: Path) -> None:
    texts = [text_of([3 + k, *range(30, 41), 60, *range(41, 52)]) for k in range(10)]
    massive = at_token(60, constant(axis(SLOT.start, 1000.0)))
    first = [at_token(3 + k, constant(axis(SLOT.start + 1, 1000.0))) for k in range(10)]

    def write(x: Tensor) -> Tensor:
        return massive(x) + sum(f(x) for f in first) + 0.5 * x

    result = look(planted({2: write}), "residual_contribution", tmp_path, texts)
    np.testing.assert_allclose(at(result, "block"), (0.5, 1.0))
    counted = result["block_relative_norm"].n_items
    assert counted is not None
    assert counted.tolist() == [10 * 22] * 6


def test_random_weights_write_at_no_extreme_angle(tmp_path: Path) -> None:
    texts = [f"text number {k} of the negative control" for k in range(9)]
    result = look(tiny("llama", torch.float32), "residual_contribution", tmp_path, texts)
    assert (np.abs(value(result, "block_cosine")) < 0.6).all()
    assert (value(result, "block_relative_norm") > 0).all()
