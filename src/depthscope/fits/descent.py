"""Gradient descent on all translators at once, each clipped and skipped by itself; its whole state can be saved."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Tensors = dict[str, Tensor]
"""Masters `weight` [state, d, d] and `bias` [state, d] in float32, or gradients, or moments of that shape."""
CLIPS = ("per_layer", "global", "none")


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with Nesterov momentum; weight decay is added to the gradient.

    lr is corrected for momentum: 0.1 = 1.0 x (1 - 0.9), a nominal step of 1.0 once momentum has built up.
    """

    lr: float = 0.1
    momentum: float = 0.9
    decay: float = 1e-3

    def start(self, masters: Tensors) -> Tensors:
        """Moments before the first step."""
        return {f"momentum.{name}": torch.zeros_like(value) for name, value in masters.items()}

    def step(self, masters: Tensors, grads: Tensors, moments: Tensors, share: float, fine: Tensor) -> None:
        """One step in place, with lr x share; states where `fine` is False keep masters and moments."""
        for name, value in masters.items():
            at = _over(fine, value)
            grad = grads[name] + self.decay * value
            before = moments[f"momentum.{name}"]
            after = self.momentum * before + grad
            before.copy_(torch.where(at, after, before))
            value.sub_(torch.where(at, self.lr * share * (grad + self.momentum * after), 0.0))


@dataclass(frozen=True)
class Adam:
    """Adam in its amsgrad form (Reddi et al. 2018), weight decay added to the gradient; each state counts its steps."""

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    decay: float = 0.0
    eps: float = 1e-8

    def start(self, masters: Tensors) -> Tensors:
        """Moments before the first step."""
        kinds = ("first", "second", "largest")
        moments = {
            f"{kind}.{name}": torch.zeros_like(value) for name, value in masters.items() for kind in kinds
        }
        return {**moments, "count": torch.zeros(len(masters["bias"]), device=masters["bias"].device)}

    def step(self, masters: Tensors, grads: Tensors, moments: Tensors, share: float, fine: Tensor) -> None:
        """One step in place, with lr x share; states where `fine` is False keep masters and moments."""
        moments["count"] += fine
        for name, value in masters.items():
            at, count = _over(fine, value), _over(moments["count"].clamp_min(1.0), value)
            grad = grads[name] + self.decay * value
            first, second, largest = (moments[f"{kind}.{name}"] for kind in ("first", "second", "largest"))
            first.copy_(torch.where(at, first.lerp(grad, 1 - self.beta1), first))
            second.copy_(torch.where(at, second.lerp(grad.square(), 1 - self.beta2), second))
            torch.maximum(largest, second, out=largest)
            scale = (largest / (1 - self.beta2**count)).sqrt() + self.eps
            value.sub_(torch.where(at, self.lr * share * first / (1 - self.beta1**count) / scale, 0.0))


def clipped(grads: Tensors, kind: str, largest: float = 1.0) -> None:
    """Scale gradients in place to a norm of at most `largest`, for each state by itself or over all together."""
    if kind == "none":
        return
    norms = sum(value.flatten(1).square().sum(1) for value in grads.values())
    assert isinstance(norms, Tensor)
    norms = norms.sqrt() if kind == "per_layer" else norms.sum().sqrt().expand(len(norms))
    shrink = (largest / norms.clamp_min(1e-30)).clamp_max(1.0)
    for value in grads.values():
        value.mul_(_over(shrink, value))


def finite(losses: Float[Tensor, " state"], grads: Tensors) -> Bool[Tensor, " state"]:
    """States whose loss and gradient are finite; the gradient of the others is set to zero."""
    fine = torch.isfinite(losses)
    for value in grads.values():
        fine = fine & torch.isfinite(value.flatten(1)).all(1)
    for value in grads.values():
        value.copy_(torch.where(_over(fine, value), value, 0.0))
    return fine


def _over(part: Tensor, like: Tensor) -> Tensor:
    """A value a state, shaped to multiply [state, ...]."""
    return part.view(-1, *(1,) * (like.dim() - 1))
