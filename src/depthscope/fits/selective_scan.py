"""The selective scan of Mamba with gradients in linear time: what training a small one on a CPU needs.

The reference path of transformers takes the scan apart position by position and lets autograd keep every slice; its
backward pass then costs the square of the window. Here the same sums run in two plain loops.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


class Scan(torch.autograd.Function):
    """The linear recurrence of a selective state space, read out at every position.

    h_t = exp(step_t rate) h_{t-1} + step_t value_t write_t and out_t = h_t . read_t, with h_{-1} = 0, for each row and
    channel. Step and value are [token row channel], rate is [channel cell], write and read are [token row cell]; the
    output is [token row channel]. Kept for the gradient are the states, [token row channel cell].

    Source: Gu and Dao 2023 (arXiv 2312.00752), section 3.
    """

    @staticmethod
    def forward(ctx: Any, step: Tensor, value: Tensor, rate: Tensor, write: Tensor, read: Tensor) -> Tensor:  # noqa: ANN401
        """The outputs, position after position."""
        driven, out = step * value, torch.empty_like(step)
        states = step.new_empty(*step.shape, rate.shape[-1])
        state = torch.zeros_like(states[0])
        for t in range(len(step)):
            kept = (step[t][..., None] * rate).exp_().mul_(state)
            state = torch.baddbmm(kept, driven[t][..., None], write[t][:, None], out=states[t])
            torch.bmm(state, read[t][..., None], out=out[t][..., None])
        ctx.save_for_backward(step, value, rate, write, read, states)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, ...]:  # noqa: ANN401
        """The same walk from the last position to the first; `flow` is the gradient of the state."""
        step, value, rate, write, read, states = ctx.saved_tensors
        grad, driven = grads[0].contiguous(), step * value
        to_driven, to_step, to_write, to_rate = map(torch.zeros_like, (driven, step, write, rate))
        flow = torch.zeros_like(states[0])
        for t in reversed(range(len(grad))):
            flow = torch.baddbmm(flow, grad[t][..., None], read[t][:, None])
            torch.bmm(flow, write[t][..., None], out=to_driven[t][..., None])
            torch.bmm(driven[t][:, None], flow, out=to_write[t][:, None])
            flow.mul_((step[t][..., None] * rate).exp_())
            if t:
                of_exponent = flow * states[t - 1]
                torch.sum(of_exponent * rate, -1, out=to_step[t])
                to_rate.add_(of_exponent.mul_(step[t][..., None]).sum(0))
        to_read = torch.einsum("trc,trcs->trs", grad, states)
        return to_step + to_driven * value, to_driven * step, to_rate, to_write, to_read


def selective_scan(
    hidden_states: Float[Tensor, "row channel token"],
    dt: Float[Tensor, "row channel token"],
    A: Float[Tensor, "channel cell"],
    B: Float[Tensor, "row cell token"],
    C: Float[Tensor, "row cell token"],
    D: Float[Tensor, " channel"],
    z: Float[Tensor, "row channel token"],
    delta_bias: Float[Tensor, " channel"],
    **how: Any,
) -> Float[Tensor, "row channel token"]:
    """What transformers' `mamba_selective_scan` returns during training: softplus steps, skip D, gate z."""
    del how
    step = functional.softplus(dt + delta_bias[:, None])
    parts = [part.permute(2, 0, 1).contiguous() for part in (step, hidden_states, B, C)]
    out = Scan.apply(parts[0], parts[1], A, parts[2], parts[3])
    assert isinstance(out, Tensor)
    return (out.permute(1, 2, 0) + hidden_states * D[:, None]) * functional.silu(z)


@contextmanager
def trainable_scan() -> Generator[None]:
    """Inside, Mamba layers of transformers scan with gradients in linear time; afterwards as before."""
    from transformers.models.mamba import modeling_mamba as module

    before = module.mamba_selective_scan
    module.mamba_selective_scan = selective_scan
    try:
        yield
    finally:
        module.mamba_selective_scan = before
