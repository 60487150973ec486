"""The trainable scan gives the outputs and gradients of the plain recurrence, taken apart by autograd."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close
from transformers.models.mamba import modeling_mamba

from depthscope.fits.selective_scan import selective_scan, trainable_scan

ROWS, CHANNELS, TOKENS, CELLS = 2, 3, 7, 4


def inputs() -> dict[str, Tensor]:
    torch.manual_seed(0)
    shapes = {
        "hidden_states": (ROWS, CHANNELS, TOKENS), "dt": (ROWS, CHANNELS, TOKENS), "A": (CHANNELS, CELLS),
        "B": (ROWS, CELLS, TOKENS), "C": (ROWS, CELLS, TOKENS), "D": (CHANNELS,), "z": (ROWS, CHANNELS, TOKENS),
        "delta_bias": (CHANNELS,),
    }  # fmt: skip
    found = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    found["A"] = -found["A"].exp()
    return {name: value.requires_grad_() for name, value in found.items()}


def recurrence(x: dict[str, Tensor]) -> Tensor:
    """Gu and Dao 2023, equations of section 3, one position at a time."""
    step = functional.softplus(x["dt"] + x["delta_bias"][:, None])
    state, out = torch.zeros(ROWS, CHANNELS, CELLS, dtype=torch.float64), []
    for t in range(TOKENS):
        driven = (step[..., t] * x["hidden_states"][..., t])[..., None] * x["B"][:, None, :, t]
        state = torch.exp(step[..., t, None] * x["A"]) * state + driven
        out.append((state * x["C"][:, None, :, t]).sum(-1) + x["D"] * x["hidden_states"][..., t])
    return torch.stack(out, -1) * functional.silu(x["z"])


def test_outputs_and_every_gradient_are_those_of_the_plain_recurrence():
    mine, plain = inputs(), inputs()
    weight = torch.randn(ROWS, CHANNELS, TOKENS, dtype=torch.float64)
    first, second = selective_scan(**mine), recurrence(plain)
    assert_close(first, second, rtol=1e-12, atol=1e-12)
    (first * weight).sum().backward()
    (second * weight).sum().backward()
    for name in mine:
        assert_close(mine[name].grad, plain[name].grad, rtol=1e-10, atol=1e-12, msg=name)


def test_the_scan_of_transformers_is_back_afterwards_also_after_an_error():
    before = modeling_mamba.mamba_selective_scan
    try:
        with trainable_scan():
            assert modeling_mamba.mamba_selective_scan is selective_scan
            raise KeyError
    except KeyError:
        pass
    assert modeling_mamba.mamba_selective_scan is before
