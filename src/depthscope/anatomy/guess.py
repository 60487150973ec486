"""The family of a network: declared by its model type, otherwise guessed from the names of its modules.

A guess covers the common layout only: one attention and one MLP a block, each added to the stream as it is.
It reads names and runs nothing, so it may be wrong: whoever uses it must first run the laws on the weights.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from depthscope.anatomy.anatomy import base_model, number, text_config, walk
from depthscope.anatomy.family import Family
from depthscope.errors import UnsupportedModel
from depthscope.registry import FAMILIES

if TYPE_CHECKING:
    from torch import nn

_ATTENTION = ("attn", "attention")
_OUTPUT = ("o_proj", "out_proj", "dense", "c_proj", "wo")
_MLP = ("mlp", "ffn", "feed_forward", "feedforward", "moe")
_LAST = ("down_proj", "c_proj", "fc2", "fc_out", "dense_4h_to_h", "w2", "wo")
_DEPTH = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_CONFIG_KEYS = {
    "parallel": ("use_parallel_residual", "parallel_attn"),
    "logit_scale": ("logit_scale",),
    "logit_divisor": ("logits_scaling",),
    "logit_cap": ("final_logit_softcapping",),
}


@functools.cache
def families_by_type() -> Mapping[str, str]:
    """Model type -> name of the family that declares it; the first call reads every family's file."""
    return {kind: name for name in FAMILIES for kind in FAMILIES[name].model_types}


def family_of(net: nn.Module) -> tuple[Family, str, bool]:
    """The family of a loaded network, its name (the model type where guessed), and whether it is guessed.

    Raises:
        UnsupportedModel: when no family declares the model type and no guess can be made; the message prints
            what was found and the literal to complete.
    """
    kind = str(text_config(net).model_type)
    name = families_by_type().get(kind)
    return (guess(net), kind, True) if name is None else (FAMILIES[name], name, False)


def guess(net: nn.Module) -> Family:
    """The literal that the names of a network's modules suggest.

    Blocks: the only ModuleList as long as the network is deep. In every block: the only child that is named
    like attention and has an output projection, and the only child that is named like an MLP. Final norm: the
    last norm among the base model's children. Blocks with one norm for two sublayers are taken as parallel.

    Raises:
        UnsupportedModel: when one of these is not found exactly once.
    """
    found = _Found.of(net)
    if len(found.lists) != 1 or len(found.attention) != 1 or len(found.mlps) != 1:
        raise UnsupportedModel(
            f"no family declares the architecture {text_config(net).model_type!r} and none can be guessed.\n"
            f"{describe(net)}\nAdd depthscope/anatomy/families/<name>.py:\n{literal(found.family(net))}"
        )
    return found.family(net)


def describe(net: nn.Module) -> str:
    """What a guess has to go by: block lists, the children of the first block, norms of the base model."""
    found = _Found.of(net)
    lines = [f"Lists of {found.depth} blocks: {', '.join(found.lists) or 'none'}."]
    lines += [f"Children of the first block: {_named(found.blocks[0])}."] if found.blocks else []
    lines += [
        f"Attention with an output projection: {', '.join(found.attention) or 'none'}. "
        f"MLP: {', '.join(found.mlps) or 'none'}.",
        f"Norms of {type(base_model(net)).__name__}: {', '.join(found.norms) or 'none'}.",
    ]
    return "\n".join(lines)


def literal(family: Family) -> str:
    """A family as the text of its file: imports and every field that is not at its default."""
    default = Family(model_types=(), blocks="")
    set_ = [(f.name, getattr(family, f.name)) for f in fields(Family)]
    body = "".join(
        f"    {name}={_quoted(value)},\n" for name, value in set_ if value != getattr(default, name)
    )
    return f"from depthscope.anatomy.family import Family\n\nFAMILY = Family(\n{body})\n"


def _quoted(value: object) -> str:
    return repr(value).replace("'", '"')


