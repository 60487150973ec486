"""What a predictor is made of: its design, the blocks that mix earlier positions, and what they remember.

Every block reads x [row token width] and gives [row token width]; row t sees positions up to t and no later one. A
block takes what it kept of earlier tokens and returns what it must keep, so that new tokens can be read alone. Its last
projection starts at 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from depthscope.errors import BadInput
from depthscope.ranges import at_least, check_names, check_ranges
from depthscope.runtime.predictor_attention import attended, turns

KINDS = ("attention", "mlp", "gru", "linear")
"""attention; attention followed by an MLP; a gated recurrent unit; one linear map of the last `window` states."""
NORMS = ("none", "standard", "rms")
"""Raw inputs; standardised and shortened where they are very long; standardised and scaled to root mean square 1."""
PATHS = ("none", "gain", "linear")
"""What h_t itself adds: nothing; g (h_t - mean) with one learned g; a learned matrix, which can start as a ridge."""
HEAD_DIM = 128


@dataclass(frozen=True)
class Design:
    """How one predictor is built.

    Args:
        kind: see KINDS. layers: blocks, or layers of the recurrent unit.
        heads, head_dim: 0 for the rule heads x head_dim = 4 d_model (32 x 128 at 1,024). An MLP is heads x head_dim
            wide inside, a recurrent unit half of that.
        norm: see NORMS. rope: rotary positions in attention. residual: see PATHS.
        window: positions that a prediction sees, its own included; 0 for all (1 for kind "linear").
        bias: biases in all projections. variance: also a diagonal log-variance, so that a token's novelty is in nats.

    Raises:
        UnknownName: for a kind, norm or residual that does not exist. BadInput: for sizes below what they mean.
    """

    kind: str = "attention"
    layers: int = 1
    heads: int = 0
    head_dim: int = 0
    norm: str = "standard"
    rope: bool = True
    residual: str = "linear"
    window: int = 0
    bias: bool = True
    variance: bool = False

    def __post_init__(self) -> None:
        check_names(self, kind=KINDS, norm=NORMS, residual=PATHS)
        check_ranges(self, layers=at_least(1), heads=at_least(0), head_dim=at_least(0), window=at_least(0))
        if self.kind == "gru" and self.window:
            raise BadInput(f"window={self.window}: a recurrent unit sees all positions; give window=0")
        if self.kind == "linear" and self.layers > 1:
            raise BadInput(f"layers={self.layers}: linear maps in a row are one linear map; give layers=1")

    def sized(self, width: int) -> Design:
        """The same design with heads and head_dim as numbers.

        The rule takes the largest power of two that divides 4 width and exceeds neither 128 nor the width.

        Raises:
            BadInput: where rotary positions meet an odd head_dim.
        """
        dim = self.head_dim or _head_dim(width)
        if self.rope and self.kind in ("attention", "mlp") and dim % 2:
            raise BadInput(f"head_dim={dim}: rotary positions turn pairs of dimensions; give an even one")
        return replace(self, heads=self.heads or max(1, 4 * width // dim), head_dim=dim)


PAPER = Design(norm="none", rope=False, residual="none")
"""One attention layer on raw states: no norm, no positions, no residual path, biases on."""
ROBUST = Design()
"""Standardised inputs of bounded length, rotary positions, a linear path from h_t."""
PRESETS = {"paper": PAPER, "robust": ROBUST}


class Memory(NamedTuple):
    """What a predictor keeps of the tokens it has read: how many, and each block's tensors."""

    length: int
    blocks: tuple[tuple[Tensor, ...], ...]


class Block(Protocol):
    """One mixing of positions."""

    def __call__(
        self, x: Tensor, seen: int, kept: tuple[Tensor, ...] | None
    ) -> tuple[Float[Tensor, "row token width"], tuple[Tensor, ...]]:
        """What the block gives for new tokens, `seen` tokens having gone before, and what to keep.

        Without `kept` (None) the tokens are a whole text, and what is returned to be kept means nothing.
        """
        ...


def block(design: Design, width: int) -> nn.Module:
    """One block of a sized design."""
    if design.kind == "gru":
        return Recurrent(design, width)
    if design.kind == "linear":
        return Lagged(design, width)
    return Attention(design, width)


