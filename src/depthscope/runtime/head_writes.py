"""What each attention head writes to the stream: its slice of what the output projection reads, and the slice's write.

A head's slice z is read at the input of the output projection, so grouped and shared keys, latent keys, gates and heads
wider than d_model / n_heads need no care. A norm behind the projection (Gemma, OLMo 2) is held fixed at what it does to
the sum of all heads ("frozen"): the writes of the heads and the bias then add up to what attention adds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from depthscope.anatomy.anatomy import Anatomy, Layer, Sublayer
from depthscope.anatomy.site import Site
from depthscope.errors import Refused
from depthscope.runtime.hooks import Tap, hooked
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run
from depthscope.runtime.wiring import wire

Z = Float[Tensor, "row token head d_head"]
_FITS = 1e-3
"""What a write norm may differ from a gain times a factor for each token, relative."""


@torch.no_grad()
def head_outputs(
    model: Model,
    batch: Batch | str | Sequence[str] | Tensor,
    at: Int[Tensor, " token"] | None = None,
    layers: Iterable[int] | None = None,
) -> Mapping[int, Z]:
    """Each head's output z before the output projection, by layer; layers without heads are left out.

    Args:
        at: positions that are kept, all by default; negative ones count from the end. layers: all by default.

    Raises:
        Refused: where the architecture has no attention heads.
    """
    wanted = layers_with_heads(model.anatomy) if layers is None else list(layers)
    if not wanted:
        raise Refused(f"{model.name} has no attention heads with an output projection")
    sites = [model.anatomy.resolve(Site(layer, "head_out")) for layer in wanted]
    if at is None:
        seen = run(model, batch, read=sites)
        return {layer: seen[site] for layer, site in zip(wanted, sites, strict=True)}
    found: dict[int, Tensor] = {}
    places = [
        Tap(wire(model.anatomy, s).module, "in", _keeping(found, s.layer or 0, at, model)) for s in sites
    ]
    with hooked(places):
        run(model, batch, read=[Site(max(wanted), "resid_post")])
    return found


def _keeping(found: dict[int, Tensor], layer: int, at: Tensor, model: Model):  # noqa: ANN202  (a touch)
    def keep(value: Tensor) -> None:
        # cloned: a view would hold what every position read
        found[layer] = value[:, at.to(value.device)].unflatten(-1, (model.anatomy.n_heads, -1)).clone()

    return keep


def layers_with_heads(anatomy: Anatomy) -> list[int]:
    """Layers whose attention has an output projection that adds up heads."""
    return [layer.index for layer in anatomy.layers if layer.attn is not None and layer.attn.proj is not None]


def head_write(model: Model, layer: int, z: Z) -> Float[Tensor, "row token head d_model"]:
    """What each head of a layer adds to the stream: scale * gain * W_O[:, h] z_h, without the projection's bias.

    `gain` is what a norm behind the projection does to the sum of all heads at that token, held fixed, 1 where there is
    none. Sum over heads + `bias_write` = attn_out. `z` must hold all heads of the layer.

    Raises:
        Refused: where the layer has no heads, or what follows the projection is no gain times a factor for each token.
    """
    sub = _attention(model, layer)
    writes = projected(model.anatomy.layers[layer], z)
    total, bias = writes.sum(2), _bias(sub)
    total = total if bias is None else total + bias
    return writes * _gain(model, layer, total)[:, :, None] * sub.scale


def bias_write(model: Model, layer: int, z: Z) -> Float[Tensor, "row token d_model"]:
    """What the projection's bias adds, through the same frozen norm: no head's work; zeros where there is none."""
    sub = _attention(model, layer)
    bias, total = _bias(sub), head_sum(model.anatomy.layers[layer], z)
    return torch.zeros_like(total) if bias is None else bias * _gain(model, layer, total) * sub.scale


def write_norms(model: Model, layer: int, z: Z) -> Float[Tensor, "row token head"]:
    """Length of each head's write, |scale * gain * W_O[:, h] z_h|."""
    return torch.linalg.vector_norm(head_write(model, layer, z), dim=-1)