@dataclass(frozen=True)
class _Found:
    """Every candidate for each part of a guess."""

    depth: int
    lists: tuple[str, ...]
    blocks: tuple[nn.Module, ...]
    attention: tuple[str, ...]
    mlps: tuple[str, ...]
    norms: tuple[str, ...]

    @classmethod
    def of(cls, net: nn.Module) -> _Found:
        base, depth = base_model(net), number(text_config(net), *_DEPTH)
        lists = tuple(
            name
            for name, module in base.named_modules()
            if type(module).__name__ == "ModuleList" and len(list(module.children())) == depth
        )
        home = walk(base, lists[0]) if lists else None
        blocks = tuple(home.children()) if home is not None else ()
        norms = tuple(name for name, child in base.named_children() if _is_norm(child))
        return cls(depth, lists, blocks, _common(blocks, _is_attention), _common(blocks, _is_mlp), norms)

    def family(self, net: nn.Module) -> Family:
        """The literal; what was not found exactly once stands as "?"."""
        config: Any = text_config(net)
        attn, mlp = _only(self.attention), _only(self.mlps)
        first_block = self.blocks[0] if self.blocks else None
        keys = {
            field: next((k for k in names if getattr(config, k, None) is not None), None)
            for field, names in _CONFIG_KEYS.items()
        }
        return Family(
            model_types=(str(config.model_type),),
            blocks=_only(self.lists),
            attn=(attn,),
            attn_proj=_projections(self.blocks, attn, _OUTPUT) or (f"{attn}.?",),
            mlp=(mlp,),
            mlp_proj=_projections(self.blocks, mlp, _LAST),
            final_norm=self.norms[-1] if self.norms else None,
            logit_scale=keys["logit_scale"],
            logit_divisor=keys["logit_divisor"],
            logit_cap=keys["logit_cap"],
            parallel=keys["parallel"] or (first_block is not None and _has_one_norm(first_block)),
            causal="MaskedLM" not in type(net).__name__,
            reads="image" if getattr(net, "main_input_name", "input_ids") == "pixel_values" else "tokens",
            routed=any("experts" in name for block in self.blocks for name, _ in block.named_modules()),
        )


def _only(candidates: tuple[str, ...]) -> str:
    return candidates[0] if len(candidates) == 1 else "?"


def _common(blocks: tuple[nn.Module, ...], fits: Any) -> tuple[str, ...]:  # noqa: ANN401  (a predicate of name, module)
    """Names of the children that fit in every block."""
    each = [{name for name, child in block.named_children() if fits(name, child)} for block in blocks]
    return tuple(sorted(set.intersection(*each))) if each else ()


def _is_attention(name: str, child: nn.Module) -> bool:
    return _sounds(name, child, _ATTENTION) and any(hasattr(child, proj) for proj in _OUTPUT)


def _is_mlp(name: str, child: nn.Module) -> bool:
    return _sounds(name, child, _MLP) and not _sounds(name, child, _ATTENTION)


def _sounds(name: str, child: nn.Module, words: tuple[str, ...]) -> bool:
    said = (name.lower(), type(child).__name__.lower())
    return any(word in each for word in words for each in said) and not _is_norm(child)


def _is_norm(child: nn.Module) -> bool:
    return "norm" in type(child).__name__.lower()


def _has_one_norm(block: nn.Module) -> bool:
    return sum(_is_norm(child) for child in block.children()) == 1


def _projections(blocks: tuple[nn.Module, ...], child: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Paths of the last projections of a child that occur in some block."""
    paths = (f"{child}.{name}" for name in names)
    return tuple(path for path in paths if any(walk(block, path) is not None for block in blocks))


def _named(block: nn.Module) -> str:
    def each() -> Iterator[str]:
        for name, child in block.named_children():
            yield f"{name} ({type(child).__name__})"

    return ", ".join(each())
