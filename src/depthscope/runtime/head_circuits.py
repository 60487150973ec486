"""Circuits of single heads: what a head's write says for tokens, and its weights as they meet the stream.

A head reads values V n(x) and writes O v; with the norm's gain folded into V both are maps of the stream, and
E -> V -> O -> U is what it does from tokens to logits when nothing stands in between (Elhage et al. 2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from depthscope.anatomy.anatomy import Layer
from depthscope.errors import Refused
from depthscope.runtime.head_writes import head_write, layers_with_heads, projected
from depthscope.runtime.model import Model

NORMS = (
    "input_layernorm",
    "ln_1",
    "self_attn_layer_norm",
    "pre_attention_layernorm",
    "attention_norm",
    "norm1",
)
"""Names of the norm before attention, inside a block."""
READ = 50_000
"""Rows of the vocabulary that the map from the unembedding back to the embedding is summed over, evenly spread."""


@torch.no_grad()
def direct_logits(
    model: Model, layer: int, z: Float[Tensor, "row token head d_head"], ids: Int[Tensor, " id"]
) -> Float[Tensor, "row token head id"]:
    """What each head's write alone says for some ids, by the direct path, up to a positive factor for each write.

    The final norm is taken of the write itself, without its bias: a factor for each write stays open, which ratios over
    ids do not feel. Scale and cap of logits are left out.
    """
    head = model.head
    writes = head_write(model, layer, z).to(head.precision)
    plain = head.normalised(writes) - head.normalised(torch.zeros_like(writes[:1, :1, :1]))
    return plain @ head.unembedding()[0][ids].to(plain).T


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """The four maps of the heads of one layer, the gain of the norm before them folded in; biases are left out.

    Args:
        query: [head d_head d_model]; key, value: of each head's key-value group, [head d_head d_model].
        output: [head d_model d_head], with the gain of a norm behind the projection.
    """

    query: Float[Tensor, "head d_head d_model"]
    key: Float[Tensor, "head d_head d_model"]
    value: Float[Tensor, "head d_value d_model"]
    output: Float[Tensor, "head d_model d_value"]


@torch.no_grad()
def head_weights(model: Model, layer: int) -> HeadWeights:
    """The weights of the heads of one layer in float32 or more.

    Raises:
        Refused: where projections are fused or latent in a way that is not known here, or the norm before attention is
            not found.
    """
    anatomy = model.anatomy
    where, heads, groups = anatomy.layers[layer], anatomy.n_heads, anatomy.n_kv_heads
    if layer not in layers_with_heads(anatomy):
        raise Refused(f"layer {layer} of {model.name} has no heads with an output projection")
    q, k, v = _projections(model, where)
    width = k.shape[0] // groups
    if q.shape[0] != heads * width or v.shape[0] != groups * anatomy.d_head:
        raise Refused(
            f"layer {layer} of {model.name}: queries of {q.shape[0]}, keys of {k.shape[0]} and values of {v.shape[0]} "
            f"numbers are not {heads} heads in {groups} groups"
        )
    gain = _gain(model, where)
    each = (q.unflatten(0, (heads, -1)), *(_shared(part, groups, heads) for part in (k, v)))
    query, key, value = (_precise(part) * gain for part in each)
    unit = torch.eye(anatomy.d_head).to(q)[None, :, None, :].expand(1, -1, heads, -1)
    return HeadWeights(query, key, value, _precise(projected(where, unit)[0]).permute(1, 2, 0))


def _shared(weight: Tensor, groups: int, heads: int) -> Tensor:
    return weight.unflatten(0, (groups, -1)).repeat_interleave(heads // groups, 0)


def _precise(weight: Tensor) -> Tensor:
    return weight.detach().to(torch.promote_types(weight.dtype, torch.float32))


def _projections(model: Model, layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
    """Weights [out, in] of queries, keys and values."""
    assert layer.attn is not None
    module: Any = layer.attn.module
    if all(hasattr(module, name) for name in ("q_proj", "k_proj", "v_proj")):
        return module.q_proj.weight, module.k_proj.weight, module.v_proj.weight
    anatomy = model.anatomy
    equal = anatomy.n_heads == anatomy.n_kv_heads
    if hasattr(module, "c_attn") and equal:
        q, k, v = module.c_attn.weight.T.chunk(3)
        return q, k, v
    if model.config.model_type == "gpt_neox":
        q, k, v = module.query_key_value.weight.unflatten(0, (anatomy.n_heads, 3, -1)).unbind(1)
        return q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
    inside = ", ".join(name for name, _ in module.named_children())
    raise Refused(f"the projections of {type(module).__name__} are not told apart; it has {inside}")


def _gain(model: Model, layer: Layer) -> Float[Tensor, " d_model"]:
    """The gain of the norm before attention: what a vector of ones becomes, or the weight where the norm centres."""
    norm = next((m for n in NORMS if (m := getattr(layer.block, n, None)) is not None), None)
    if norm is None:
        inside = ", ".join(name for name, _ in layer.block.named_children())
        raise Refused(
            f"the norm before attention is not found in {type(layer.block).__name__}; it has {inside}"
        )
    if isinstance(norm, nn.LayerNorm):
        return _precise(norm.weight)
    ones = torch.ones(1, 1, model.anatomy.d_model, dtype=model.dtype, device=model.device)
    return _precise(norm(ones)[0, 0])


@torch.no_grad()
def copy_circuits(model: Model) -> Iterator[tuple[int, Float[Tensor, "head d_head d_head"]]]:
    """(layer, V (Eᵀ U) O of its heads): matrices whose eigenvalues are those of the circuits from tokens to logits.

    The non-zero eigenvalues of U O V E are those of this d_head x d_head matrix, summed over READ rows of the
    vocabulary at most, with the gains of both norms folded in. Layers whose weights are not readable are left out.
    """
    back = _back(model)
    if back is None:
        return
    for layer in layers_with_heads(model.anatomy):
        try:
            weights = head_weights(model, layer)
        except Refused:
            continue
        yield layer, torch.einsum("hvd,de,hew->hvw", weights.value, back.to(weights.value), weights.output)


@torch.no_grad()
def _back(model: Model) -> Tensor | None:
    """Eᵀ U over some rows of the vocabulary, [d_model d_model]; None where embedding and stream differ in width."""
    head = model.head
    embedding: Tensor = model.net.get_input_embeddings().weight  # pyright: ignore[reportCallIssue, reportAssignmentType]
    unembedding = head.unembedding()[0]
    if embedding.shape[1] != model.anatomy.d_model or unembedding.shape[1] != model.anatomy.d_model:
        return None
    rows = min(len(embedding), len(unembedding))
    some = torch.arange(0, rows, -(-rows // READ), device=embedding.device)
    ones = torch.ones(1, model.anatomy.d_model, dtype=head.precision, device=embedding.device)
    zero = head.normalised(torch.zeros_like(ones))
    norm: Any = model.anatomy.final_norm
    if isinstance(norm, nn.LayerNorm):  # a vector of ones is its own mean
        to_logits = unembedding[some].to(head.precision) * norm.weight.to(head.precision)
        to_logits = to_logits - to_logits.mean(1, keepdim=True)
    else:
        to_logits = unembedding[some].to(head.precision) * (head.normalised(ones) - zero)[0]
    return embedding[some].to(head.precision).T @ to_logits
