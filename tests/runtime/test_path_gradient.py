"""Integrated gradients of targets whose answer is known by hand, and targets that are the model's own probabilities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.errors import BadInput
from depthscope.runtime.model import Batch
from depthscope.runtime.path_gradient import (
    attributed,
    by_left_ends,
    frozen,
    gold_target,
    integrated_gradients,
    part_of,
    rows_that_fit,
)
from depthscope.runtime.run import Seen, run
from depthscope.runtime.tiny import tiny

VALUE = torch.tensor([[1.0, -2.0], [3.0, 0.5], [0.0, 4.0]], dtype=torch.float64)
BASELINE = torch.tensor([[0.5, 0.5], [3.0, -1.0], [2.0, 2.0]], dtype=torch.float64)


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("steps", [1, 7])
def test_through_linear_maps_the_attribution_is_the_exact_product(steps: int, left: bool) -> None:
    first, second, read = (torch.randn(2, 2, dtype=torch.float64) for _ in range(3))

    def target(x: Tensor) -> Tensor:
        return (x @ first @ second @ read)[..., 0].sum(-1)

    expected = (VALUE - BASELINE) @ (first @ second @ read)[:, 0]
    found = integrated_gradients(target, VALUE, BASELINE, steps, left=left, rows=3)
    torch.testing.assert_close(found, expected)


def test_of_squares_middles_are_exact_and_left_ends_are_short_by_the_square_over_the_steps() -> None:
    def squares(x: Tensor) -> Tensor:
        return x.square().sum((-1, -2))

    exact = (VALUE.square() - BASELINE.square()).sum(-1)
    torch.testing.assert_close(integrated_gradients(squares, VALUE, BASELINE, 4), exact)
    short = exact - (VALUE - BASELINE).square().sum(-1) / 4
    found = by_left_ends(squares, VALUE, BASELINE, steps=4)
    torch.testing.assert_close(found.tokens, short)
    assert found.gap == pytest.approx(float((exact - short).sum().abs()))


def test_steps_double_until_the_sum_is_complete_and_never_exceed_the_cap() -> None:
    # middles of the derivative 4 x^3 on 0 .. 1 miss the integral by 1 / (2 n^2): n = 4 by 0.031, n = 8 by 0.0078
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)

    def target(x: Tensor) -> Tensor:
        return x.pow(4).sum((-1, -2))

    found = attributed(target, one, zero, start=1)
    assert (found.steps, found.difference, found.gap) == (8, 1.0, pytest.approx(1 / 128))
    capped = attributed(target, one, zero, start=1, cap=7)
    assert (capped.steps, capped.gap) == (4, pytest.approx(1 / 32))
    assert attributed(target, one, zero, start=1, floor=2.0).steps == 4


def test_a_target_that_writes_into_its_stream_is_followed_too() -> None:
    def target(x: Tensor) -> Tensor:
        return x.mul_(3).sum((-1, -2))

    torch.testing.assert_close(
        integrated_gradients(target, VALUE, BASELINE, 2), 3 * (VALUE - BASELINE).sum(-1)
    )


def recorded(family: str, rows: int = 1) -> Seen:
    ids = torch.arange(3, 3 + 9 * rows).reshape(rows, 9)
    return run(tiny(family), Batch.of_ids(ids), read=["L0.resid_pre", "L*.resid_post"], record=True)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2", "falcon_h1"])
def test_at_its_own_value_every_part_gives_the_models_own_probabilities(family: str) -> None:
    seen = recorded(family)
    p = torch.softmax(seen.model.net(input_ids=seen.batch.ids, use_cache=False).logits[0].double(), -1)
    marks, gold = torch.tensor([5, 8]), torch.tensor([7, 11])
    layer = seen.model.anatomy.layers[1]
    mixers = tuple(Site(1, part) for part, _ in layer.mixers())  # type: ignore[arg-type]
    for sites in ((), mixers, (Site(1, "mlp_out"),)):
        part = part_of(seen, 1, sites)
        found = gold_target(seen, part, marks, gold)(part.value[None].repeat(2, 1, 1))
        torch.testing.assert_close(found, p[marks, gold].sum().expand(2), rtol=1e-6, atol=1e-9)


def test_parameters_are_frozen_for_the_while_only() -> None:
    net = tiny("llama").net
    fixed = next(net.parameters()).requires_grad_(False)
    with frozen(net):
        assert not any(p.requires_grad for p in net.parameters())
    assert [p is fixed for p in net.parameters()] == [not p.requires_grad for p in net.parameters()]


def test_passes_over_several_rows_are_refused_and_one_point_always_fits() -> None:
    with pytest.raises(BadInput, match="this one has 2"):
        part_of(recorded("llama", 2), 0)
    assert rows_that_fit(recorded("llama"), 0, 1, budget=1) == 1
