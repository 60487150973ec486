"""The course of a predictor's training: how long, how fast, and which targets count."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from depthscope.ranges import above, at_least, check_ranges

PATH = 0.1
"""Share of the rate that the linear path has."""


@dataclass(frozen=True)
class Course:
    """How predictors are trained; a state's training is the same whatever other states are trained beside it.

    AdamW on float32 weights, gradients of each predictor clipped to norm `clip`, the rate rising over `warmup` steps
    and falling along a half cosine to `floor`. The linear path from h_t has a tenth of it: it starts as a solution.

    Args:
        steps: steps in all. rows: windows a step.
        lr: the highest rate. warmup: steps, at most a tenth of all. decay: weight decay of matrices.
        skip_first: targets at positions below this do not count (position 0 never does).
        drop_sink: targets whose norm exceeds this many times the median do not count; 0 keeps all.
        check: steps between two points of the learning curves. save: steps between two checkpoints.
        half: matrix products in bfloat16, the loss and the weights in float32 (worth it on a GPU).
        minutes: the training also ends after this time, and the rate falls with it; 0 for no such end. What is then
            reached depends on the machine.
    """

    steps: int = 30_000
    rows: int = 32
    lr: float = 3e-4
    floor: float = 3e-5
    warmup: int = 1000
    betas: tuple[float, float] = (0.9, 0.95)
    decay: float = 0.01
    clip: float = 1.0
    skip_first: int = 4
    drop_sink: float = 20.0
    check: int = 100
    save: int = 100
    half: bool = False
    minutes: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(
            self,
            steps=at_least(1),
            rows=at_least(1),
            check=at_least(1),
            save=at_least(1),
            lr=above(0),
            clip=above(0),
            floor=at_least(0),
            warmup=at_least(0),
            decay=at_least(0),
            skip_first=at_least(0),
            drop_sink=at_least(0),
            minutes=at_least(0),
        )

    def over(self, step: int, seconds: float) -> bool:
        """True after the last step, or when the time is up."""
        return step >= self.steps or bool(self.minutes and seconds >= 60 * self.minutes)

    def rate(self, step: int, seconds: float = 0.0) -> float:
        """The rate of the step after `step` steps and so many seconds of training."""
        warm = min(self.warmup, self.steps // 10)
        if step < warm:
            return self.lr * (step + 1) / warm
        low = min(self.floor, self.lr)
        share = (step - warm) / max(1, self.steps - warm)
        if self.minutes:
            share = min(1.0, max(share, seconds / (60 * self.minutes)))
        return low + (self.lr - low) * 0.5 * (1 + math.cos(math.pi * share))

    def descent(self, net: nn.Module) -> torch.optim.Optimizer:
        """AdamW for one predictor; only matrices decay. `share` is what each group has of the rate."""
        kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in net.named_parameters():
            decay = self.decay if parameter.dim() > 1 else 0.0
            kinds.setdefault((decay, PATH if name.startswith("path.") else 1.0), []).append(parameter)
        groups = [
            {"params": found, "weight_decay": decay, "share": share}
            for (decay, share), found in kinds.items()
        ]
        local = all(parameter.device.type == "cpu" for parameter in net.parameters())
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, fused=local or None)


PAPER = Course(skip_first=0, drop_sink=0.0)
"""Every target counts, a sink at position 1 included; rates are not given in the source and are ours."""
ROBUST = Course()
COURSES = {"paper": PAPER, "robust": ROBUST}
