"""A lens: how a state is translated before the model's own head decodes it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.errors import BadInput


@dataclass(frozen=True, eq=False)
class Lens:
    """Translators of the states 0..L-1 into the language of state L: lens(h_s) = h_s + A_s h_s + b_s.

    The residual form makes an untrained lens (A = 0, b = 0) the logit lens exactly. State L is never translated.

    Args:
        kind: "logit", "ridge", "tuned", or what else it was fitted by. name: what results call it.
        weight: A, [L, d_model, d_model] float32; bias: b, [L, d_model] float32; both None for the logit lens.
        about: its card: model, data, tokens, quality, command.

    Raises:
        BadInput: when only one of weight and bias is given, or their shapes do not fit each other.

    Source: Belrose et al. 2023 (arXiv 2303.08112), section 3; nostalgebraist 2020 for the logit lens.
    """

    kind: str = "logit"
    name: str = "logit"
    weight: Float[Tensor, "layer d_model d_state"] | None = None
    bias: Float[Tensor, "layer d_model"] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.weight is None) != (self.bias is None):
            raise BadInput(f"lens {self.name}: a weight and a bias belong together, one of them is missing")
        if self.weight is None or self.bias is None:
            return
        n_layers, width = self.bias.shape
        if self.weight.shape != (n_layers, width, width):
            raise BadInput(
                f"lens {self.name}: a bias of {tuple(self.bias.shape)} wants weights of {(n_layers, width, width)}, "
                f"found {tuple(self.weight.shape)}"
            )

    @cached_property
    def identity(self) -> str:
        """A short digest of kind and numbers: equal lenses have equal ones."""
        digest = hashlib.sha256(self.kind.encode())
        for part in (self.weight, self.bias):
            if part is not None:
                digest.update(part.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def at(self, state: int, h: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """One state translated, in its own precision; the last state and the logit lens give it back as it is."""
        if self.weight is None or self.bias is None or state >= len(self.weight):
            return h
        weight, bias = self.weight[state].to(h), self.bias[state].to(h)
        return h + torch.nn.functional.linear(h, weight, bias)

    def __call__(self, states: Float[Tensor, "state ... d_model"]) -> Float[Tensor, "state ... d_model"]:
        """All L+1 states translated.

        Raises:
            BadInput: when there are not L+1 states of the lens's width.
        """
        if self.weight is None:
            return states
        n_layers, width, _ = self.weight.shape
        if states.shape[0] != n_layers + 1 or states.shape[-1] != width:
            raise BadInput(
                f"lens {self.name} translates {n_layers + 1} states of width {width}, "
                f"found {states.shape[0]} of width {states.shape[-1]}; it was fitted on another model"
            )
        return torch.stack([self.at(s, h) for s, h in enumerate(states)])


LOGIT = Lens()
"""The logit lens: nothing is translated."""