def value_norms(
    model: Model, layer: int, value: Float[Tensor, "row kv_head key d_head"]
) -> Float[Tensor, "row head key"]:
    """How long a head's write would be if it looked at one key only: |gain * W_O[:, h] v_j|, up to a factor a query.

    The gain of a norm behind the projection is taken, its factor for each token left out: it is the same for all keys
    of a query, so weights `A_ij |W_O v_j|` normalised over keys do not feel it. A gate on heads (Qwen3-Next) is left
    out.
    """
    weight = _parts(_attention(model, layer), model.anatomy.n_heads).detach()
    if _behind(_attention(model, layer)) is not None:
        weight = weight * _direction(model, layer)[:, None, None]
    by_head = weight.permute(1, 2, 0)
    (rows, shared, keys, d_head), heads = value.shape, len(by_head)
    # heads that share a value are asked side by side: one product for each of their values
    metric = (by_head @ by_head.mT).unflatten(0, (shared, -1)).transpose(1, 2).flatten(2)
    values = value.to(metric).transpose(0, 1).flatten(1, 2)
    products = (values @ metric).unflatten(2, (heads // shared, d_head))
    squares = (products * values[:, :, None]).sum(-1).unflatten(1, (rows, keys))
    return squares.permute(1, 0, 3, 2).flatten(1, 2).clamp_min(0).sqrt()


def projected(layer: Layer, z: Z) -> Float[Tensor, "row token head d_model"]:
    """What each head gives the sum before any norm behind it, without the projection's bias: W_O[:, h] z_h."""
    assert layer.attn is not None
    return torch.einsum("rthd,ehd->rthe", z, _parts(layer.attn, z.shape[2]))


def head_sum(layer: Layer, z: Z) -> Float[Tensor, "row token d_model"]:
    """Sum over heads plus the projection's bias, where it has one: what the output projection gives."""
    assert layer.attn is not None
    total, bias = projected(layer, z).sum(2), _bias(layer.attn)
    return (total if bias is None else total + bias).detach()


def _attention(model: Model, layer: int) -> Sublayer:
    model.anatomy.resolve(Site(layer, "head_out"))
    sub = model.anatomy.layers[layer].attn
    if sub is None or sub.proj is None:
        raise Refused(f"layer {layer} of {model.name} has no output projection that adds up heads")
    return sub


def _parts(sub: Sublayer, heads: int) -> Float[Tensor, "d_model head d_head"]:
    """W_O in slices of heads; d_head is what the projection reads over the number of heads, not d_model's share."""
    assert sub.proj is not None
    weight: Tensor = sub.proj.weight  # pyright: ignore[reportAssignmentType]
    if not hasattr(sub.proj, "in_features"):
        weight = weight.T  # Conv1D stores (in, out)
    return weight.unflatten(1, (heads, -1))


def _bias(sub: Sublayer) -> Tensor | None:
    bias = getattr(sub.proj, "bias", None)
    return None if bias is None else bias.detach()


def _behind(sub: Sublayer) -> nn.Module | None:
    """The norm or scale between the projection and the stream."""
    return None if sub.write in (sub.proj, sub.module) else sub.write


def _direction(model: Model, layer: int) -> Float[Tensor, " d_model"]:
    """The gain for each number of the stream, up to a common factor."""
    behind, ones = _behind(_attention(model, layer)), torch.ones(model.anatomy.d_model, dtype=model.dtype)
    ones = ones.to(model.device)
    return ones if behind is None else behind(ones[None, None])[0, 0].detach()


def _gain(
    model: Model, layer: int, total: Float[Tensor, "row token d_model"]
) -> Float[Tensor, "row token d_model"]:
    """What the norm behind the projection does to its input, number by number, at each token."""
    behind = _behind(_attention(model, layer))
    if behind is None:
        return torch.ones_like(total)
    direction = _direction(model, layer).to(total)
    plain, true = direction * total, behind(total).detach()
    factor = (plain * true).sum(-1, keepdim=True) / (plain * plain).sum(-1, keepdim=True)
    gap = torch.linalg.vector_norm(factor * plain - true) / torch.linalg.vector_norm(true)
    if not gap < _FITS * (1 if total.dtype in (torch.float32, torch.float64) else 30):
        raise Refused(
            f"layer {layer} of {model.name} puts {type(behind).__name__} behind its heads, which is no gain times a "
            f"factor for each token (relative difference {float(gap):.2g}): its heads have no writes of their own"
        )
    return direction * factor
