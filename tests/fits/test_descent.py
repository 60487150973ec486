"""Steps against torch.optim, clipping, and states that are skipped."""

from __future__ import annotations

import pytest
import torch

from depthscope.fits.descent import Adam, Sgd, Tensors, clipped, finite


def masters(seed: int = 0) -> Tensors:
    g = torch.Generator().manual_seed(seed)
    return {"weight": torch.randn(3, 4, 4, generator=g), "bias": torch.randn(3, 4, generator=g)}


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_steps_are_those_of_torch(kind: str):
    descent = Sgd(lr=0.3) if kind == "sgd" else Adam(lr=0.02, decay=0.01)
    own, other = masters(), {name: torch.nn.Parameter(value) for name, value in masters().items()}
    if kind == "sgd":
        rule = torch.optim.SGD(other.values(), lr=0.3, momentum=0.9, nesterov=True, weight_decay=1e-3)
    else:
        rule = torch.optim.Adam(other.values(), lr=0.02, weight_decay=0.01, amsgrad=True)
    moments = descent.start(own)
    for step in range(6):
        grads = masters(step + 1)
        for name, value in other.items():
            value.grad = grads[name].clone()
        for group in rule.param_groups:
            group["lr"] = descent.lr * (1 - step / 6)
        rule.step()
        descent.step(own, grads, moments, 1 - step / 6, torch.ones(3, dtype=torch.bool))
    for name, value in other.items():
        torch.testing.assert_close(own[name], value.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("descent", [Sgd(), Adam()], ids=["sgd", "adam"])
def test_a_skipped_state_is_as_if_the_step_had_not_been(descent: Sgd | Adam):
    own, without = masters(), masters()
    moments, fewer = descent.start(own), descent.start(without)
    everyone, some = torch.ones(3, dtype=torch.bool), torch.tensor([True, False, True])
    for step, fine in enumerate((everyone, some, everyone)):
        descent.step(own, masters(step + 1), moments, 1.0, fine)
        if step != 1:
            descent.step(without, masters(step + 1), fewer, 1.0, everyone)
    torch.testing.assert_close(own["weight"][1], without["weight"][1], rtol=1e-6, atol=1e-7)
    assert (own["weight"][0] - without["weight"][0]).abs().max() > 1e-4


def test_each_state_is_clipped_by_itself_or_all_together():
    norms = torch.tensor([0.5, 2.0, 30.0])
    grads = {"weight": torch.zeros(3, 4, 4), "bias": torch.zeros(3, 4)}
    grads["weight"][:, 0, 0], grads["bias"][:, 1] = 0.6 * norms, 0.8 * norms

    def after(kind: str) -> list[float]:
        own = {name: value.clone() for name, value in grads.items()}
        clipped(own, kind)
        return [float(torch.cat([own["weight"][s].flatten(), own["bias"][s]]).norm()) for s in range(3)]

    whole = float(norms.norm())
    assert after("per_layer") == pytest.approx([0.5, 1.0, 1.0])
    assert after("global") == pytest.approx([0.5 / whole, 2.0 / whole, 30.0 / whole])
    assert after("none") == pytest.approx([0.5, 2.0, 30.0])


def test_only_states_with_a_finite_loss_and_gradient_are_fine():
    grads = masters()
    grads["weight"][1, 2, 2] = torch.nan
    fine = finite(torch.tensor([1.0, 1.0, torch.inf]), grads)
    assert fine.tolist() == [True, False, False]
    assert grads["weight"][1:].abs().max() == 0
    assert grads["weight"][0].abs().max() > 0