class Attention(nn.Module):
    """Causal multi-head self-attention with an output projection, and an MLP behind it where the kind is "mlp"."""

    def __init__(self, design: Design, width: int) -> None:
        super().__init__()
        inner = design.heads * design.head_dim
        self.design = design
        self.qkv = nn.Linear(width, 3 * inner, bias=design.bias)
        self.out = nn.Linear(inner, width, bias=design.bias)
        wide = design.kind == "mlp"
        self.up = nn.Linear(width, inner, bias=design.bias) if wide else None
        self.down = nn.Linear(inner, width, bias=design.bias) if wide else None
        _zero(self.out, self.down)

    def forward(
        self, x: Float[Tensor, "row token width"], seen: int, kept: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Attention over what was kept and the new tokens."""
        whole = not kept and (not self.design.window or self.design.window >= x.shape[1])
        if kept is None and whole and _training(x):
            design, after = self.design, ()
            read = attended(x, self.qkv.weight, self.qkv.bias, design.heads, design.rope)
        else:
            read, after = self._read(x, seen, kept or (), whole)
        found = self.out(read)
        if self.up is not None and self.down is not None:
            found = found + self.down(functional.gelu(self.up(unit_rms(x + found))))
        return found, after

    def _read(
        self, x: Tensor, seen: int, kept: tuple[Tensor, ...], whole: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What all heads read, side by side, and the keys and values that later tokens can still see."""
        rows, tokens, _ = x.shape
        shape = (rows, tokens, 3, self.design.heads, self.design.head_dim)
        query, key, value = self.qkv(x).view(shape).permute(2, 0, 3, 1, 4)
        if self.design.rope:
            query, key = rotated(query, seen), rotated(key, seen)
        if kept:
            key, value = torch.cat((kept[0], key), 2), torch.cat((kept[1], value), 2)
        mask = None if whole else visible(tokens, key.shape[2], self.design.window).to(x.device)
        read = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=whole)
        after = tuple(_last(part, self.design.window - 1) for part in (key, value))
        return read.transpose(1, 2).reshape(rows, tokens, -1), after


def _training(x: Tensor) -> bool:
    """True where gradients are wanted on a processor, in the precision of the weights."""
    return torch.is_grad_enabled() and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


class Recurrent(nn.Module):
    """A gated recurrent unit (Cho et al. 2014) with an output projection."""

    def __init__(self, design: Design, width: int) -> None:
        super().__init__()
        hidden = max(1, design.heads * design.head_dim // 2)
        self.unit = nn.GRU(width, hidden, design.layers, bias=design.bias, batch_first=True)
        self.out = nn.Linear(hidden, width, bias=design.bias)
        _zero(self.out)

    def forward(
        self, x: Float[Tensor, "row token width"], seen: int, kept: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The recurrence from the kept hidden state."""
        del seen
        found, hidden = self.unit(x, kept[0] if kept else None)
        return self.out(found), (hidden,)


class Lagged(nn.Module):
    """One linear map of the last `window` inputs, zeros before the first."""

    def __init__(self, design: Design, width: int) -> None:
        super().__init__()
        self.lags = max(1, design.window)
        self.out = nn.Linear(self.lags * width, width, bias=design.bias)
        _zero(self.out)

    def forward(
        self, x: Float[Tensor, "row token width"], seen: int, kept: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The map at every new token."""
        del seen
        before = kept[0] if kept else x.new_zeros(x.shape[0], self.lags - 1, x.shape[2])
        joined = torch.cat((before, x), 1)
        lagged = joined.unfold(1, self.lags, 1).flatten(2)  # [row token width x lag]
        return self.out(lagged), (joined[:, joined.shape[1] - self.lags + 1 :],)


def rotated(
    heads: Float[Tensor, "row head token d_head"], first: int
) -> Float[Tensor, "row head token d_head"]:
    """Rotary positions first, first + 1, ...: pairs (j, j + d/2) turned by `turns`."""
    cos, sin = (t.to(heads.dtype) for t in turns(heads.shape[2], heads.shape[3], first, heads.device))
    a, b = heads.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def visible(tokens: int, keys: int, window: int) -> Bool[Tensor, "token key"]:
    """True where a new token may look: not at later ones, and at `window` positions at most (0: all)."""
    ahead = torch.arange(keys)[None] - torch.arange(keys - tokens, keys)[:, None]
    return (ahead <= 0) & (ahead > -window) if window else ahead <= 0


def unit_rms(x: Float[Tensor, "... width"]) -> Float[Tensor, "... width"]:
    """Vectors scaled to root mean square 1, without a gain: the next projection has one."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def _zero(*layers: nn.Linear | None) -> None:
    for each in layers:
        for parameter in () if each is None else each.parameters():
            nn.init.zeros_(parameter)


def _head_dim(width: int) -> int:
    dim = 1
    while 2 * dim <= min(HEAD_DIM, width) and 4 * width % (2 * dim) == 0:
        dim *= 2
    return dim


def _last(part: Tensor, positions: int) -> Tensor:
    """Keys or values that a later token can still see: all (positions < 0) or the last few."""
    return part if positions < 0 else part[:, :, max(0, part.shape[2] - positions) :]
