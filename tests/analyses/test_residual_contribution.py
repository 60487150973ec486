"""Norms and cosines of writes that erase, strengthen or turn the stream by known amounts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import (
    LENGTH,
    SLOT,
    TOKEN,
    V,
    Write,
    at_token,
    axis,
    constant,
    look,
    planted,
    rising,
    text_of,
    value,
)
from torch import Tensor

from depthscope.analyses.residual_contribution import ResidualContribution
from depthscope.errors import BadInput, UnknownName
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


def at_both(result: Result, name: str, layer: int = 2) -> float:
    """One cell of the whole block."""
    return float(result[name].select(layer=layer, sublayer="block").value)


def test_policies_count_everything_but_sinks_everything_or_just_sinks(tmp_path: Path) -> None:
    texts = [text_of([3, *range(30, 30 + LENGTH - 1)]) for _ in range(8)]
    first = at_token(3, lambda x: 100 * x)

    def write(x: Tensor) -> Tensor:
        return first(x) + 0.5 * x

    found = {}
    for sinks in ("exclude", "include", "only"):
        analysis = ResidualContribution(sinks=sinks)
        found[sinks] = look(planted({2: write}), analysis, tmp_path / sinks, texts)
    inside = (0.5 * 23 + 100.5) / 24
    expected = {"exclude": 0.5, "include": inside, "only": 100.5}
    for sinks, result in found.items():
        assert at(result, "block")[0] == pytest.approx(expected[sinks])
        assert at_both(result, "relative_norm_max") == pytest.approx(0.5 if sinks == "exclude" else 100.5)
        by = result["relative_norm_by_sinks"].select(layer=2, sublayer="block")
        assert dict(zip(by.axes["sinks"], by.value, strict=True)) == pytest.approx(expected)
    # the stream has norm sqrt(2) everywhere, so ratio of means and mean of ratios agree
    assert at_both(found["include"], "norm_ratio") == pytest.approx(inside)
    assert at_both(found["include"], "write_norm") == pytest.approx(inside * 2**0.5)


def test_growth_is_the_sum_of_its_two_terms(tmp_path: Path) -> None:
    result = look(planted({2: lambda x: 0.3 * x + turned(x)}), "residual_contribution", tmp_path, rising())
    terms = {"growth": 1.69, "parallel_gain": 0.6, "orthogonal_energy": 1.09, "growth_gap": 0}
    for name, expected in terms.items():
        np.testing.assert_allclose(value(result, name), np.where(np.arange(6) == 2, expected, 0), atol=1e-12)
    # |h'| = sqrt(1.3^2 + 1) |h|
    kept = np.where(np.arange(6) == 2, 1.3 / 2.69**0.5, 1)
    np.testing.assert_allclose(value(result, "stream_cosine"), kept)


def test_each_token_and_each_layer_has_its_class(tmp_path: Path) -> None:
    # tokens 30 .. 40 are erased, all others strengthened; layer 3 turns everything
    def write(x: Tensor) -> Tensor:
        erased = x[..., TOKEN][..., 30:41].sum(-1, keepdim=True)
        return 0.2 * x * (1 - 2 * erased)

    texts = [text_of([3 + k, *range(30, 41), *range(41, 53)]) for k in range(8)]
    result = look(planted({2: write, 3: turned}), "residual_contribution", tmp_path, texts)
    shares = result["mode_share"].select(sublayer="block")
    np.testing.assert_allclose(shares.select(layer=2).value, [11 / 23, 0, 12 / 23])
    np.testing.assert_allclose(shares.select(layer=3).value, [0, 1, 0])
    assert [at_both(result, "mode", k) for k in range(4)] == [
        0,
        0,
        0,
        0,
    ]  # mean cosine 1/23 is below 3/sqrt(192)
    assert at_both(result, "mode_support", 3) == 1
    erase = look(planted({2: lambda x: -0.1 * x}), "residual_contribution", tmp_path / "erase", texts)
    assert (at_both(erase, "mode"), at_both(erase, "mode_support")) == (-1, 1)


def test_percentiles_are_those_of_the_tokens(tmp_path: Path) -> None:
    # the size of the write is the token's id
    sizes = torch.arange(V, dtype=torch.float64)
    write = lambda x: x * (x[..., TOKEN] * sizes).sum(-1, keepdim=True)  # noqa: E731
    texts = [text_of([40, *range(3 + k, 3 + k + LENGTH - 1)]) for k in range(8)]
    result = look(planted({2: lambda x: write(x) / 40}), "residual_contribution", tmp_path, texts)
    ids = np.concatenate([np.arange(3 + k, 3 + k + LENGTH - 1) for k in range(8)]) / 40
    for name, share in {"p10": 0.1, "median": 0.5, "p90": 0.9}.items():
        expected = np.quantile(ids, share, method="inverted_cdf")
        assert at_both(result, f"relative_norm_{name}") == pytest.approx(expected, rel=1e-6)


def test_a_turn_from_erasing_to_strengthening_is_located_and_its_absence_is_said(tmp_path: Path) -> None:
    n = 14
    turn = {k: (lambda x: -0.2 * x) if k <= 8 else (lambda x: 0.1 * x) for k in range(n)}
    found = look(planted(turn, n), "residual_contribution", tmp_path / "turn", rising())
    assert found["cosine_crossing"].scalar() == 8
    assert found["cosine_crossing"].low == found["cosine_crossing"].high == 8
    assert found["cosine_crossing_support"].scalar() == 1
    assert found["norm_change_layer"].scalar() == 8
    assert found["norm_change_ratio"].scalar() == pytest.approx(0.5)
    assert found["norm_change_p"].scalar() < 0.05
    same = look(
        planted({k: lambda x: 0.2 * x for k in range(n)}, n),
        "residual_contribution",
        tmp_path / "same",
        rising(),
    )
    for name in ("cosine_crossing", "norm_change_layer", "norm_change_ratio"):
        assert np.isnan(same[name].scalar())
        assert same[name].missing.startswith("none found")
    assert same["cosine_crossing_support"].scalar() == 0


def test_a_steady_trend_is_no_change_of_level(tmp_path: Path) -> None:
    n = 14
    trend = {k: (lambda x, s=0.5 * 0.9**k: s * x) for k in range(n)}
    found = look(planted(trend, n), "residual_contribution", tmp_path, rising())
    assert found["norm_change_p"].scalar() < 0.05
    assert "a straight line leaves 0%" in found["norm_change_layer"].missing


def test_wrong_parameters_are_told() -> None:
    with pytest.raises(UnknownName, match="unknown value of sinks 'both'; known: exclude, include, only"):
        ResidualContribution(sinks="both")
    with pytest.raises(BadInput, match=r"sample=0 \(positions of a median\) must be 1 or more"):
        ResidualContribution(sample=0)
