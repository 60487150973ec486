"""The training of predictors of several states from one teacher pass a step; it goes on where it was, bit for bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from depthscope.errors import NonFinite
from depthscope.fits.checkpoint import Checkpoint
from depthscope.fits.predictor_course import Course
from depthscope.fits.predictor_scores import Scores
from depthscope.fits.predictor_sums import Scale
from depthscope.fits.teacher import Streams, drawn, rows_together, taught
from depthscope.materials.window import Window
from depthscope.measures.predictability import DEFINITIONS
from depthscope.runtime.model import Model
from depthscope.runtime.predictor import Predictor, gaussian_nats

GUARD = 5
"""Steps of a state whose loss or gradient is not finite, over the whole training, before it gives up."""
TOKENS = 1024
"""Tokens of a batch whose gradients are taken together on a processor."""
Point = dict[str, Any]


@dataclass
class Training:
    """One training; each state has weights, moments and clipping of its own.

    Memory beyond the model: weights, gradients and two moments of each predictor, the streams of one batch, and those
    of `judge`, which are read once; on a processor what TOKENS tokens leave inside one predictor, and elsewhere what a
    batch leaves.

    Args:
        windows: to train on, of one length. judge: for the learning curves. nets: a predictor a state, trained in
            place. saved: called at every checkpoint with the step. teach: where streams come from.
    """

    model: Model
    windows: Sequence[Window]
    judge: Sequence[Window]
    course: Course
    nets: Mapping[int, Predictor]
    scale: Mapping[int, Scale]
    checkpoint: Checkpoint
    seed: int
    told: Callable[[int, int], None]
    saved: Callable[[int], None]
    teach: Callable[[Model, Sequence[Window], Sequence[int]], Streams] = taught
    step: int = 0
    skipped: int = 0
    seconds: float = 0.0
    curve: list[Point] = field(default_factory=list)

    def run(self) -> list[Point]:
        """Train to the last step; the points of the learning curves.

        Raises:
            NonFinite: when losses of GUARD steps were not finite.
        """
        self.descent = {s: self.course.descent(net) for s, net in self.nets.items()}
        self.sums = {s: torch.zeros(2, dtype=torch.float64, device=self.model.device) for s in self.nets}
        self._resume()
        judged = [self.teach(self.model, self.judge, list(self.nets))]
        if not self.curve:
            self._point(judged)
        while not self.course.over(self.step, self.seconds):
            begun = time.perf_counter()
            self._step()
            self.step += 1
            self.seconds += time.perf_counter() - begun
            self.told(self.step, self.course.steps)
            last = self.course.over(self.step, self.seconds)
            if self.step % self.course.check == 0 or last:
                self._point(judged)
            if self.step % self.course.save == 0 or last:
                self._save()
        return self.curve

    def _step(self) -> None:
        first = self.step * self.course.rows
        batch = list(drawn(self.windows, self.seed, first, first + self.course.rows))
        found = self.teach(self.model, batch, list(self.nets))
        for s, net in self.nets.items():
            loss, error = self._slope(s, net, found.of[s])
            norm = _clipped(net, self.course.clip)
            if bool(torch.isfinite(loss) & torch.isfinite(norm)):
                for group in self.descent[s].param_groups:
                    group["lr"] = group["share"] * self.course.rate(self.step, self.seconds)
                self.descent[s].step()
                self.sums[s] += torch.stack((error.double(), torch.ones_like(error, dtype=torch.float64)))
            else:
                self._guard(s)
            self.descent[s].zero_grad(set_to_none=True)

    def _slope(self, state: int, net: Predictor, stream: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and mean squared error of a batch; its gradient is left in the weights, added up over groups of rows."""
        kept = self.scale[state].kept(stream[:, 1:], self.course)
        count = max(1, int(kept.sum())) * stream.shape[-1]
        rows, sums = rows_together(stream.device, stream.shape[1], TOKENS), []
        for part, own in zip(stream.split(rows), kept.split(rows), strict=True):
            both = self._losses(net, part, own)
            (both[0] / count).backward()
            sums.append(torch.stack(both).detach())
        loss, error = torch.stack(sums).sum(0) / count
        return loss, error

    def _losses(self, net: Predictor, stream: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Summed over numbers: what is minimised, in units of the state, and the squared error in raw units."""
        read, h = stream[:, :-1], stream[:, 1:]
        with torch.autocast(stream.device.type, torch.bfloat16, enabled=self.course.half):
            both = net.distribution(read) if net.spread is not None else (net(read), None)
        expected, log_variance = (None if part is None else part.float() for part in both)
        assert expected is not None
        # not a product: a target that is left out may be infinite
        errors = torch.where(kept[..., None], h - expected, 0.0)
        error = errors.square().sum()
        loss = error / float(net.unit) ** 2
        if log_variance is not None:
            # The mean is detached: the variance describes what the mean leaves, and does not change it.
            nats = gaussian_nats(errors.detach(), torch.zeros_like(errors), log_variance)
            loss = loss + nats[kept].sum()
        return loss, error

    def _guard(self, state: int) -> None:
        self.skipped += 1
        if self.skipped >= GUARD:
            raise NonFinite(
                f"{self.skipped} losses were not finite by step {self.step}, the last of layer {state - 1}; lower the "
                "rate, use the robust preset, or load the model in float32 or bfloat16"
            )

    def _point(self, judged: Sequence[Streams]) -> None:
        """One point of the learning curves: losses since the last one, and R2 on the windows to judge on."""
        found: dict[str, Any] = {
            "step": self.step,
            "lr": self.course.rate(max(0, self.step - 1), self.seconds),
            "states": {},
        }
        for s, net in self.nets.items():
            scores = Scores()
            for each in judged:
                h = each.of[s][:, 1:]
                with torch.no_grad():
                    guess = {"predictor": net(each.of[s])[:, :-1]}
                units = torch.zeros(len(h), dtype=torch.long, device=h.device)
                scores.add(h, guess, torch.zeros(h.shape[:2], dtype=torch.bool, device=h.device), units, 1)
            total, steps = self.sums[s].tolist()
            found["states"][str(s)] = {
                "train": total / steps if steps else None, "eval": number(scores.mse("predictor")),
                **{
                    targets: {name: number(scores.r2("predictor", targets, name)) for name in DEFINITIONS}
                    for targets in ("all", "late", "trimmed")
                },
            }  # fmt: skip
            self.sums[s].zero_()
        self.curve.append(found)

    def _save(self) -> None:
        tensors: dict[str, Tensor] = {}
        for s, net in self.nets.items():
            for name, value in net.named_parameters():
                tensors[f"{s} {name}"] = value
                moments = self.descent[s].state.get(value, {})
                tensors |= {f"{s} {kind} {name}": v for kind, v in moments.items()}
            tensors[f"{s} sums"] = self.sums[s]
        self.checkpoint.save(
            tensors, self.step, {"curve": self.curve, "skipped": self.skipped, "seconds": self.seconds}
        )
        self.saved(self.step)

    def _resume(self) -> None:
        stored = self.checkpoint.load()
        if stored is None:
            return
        tensors, self.step = stored
        notes = self.checkpoint.notes()
        self.curve, self.skipped, self.seconds = notes["curve"], notes["skipped"], notes["seconds"]
        with torch.no_grad():
            for s, net in self.nets.items():
                self.sums[s].copy_(tensors[f"{s} sums"])
                for name, parameter in net.named_parameters():
                    parameter.copy_(tensors[f"{s} {name}"])
                    kinds = ("step", "exp_avg", "exp_avg_sq")
                    moments = {k: tensors[f"{s} {k} {name}"] for k in kinds if f"{s} {k} {name}" in tensors}
                    if moments:
                        moved = {k: v if k == "step" else v.to(parameter.device) for k, v in moments.items()}
                        self.descent[s].state[parameter] = moved


def number(value: float) -> float | None:
    """A number as JSON has it: None where it is not finite."""
    return value if math.isfinite(value) else None


def _clipped(net: Predictor, largest: float) -> Tensor:
    """Gradients scaled to a norm of at most `largest`, those of the variance by themselves; the larger norm."""
    spread = [] if net.spread is None else list(net.spread.parameters())
    apart = {id(parameter) for parameter in spread}
    rest = [parameter for parameter in net.parameters() if id(parameter) not in apart]
    norms = [torch.nn.utils.clip_grad_norm_(some, largest) for some in (rest, spread) if some]
    return torch.stack(norms).max()
