"""The training of translators: steps over hash-ordered windows, checks on validation text, and how it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.engine.shard import hashed
from depthscope.errors import NonFinite
from depthscope.fits.checkpoint import Checkpoint
from depthscope.fits.descent import Adam, Sgd, Tensors, clipped, finite
from depthscope.fits.goals import Aim
from depthscope.fits.states import Split, batches, read
from depthscope.fits.watch import Watch
from depthscope.materials.window import Window
from depthscope.runtime.lens_step import Goal, fused_loss
from depthscope.runtime.model import Model

POSITIONS = 256
"""Positions that pass through the vocabulary together."""
GUARD = 5
"""States with a loss or gradient that is not finite, over all steps, before a training gives up."""


@dataclass(frozen=True)
class Course:
    """How long and how a training goes.

    Args:
        steps, windows: steps, and windows a step. positions: positions trained on in a window, 0 for all but sinks.
        descent: the rule of a step; its rate falls linearly to 0 over the steps. clip: gradients to norm 1.
        check: steps between two checks, each of which is also written to the disk. gain: relative gain on the
            validation text between two checks below which the training ends, 0 to go on to the last step. validate:
            positions of the validation text. best: each state ends as it was at its best check, the start included, and
            not as it was at the last step.
    """

    steps: int
    windows: int
    positions: int = 0
    descent: Sgd | Adam = field(default_factory=Sgd)
    clip: str = "per_layer"
    check: int = 25
    gain: float = 0.005
    validate: int = 128
    best: bool = True
    seed: int = 0


@dataclass
class Training:
    """One training of some states' translators; `run` goes on from its checkpoint and is deterministic.

    Args:
        states: which states, in order of the masters' rows. masters: weight and bias in float32, changed in place.
    """

    model: Model
    parts: Split
    course: Course
    aim: Aim
    states: tuple[int, ...]
    masters: Tensors
    checkpoint: Checkpoint
    watch: Watch
    step: int = 0
    skipped: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """Train to the end; what happened, as JSON for the card.

        Raises:
            NonFinite: when losses of GUARD states were not finite.
        """
        self.moments = self.course.descent.start(self.masters)
        self.best = {f"best.{name}": value.clone() for name, value in self.masters.items()}
        self._resume()
        fixed = list(self._validation())
        each = self.course.windows * max(len(w.ids) for w in self.parts.train)
        if not self.history:
            self._check(fixed)
        while self.step < self.course.steps and not self._settled():
            losses, grads = self._gradient()
            fine = finite(losses, grads)
            self._guard(fine)
            clipped(grads, self.course.clip)
            self.course.descent.step(
                self.masters, grads, self.moments, 1 - self.step / self.course.steps, fine
            )
            self.step += 1
            self.watch.progress("fit", self.step * each, self.course.steps * each)
            if self.step % self.course.check == 0 or self.step == self.course.steps:
                self._check(fixed)
        if self.course.best:
            for name, value in self.masters.items():
                value.copy_(self.best[f"best.{name}"])
        passes = self.step * self.course.windows / len(self.parts.train)
        return {"steps": self.step, "passes": passes, "skipped": self.skipped, "history": self.history}

    def _resume(self) -> None:
        stored = self.checkpoint.load()
        if stored is None:
            return
        tensors, self.step = stored
        for own in (self.masters, self.moments, self.best):
            for name, value in own.items():
                value.copy_(tensors[name])
        notes = self.checkpoint.notes()
        self.skipped, self.history = notes["skipped"], notes["history"]

    def _check(self, fixed: Sequence[tuple[Tensor, Goal]]) -> None:
        """Loss of each state on the validation positions, told and written down."""
        with torch.no_grad():
            sums = torch.stack([self._losses(states, goal).sum(1) for states, goal in fixed])
        losses = (sums.double().sum(0) / sum(states.shape[1] for states, _ in fixed)).tolist()
        for k, loss in enumerate(losses):
            if all(loss < each["loss"][k] for each in self.history):
                for name, value in self.masters.items():
                    self.best[f"best.{name}"][k] = value[k]
        self.history.append({"step": self.step, "loss": losses})
        place = self.step * self.course.windows
        notes = {
            "skipped": self.skipped,
            "history": self.history,
            "next_window": place,
            "pass": self._pass(place),
        }
        self.checkpoint.save({**self.masters, **self.moments, **self.best}, self.step, notes)
        self.watch.losses(self.step, losses)

    def _settled(self) -> bool:
        """True where the last check gained less than asked for over the one before."""
        if len(self.history) < 2 or not self.course.gain:
            return False
        before, after = (sum(each["loss"]) for each in self.history[-2:])
        return after > before * (1 - self.course.gain)

    def _guard(self, fine: Tensor) -> None:
        self.skipped += int((~fine).sum())
        if self.skipped >= GUARD:
            which = [self.states[k] for k in (~fine).nonzero()[:, 0].tolist()]
            raise NonFinite(
                f"the loss of {self.skipped} states was not finite by step {self.step}, the last of states {which}; "
                "lower the rate, clip per layer, or load the model in float32 or bfloat16"
            )

    def _gradient(self) -> tuple[Float[Tensor, " state"], Tensors]:
        """Mean loss a state over the positions of one step, and its gradient."""
        leaves = {name: value.requires_grad_() for name, value in self.masters.items()}
        grads = {name: torch.zeros_like(value) for name, value in leaves.items()}
        total, count = torch.zeros(len(self.states), device=self.model.device), 0
        for states, goal in self._material():
            loss = self._losses(states, goal).sum(1)
            found = torch.autograd.grad(loss.sum(), list(leaves.values()))
            for name, part in zip(leaves, found, strict=True):
                grads[name] += part
            total += loss.detach()
            count += states.shape[1]
        for value in leaves.values():
            value.requires_grad_(False)
        for value in grads.values():
            value.div_(max(1, count))
        return total / max(1, count), grads

    def _losses(self, states: Tensor, goal: Goal) -> Float[Tensor, "state position"]:
        weight, bias = (self.masters[name].to(states.dtype) for name in ("weight", "bias"))
        translated = torch.baddbmm(states + bias[:, None], states, weight.mT)
        return fused_loss(self.model.head, translated, goal)

    def _material(self) -> Iterator[tuple[Tensor, Goal]]:
        """States and goals of the step, at most POSITIONS together."""
        first = self.step * self.course.windows
        for draw, windows in self._drawn(first, first + self.course.windows):
            for batch in batches(windows):
                found = read(self.model, batch)
                at, goal = self.aim.picked(
                    self.model, found, self.course.positions or found.kept.shape[1], draw
                )
                yield from self._blocks(found.states(at), goal)

    def _blocks(self, states: Tensor, goal: Goal) -> Iterator[tuple[Tensor, Goal]]:
        own = states[list(self.states)]
        for start in range(0, own.shape[1], POSITIONS):
            here = torch.arange(start, min(start + POSITIONS, own.shape[1]), device=own.device)
            yield own[:, here], goal.at(here)

    def _pass(self, place: int) -> int:
        return place // len(self.parts.train)

    def _drawn(self, start: int, stop: int) -> Iterator[tuple[int, list[Window]]]:
        """Windows number start to stop of the endless row of passes; each pass has its own order, by hash."""
        train = self.parts.train
        index = np.array([w.index for w in train])
        for draw in range(self._pass(start), self._pass(stop - 1) + 1):
            order = np.argsort(hashed(index, np.full_like(index, draw), self.course.seed + 2), kind="stable")
            first = draw * len(train)
            some = order[max(0, start - first) : stop - first]
            yield draw, [train[int(k)] for k in some]

    def _validation(self) -> Iterator[tuple[Tensor, Goal]]:
        """Fixed positions of the validation text with the plain goal: nothing reduced."""
        plain = Aim(self.aim.objective, teacher=self.aim.teacher, seed=self.aim.seed)
        left = self.course.validate
        spread = max(1, -(-left // max(1, len(self.parts.validation))))
        for batch in batches(self.parts.validation):
            found = read(self.model, batch)
            at, goal = plain.picked(self.model, found, spread, 0)
            yield from self._blocks(found.states(at), goal)
            left -= int(at.sum())
            if left <= 0:
                return
