"""MLPs as memories: what each hidden number adds to the stream, and what that says through the unembedding.

An MLP adds the sum of its hidden numbers m_i times the columns v_i of its last projection. With the gain of a norm
behind the projection and that of the final norm folded in, W_U (gain * v_i) are the logits that a memory pushes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from depthscope.anatomy.anatomy import Anatomy, Sublayer
from depthscope.errors import Refused
from depthscope.runtime.model import Model


def memory_layers(anatomy: Anatomy) -> list[int]:
    """Layers whose MLP has a last projection that is named."""
    return [x.index for x in anatomy.layers if x.mlp is not None and x.mlp.proj is not None]


def mlp_of(model: Model, layer: int) -> Sublayer:
    """The MLP of a layer.

    Raises:
        Refused: where it has no last projection that is named.
    """
    found = model.anatomy.layers[layer].mlp
    if found is None or found.proj is None:
        raise Refused(f"layer {layer} of {model.name} has no MLP with one last projection")
    return found


def projection(model: Model, layer: int) -> tuple[nn.Parameter, bool]:
    """The weight of an MLP's last projection, and whether it is stored as (in, out)."""
    proj = mlp_of(model, layer).proj
    assert proj is not None
    return proj.weight, not hasattr(proj, "in_features")  # pyright: ignore[reportReturnType]


def values(
    model: Model, layer: int, neurons: Int[Tensor, " neuron"] | None = None
) -> Float[Tensor, "neuron d_model"]:
    """What each hidden number of a layer adds for each unit of it; a norm behind the projection counts by its gain."""
    sub = mlp_of(model, layer)
    weight, turned = projection(model, layer)
    rows = weight.detach() if turned else weight.detach().T
    rows = rows if neurons is None else rows[neurons]
    behind = None if sub.write in (sub.proj, sub.module) else sub.write
    return (
        rows * sub.scale
        if behind is None
        else rows * gain(behind, model.anatomy.d_model).to(rows) * sub.scale
    )


@torch.no_grad()
def gain(norm: nn.Module, width: int) -> Float[Tensor, " d_model"]:
    """By how much a norm stretches each number of a vector that it leaves as long as it is; a bias is left out."""
    like = next(norm.parameters(), torch.zeros(1))
    signs = torch.ones(width, dtype=like.dtype, device=like.device)
    signs[1::2] = -1  # mean 0 and mean square 1: neither kind of norm changes it but by its gain
    return (norm(signs) - norm(-signs)) / (2 * signs)


@torch.no_grad()
def pushed_logits(model: Model, rows: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_vocab"]:
    """W_U (final gain * row) in the head's precision, without bias, scale of the stream or cap."""
    weight, _ = model.head.unembedding()
    norm = model.anatomy.final_norm
    folded = rows if norm is None else rows * gain(norm, rows.shape[-1]).to(rows)
    return nn.functional.linear(folded.to(model.head.precision), weight.to(model.head.precision))


@torch.no_grad()
def answer_directions(model: Model, ids: Int[Tensor, " answer"]) -> Float[Tensor, "answer d_model"]:
    """What the logit of a token reads of the last stream: x @ direction / `stream_size(x)`, in the head's precision.

    The unembedding's row with the final norm's gain folded in, without its mean where that norm takes means away; bias,
    scale of the logits and cap are left out.
    """
    weight, _ = model.head.unembedding()
    found, norm = weight[ids].to(model.head.precision), model.anatomy.final_norm
    if norm is None:
        return found
    found = found * gain(norm, found.shape[-1]).to(found)
    return found - found.mean(-1, keepdim=True) if centres(norm, found.shape[-1]) else found


@torch.no_grad()
def stream_size(model: Model, state: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row"]:
    """What the final norm divides by: the root mean square of the stream, or its standard deviation; 1 without norm."""
    norm = model.anatomy.final_norm
    state = state.to(model.head.precision)
    if norm is None:
        return torch.ones_like(state[..., 0])
    if centres(norm, state.shape[-1]):
        state = state - state.mean(-1, keepdim=True)
    return state.square().mean(-1).sqrt()


@torch.no_grad()
def centres(norm: nn.Module, width: int) -> bool:
    """Whether a norm takes the mean away before it divides."""
    like = next(norm.parameters(), torch.zeros(1))
    signs = torch.ones(width, dtype=like.dtype, device=like.device)
    signs[1::2] = -1
    return bool((norm(signs + 1) - norm(signs)).abs().max() < 1e-2 * norm(signs).abs().max())


@torch.no_grad()
def write_scale(model: Model, layer: int, hidden: Float[Tensor, "*row neuron"]) -> Float[Tensor, "*row"]:
    """By how much the numbers of `values` are stretched at these positions: 1, or what a norm behind the MLP does."""
    sub = mlp_of(model, layer)
    if sub.write in (sub.proj, sub.module):
        return torch.ones_like(hidden[..., 0])
    weight, turned = projection(model, layer)
    write = hidden @ (weight if turned else weight.T)
    return write.square().mean(-1).clamp_min(1e-12).rsqrt()
