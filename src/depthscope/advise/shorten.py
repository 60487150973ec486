"""A model without some of its layers, built in memory by its own code from a configuration of fewer layers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn

from depthscope.advise.layer_config import reduced
from depthscope.anatomy.anatomy import base_model, resolve, text_config
from depthscope.errors import BadInput, Refused
from depthscope.runtime.checkpoint import quiet
from depthscope.runtime.model import Model

Zeroed = Sequence[tuple[int, str]]
"""(layer, "attention" or "mlp"): sublayers that write nothing."""


def shortened(model: Model, kept: Iterable[int], zeroed: Zeroed = ()) -> Model:
    """A model without the layers that are not kept; weights are shared with the original, nothing of which changes.

    The network is built by its own class from the reduced configuration, so that the number of each layer, its cache
    slot, its mask and its kind are what a loaded checkpoint would have. Where a function depends on the number of a
    layer (GPT-2 with scale_attn_by_inverse_layer_idx, MiniCPM 3), weights or configuration make up for it.

    Args:
        kept: layers that stay; their order is the model's. zeroed: sublayers, numbered as in the original, whose output
            projection is zeroed besides: a preview of the quality without them, not of the speed.

    Raises:
        BadInput: for layers that do not exist, none, or a sublayer that the layer does not have.
        Refused: for models that cannot be built again with fewer layers; the reason is the message.
    """
    kept = checked(model, kept)
    config = reduced(cast(Any, model.net).config, kept, model.anatomy.n_layers)
    weights = _zeroed(model, {**model.net.state_dict(), **_folded(model, kept)}, kept, zeroed)
    net = _built(model, config, _renumbered(model, weights, kept), kept)
    family = model.anatomy.family
    anatomy = resolve(net, family, model.anatomy.name, model.anatomy.guessed)
    return Model(net, model.tokenizer, anatomy, _provenance(model, kept, zeroed))


def truncated(model: Model, blocks: int) -> Model:
    """The first blocks of a network and its final norm, without its head; weights are shared with the original.

    What it returns last is norm(state `blocks`): the state after that many blocks, through the final norm.

    Args:
        blocks: 1 to the number of layers.

    Raises:
        BadInput: for a number of blocks that the model does not have.
        Refused: for networks that transformers cannot load without a head, and where the configuration cannot say it.
    """
    depth, base = model.anatomy.n_layers, base_model(model.net)
    if not 1 <= blocks <= depth:
        raise BadInput(f"{model.name} cannot be cut to {blocks} blocks; it has {depth}, and 1 is the least")
    _encodes(model, base)
    family, name, guessed = model.anatomy.family, model.anatomy.name, model.anatomy.guessed
    headless = Model(base, model.tokenizer, resolve(base, family, name, guessed), model.provenance)
    kept = tuple(range(blocks))
    config = reduced(cast(Any, base).config, kept, depth)
    net = _built(headless, config, _renumbered(headless, base.state_dict(), kept), kept)
    said = _provenance(model, kept, ()) | {"name": f"{model.name}, first {blocks} of {depth} blocks"}
    return Model(net, model.tokenizer, resolve(net, family, name, guessed), said)


def _encodes(model: Model, base: nn.Module) -> None:
    """Nothing, where transformers loads the network without its head as what it is.

    Raises:
        Refused: otherwise, with the reason.
    """
    if model.anatomy.family.reads != "tokens":
        raise Refused(f"{model.name} reads {model.anatomy.family.reads}; only models that read text are cut")
    if (
        not isinstance(base, transformers.PreTrainedModel)
        or type(base.config) not in transformers.MODEL_MAPPING
    ):
        raise Refused(
            f"the network of {model.name} without its head is a {type(base).__name__}, which AutoModel does not load"
        )
    if text_config(base) is not base.config:
        raise Refused(
            f"{model.name} wraps a language model in a multimodal one; load the language model alone"
        )


def checked(model: Model, kept: Iterable[int]) -> tuple[int, ...]:
    """The layers that stay, ascending.

    Raises:
        BadInput: for layers that do not exist or are named twice, and for none.
        Refused: for networks that transformers cannot load as a causal language model, and where block 0 cannot go.
    """
    named, depth = [int(k) for k in kept], model.anatomy.n_layers
    wrong = sorted({k for k in named if not 0 <= k < depth})
    if wrong:
        raise BadInput(f"layers {wrong} do not exist; {model.name} has layers 0 to {depth - 1}")
    if not named or len(set(named)) < len(named):
        raise BadInput(f"the layers to keep must be at least one and each once, got {named}")
    exportable(model)
    if 0 not in named and model.anatomy.layers[0].pre is not None:
        raise Refused(
            f"block 0 of {model.name} holds the norm that every token goes through first; it cannot be removed"
        )
    return tuple(sorted(named))


def exportable(model: Model) -> None:
    """Nothing, where the network is one that transformers loads as a causal language model.

    Raises:
        Refused: otherwise, with the reason.
    """
    config = getattr(model.net, "config", None)
    known = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    if not model.anatomy.family.causal or not model.anatomy.has_unembedding():
        raise Refused(f"{model.name} is no causal language model; only those are shortened")
    if not isinstance(model.net, transformers.PreTrainedModel) or type(config) not in known:
        raise Refused(
            f"{model.name} is a {type(model.net).__name__}, which AutoModelForCausalLM does not load, so it has no "
            "checkpoint of that kind"
        )
    if text_config(model.net) is not config:
        raise Refused(
            f"{model.name} wraps a language model in a multimodal one; load the language model alone"
        )


def _built(model: Model, config: Any, weights: Mapping[str, Tensor], kept: Sequence[int]) -> nn.Module:  # noqa: ANN401
    """The network of a configuration, holding given weights; the parts that are computed come from the original."""
    old = cast(Any, model.net)
    try:
        with torch.device("meta"), quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = type(old)(config, **_without_pooler(old))
        net.load_state_dict(dict(weights), assign=True)
    except (RuntimeError, ValueError) as error:
        first = " ".join(str(error).split())[:300]
        raise Refused(
            f"the configuration of {model.name} does not describe the layers that would be left ({first}); "
            "remove other layers"
        ) from error
    buffers = _renumbered(model, dict(old.named_buffers()), kept)
    for name, buffer in net.named_buffers():
        if buffer.is_meta:
            owner, _, last = name.rpartition(".")
            net.get_submodule(owner).register_buffer(last, buffers[name].clone(), persistent=False)
    net.tie_weights()
    if getattr(old, "generation_config", None) is not None:
        net.generation_config = copy.deepcopy(old.generation_config)
    left = [name for name, tensor in (*net.named_parameters(), *net.named_buffers()) if tensor.is_meta]
    if left:
        raise Refused(f"{model.name} has no value for {left[:3]} with fewer layers")
    return net.requires_grad_(next(old.parameters()).requires_grad).eval()


def _without_pooler(net: Any) -> dict[str, bool]:  # noqa: ANN401  (an encoder without its head may or may not have one)
    """What an encoder is made with, so that it has no pooler where the original has none."""
    return {"add_pooling_layer": False} if getattr(net, "pooler", net) is None else {}


def _renumbered(model: Model, tensors: Mapping[str, Tensor], kept: Sequence[int]) -> dict[str, Tensor]:
    """Tensors by the names they have with the kept layers only."""
    names = {id(module): name for name, module in model.net.named_modules()}
    prefixes = {f"{names[id(layer.block)]}.": layer.index for layer in model.anatomy.layers}
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        prefix = next((p for p in prefixes if name.startswith(p)), None)
        if prefix is None:
            found[name] = tensor
        elif prefixes[prefix] in kept:
            before = prefix.removesuffix(f"{prefixes[prefix]}.")
            found[f"{before}{kept.index(prefixes[prefix])}.{name.removeprefix(prefix)}"] = tensor
    return found


def _folded(model: Model, kept: Sequence[int]) -> dict[str, Tensor]:
    """Query projections times (new number + 1) / (old number + 1), where scores are divided by the number + 1."""
    config = model.config
    if not getattr(config, "scale_attn_by_inverse_layer_idx", False):
        return {}
    names = {id(module): name for name, module in model.net.named_modules()}
    found: dict[str, Tensor] = {}
    for new, old in enumerate(kept):
        c_attn: Any = model.anatomy.layers[old].block.get_submodule("attn.c_attn")
        for part in ("weight", "bias"):
            tensor = getattr(c_attn, part).detach().clone()
            tensor[..., : config.hidden_size] *= (new + 1) / (old + 1)
            found[f"{names[id(c_attn)]}.{part}"] = tensor
    return found


def _zeroed(
    model: Model, weights: Mapping[str, Tensor], kept: Sequence[int], zeroed: Zeroed
) -> Mapping[str, Tensor]:
    """Weights with the last projection of some sublayers set to zero."""
    if not zeroed:
        return weights
    names = {id(module): name for name, module in model.net.named_modules()}
    found = dict(weights)
    for layer, word in zeroed:
        if word not in ("attention", "mlp") or layer not in kept:
            raise BadInput(
                f"cannot zero {word!r} of layer {layer}; name attention or mlp of a layer that is kept"
            )
        part = model.anatomy.layers[layer]
        sub = part.attn if word == "attention" else part.mlp
        if sub is None or sub.proj is None:
            raise Refused(f"layer {layer} of {model.name} has no {word} with an output projection to zero")
        if _shifts(sub.write):
            raise Refused(
                f"the {word} of layer {layer} of {model.name} goes through a norm with a bias, so zeros would not stay "
                "zeros"
            )
        for name, tensor in sub.proj.state_dict().items():
            found[f"{names[id(sub.proj)]}.{name}"] = torch.zeros_like(tensor)
    return found


def _shifts(write: nn.Module) -> bool:
    return isinstance(write, nn.LayerNorm) and getattr(write, "bias", None) is not None


def _provenance(model: Model, kept: Sequence[int], zeroed: Zeroed) -> dict[str, Any]:
    removed = [k for k in range(model.anatomy.n_layers) if k not in kept]
    words = ([f"without layers {', '.join(map(str, removed))}"] if removed else []) + [
        f"without the {word} of layer {layer}" for layer, word in zeroed
    ]
    own = {key: value for key, value in model.provenance.items() if key in ("revision", "license")}
    return {**own, "name": ", ".join([model.name, *words]), "kept": list(kept)}
