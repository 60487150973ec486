"""Anatomy: a family resolved on one network: sizes, modules of each site, norm, unembedding, scales."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from depthscope.anatomy.site import Site
from depthscope.errors import BadInput, Refused, UnsupportedModel

if TYPE_CHECKING:
    from torch import nn

    from depthscope.anatomy.family import Family, Paths

Kind = Literal["attention", "local", "ssm", "both", "none"]


@dataclass(frozen=True)
class Sublayer:
    """One resolved sublayer: the module, the module whose output is added, and the factor on that output."""

    module: nn.Module
    write: nn.Module
    scale: float
    proj: nn.Module | None

    def projected(self) -> nn.Module:
        """The module whose output sums the heads: the sublayer, or the projection where that is the write."""
        return self.write if self.write is self.proj else self.module


@dataclass(frozen=True)
class Layer:
    """One resolved block. `kind`: attention, local (sliding window), ssm, both (in parallel), none."""

    index: int
    block: nn.Module
    kind: Kind
    window: int | None
    attn: Sublayer | None
    ssm: Sublayer | None
    mlp: Sublayer | None
    pre: nn.Module | None

    def mixers(self) -> tuple[tuple[str, Sublayer], ...]:
        """The token-mixing sublayers of the block with the part their write is read as."""
        pairs = (("attn_out", self.attn), ("ssm_out", self.ssm))
        return tuple((part, sub) for part, sub in pairs if sub is not None)


@dataclass(frozen=True)
class Anatomy:
    """A family resolved on one network.

    Args:
        family: the literal it came from; `guessed` is True where no family was declared.
        d_head: width of one head's slice before the output projection (not d_model / n_heads).
        d_vocab: rows of the unembedding, 0 where there is none.
    """

    family: Family
    name: str
    guessed: bool
    layers: tuple[Layer, ...]
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    parallel: bool
    final_norm: nn.Module | None
    readout: tuple[nn.Module, ...]
    unembed: nn.Module | None
    logit_scale: float
    logit_cap: float | None

    @property
    def n_layers(self) -> int:
        """Number of blocks L; states are 0..L."""
        return len(self.layers)

    @property
    def kind_of_layer(self) -> tuple[Kind, ...]:
        """What mixes tokens in each layer."""
        return tuple(layer.kind for layer in self.layers)

    @property
    def window_of_layer(self) -> tuple[int | None, ...]:
        """Sliding window of each layer in tokens, None where attention is full."""
        return tuple(layer.window for layer in self.layers)

    @property
    def attention_layers(self) -> tuple[int, ...]:
        """Layers that have softmax attention heads."""
        return tuple(layer.index for layer in self.layers if layer.attn is not None)

    def write_parts(self) -> tuple[str, ...]:
        """Parts that some layer adds to the stream: any of attn_out, ssm_out, mlp_out."""
        every = [part for layer in self.layers for part, _ in layer.mixers()]
        every += ["mlp_out" for layer in self.layers if layer.mlp]
        return tuple(dict.fromkeys(every))

    def states(self) -> tuple[Site, ...]:
        """The L+1 states: the input of block 0, then the output of each block, before the final norm."""
        return (Site(0, "resid_pre"), *(Site(k, "resid_post") for k in range(self.n_layers)))

    def resolve(self, site: Site | str) -> Site:
        """The site with a non-negative layer, checked against this network.

        Raises:
            BadInput: when the layer or head does not exist.
            Refused: when the architecture has no such tensor; the reason is the message.
        """
        site = Site.parse(site)
        if site.layer is None:
            if site.part == "embed":
                return Site(0, "resid_pre")
            return site
        if not -self.n_layers <= site.layer < self.n_layers:
            raise BadInput(
                f"{site} asks for layer {site.layer}; {self.name} has layers 0 to {self.n_layers - 1}"
            )
        site = replace(site, layer=site.layer % self.n_layers)
        if site.head is not None and site.head >= self.n_heads:
            raise BadInput(f"{site} asks for head {site.head}; {self.name} has heads 0 to {self.n_heads - 1}")
        reason = self._lacks(self.layers[site.layer or 0], site)
        if reason:
            raise Refused(f"{site} cannot be read in {self.name}: {reason}")
        return site

    def _lacks(self, layer: Layer, site: Site) -> str:
        part = site.part
        if part in ("attn_in", "attn_out", "head_out") and layer.attn is None:
            return f"layer {layer.index} has no attention (it is {layer.kind})"
        if part == "ssm_out" and layer.ssm is None:
            return f"layer {layer.index} has no state-space, linear or convolution mixer"
        if part in ("mlp_in", "mlp_out", "mlp_hidden") and layer.mlp is None:
            return f"layer {layer.index} has no MLP sublayer"
        if part == "mlp_hidden" and (layer.mlp is None or layer.mlp.proj is None):
            return "the family names no last projection of the MLP (mlp_proj)"
        if part == "resid_mid" and self.parallel:
            return "its blocks are parallel: both sublayers read resid_pre, there is no stream between them"
        if part == "resid_mid" and not layer.mixers():
            return f"layer {layer.index} has no mixer before its MLP"
        return ""

    def expand(self, pattern: Site | str) -> tuple[Site, ...]:
        """Sites of a pattern: `L*.attn_out` means every layer that has one; anything else is one site."""
        if isinstance(pattern, Site) or not pattern.startswith("L*."):
            return (self.resolve(pattern),)
        part = pattern.removeprefix("L*.")
        every = [Site.parse(f"L{layer.index}.{part}") for layer in self.layers]
        found = tuple(s for s, layer in zip(every, self.layers, strict=True) if not self._lacks(layer, s))
        return found or (self.resolve(every[0]),)

    def has_unembedding(self) -> bool:
        """True where states can be decoded to tokens."""
        return self.unembed is not None and self.family.reads == "tokens"


def walk(root: nn.Module, path: str) -> nn.Module | None:
    """The module at a dotted path, or None where a step is missing."""
    found: Any = root
    for step in path.split(".") if path else ():
        found = getattr(found, step, None)
        if found is None:
            return None
    return found


def first(root: nn.Module, paths: Iterable[str]) -> nn.Module | None:
    """The first of several paths that exists."""
    return next((m for m in (walk(root, p) for p in paths) if m is not None), None)


def resolve(net: nn.Module, family: Family, name: str, guessed: bool = False) -> Anatomy:
    """Resolve a family on a loaded network.

    Raises:
        UnsupportedModel: when a named path does not exist; it says which and what is there.
    """
    base, config = base_model(net), text_config(net)
    blocks = walk(base, family.blocks)
    if blocks is None:
        there = ", ".join(n for n, _ in base.named_children())
        raise UnsupportedModel(
            f"family {name!r} says blocks are at {family.blocks!r}; {type(base).__name__} has: {there}"
        )
    layers = tuple(_layer(k, block, family, config) for k, block in enumerate(_modules(blocks)))
    unembed = (
        net.get_output_embeddings()  # pyright: ignore[reportCallIssue]
        if family.reads == "tokens" and hasattr(net, "get_output_embeddings")
        else None
    )
    attn = next((x.attn for x in layers if x.attn is not None), None)
    n_heads = number(config, "num_attention_heads", "n_head", "num_heads") if attn else 0
    return Anatomy(
        family=family,
        name=name,
        guessed=guessed,
        layers=layers,
        n_heads=n_heads,
        n_kv_heads=number(config, "num_key_value_heads", default=n_heads) if attn else 0,
        d_model=number(config, "hidden_size", "n_embd", "d_model"),
        d_head=_in_features(attn.proj) // n_heads if attn and attn.proj is not None else 0,
        d_mlp=_width_of_mlp(layers, config),
        d_vocab=int(unembed.weight.shape[0]) if unembed is not None else 0,
        parallel=bool(getattr(config, family.parallel))
        if isinstance(family.parallel, str)
        else family.parallel,
        final_norm=walk(base, family.final_norm) if family.final_norm else None,
        readout=tuple(m for m in (walk(net, p) for p in family.readout) if m is not None),
        unembed=unembed,
        logit_scale=_logit_scale(config, family),
        logit_cap=getattr(config, family.logit_cap, None) if family.logit_cap else None,
    )


def base_model(net: nn.Module) -> nn.Module:
    """The network without its head, as transformers names it; the network itself where it has no head."""
    found = getattr(net, "base_model", net)
    decoder = getattr(found, "language_model", None)
    return decoder if decoder is not None else found


def text_config(net: nn.Module) -> Any:  # noqa: ANN401  (a transformers configuration)
    """The configuration that holds the sizes, also where a multimodal one wraps it."""
    config: Any = net.config
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def number(config: object, *keys: str, default: int | None = None) -> int:
    """The first of several config keys that is set.

    Raises:
        UnsupportedModel: when none is set and there is no default.
    """
    for key in keys:
        value = getattr(config, key, None)
        if value is not None:
            return int(value)
    if default is None:
        raise UnsupportedModel(
            f"{type(config).__name__} has none of {', '.join(keys)}; the family needs one of them"
        )
    return default


def _modules(blocks: nn.Module) -> Iterator[nn.Module]:
    yield from blocks.children()


def _layer(index: int, block: nn.Module, family: Family, config: object) -> Layer:
    proj = first(block, family.attn_proj)
    attn = (
        _sublayer(block, config, family.attn, family.attn_write, family.attn_scale, proj)
        if proj is not None
        else None
    )
    if family.attn and not family.attn_proj:
        attn = _sublayer(block, config, family.attn, family.attn_write, family.attn_scale, None)
    alone = attn is None or not set(family.attn) & set(family.ssm)
    ssm = _sublayer(block, config, family.ssm, family.ssm_write, family.ssm_scale, None) if alone else None
    mlp = _sublayer(
        block, config, family.mlp, family.mlp_write, family.mlp_scale, first(block, family.mlp_proj)
    )
    window = _window(index, config) if attn is not None else None
    kind: Kind = (
        "both"
        if attn and ssm
        else "ssm"
        if ssm
        else "none"
        if not attn
        else "local"
        if window
        else "attention"
    )
    pre = walk(block, family.pre) if family.pre else None
    return Layer(index, block, kind, window, attn, ssm, mlp, pre)


def _sublayer(
    block: nn.Module, config: object, paths: Paths, write: Paths, scale: str | None, proj: nn.Module | None
) -> Sublayer | None:
    module = first(block, paths)
    if module is None:
        return None
    factor = 1.0 if scale is None else float(getattr(block, scale, getattr(config, scale, 1.0)))
    return Sublayer(module, first(block, write) or module, factor, proj)


def _window(index: int, config: object) -> int | None:
    kinds = getattr(config, "layer_types", None)
    size = getattr(config, "sliding_window", None)
    if kinds is not None:
        return int(size) if size and kinds[index] in ("sliding_attention", "attention_sliding") else None
    attention_window = getattr(config, "attention_window_size", None)
    if attention_window:
        return int(attention_window)
    return int(size) if size and getattr(config, "use_sliding_window", True) else None


def _in_features(proj: nn.Module) -> int:
    if hasattr(proj, "in_features"):
        return int(proj.in_features)  # pyright: ignore[reportArgumentType]
    return int(proj.weight.shape[0])  # pyright: ignore[reportArgumentType, reportIndexIssue]  (Conv1D stores (in, out))


def _width_of_mlp(layers: tuple[Layer, ...], config: object) -> int:
    """What the widest MLP's last projection receives; the config's word where none is named (experts)."""
    widths = [_in_features(x.mlp.proj) for x in layers if x.mlp is not None and x.mlp.proj is not None]
    if widths or not any(x.mlp for x in layers):
        return max(widths, default=0)
    return number(config, "intermediate_size", "n_inner", "ffn_dim", default=0)


def _logit_scale(config: object, family: Family) -> float:
    up = float(getattr(config, family.logit_scale, None) or 1.0) if family.logit_scale else 1.0
    down = float(getattr(config, family.logit_divisor, None) or 1.0) if family.logit_divisor else 1.0
    return up / down
