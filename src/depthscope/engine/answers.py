"""Answered prompts one by one: what they ask, which position plays which part, and what the model answers by itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from depthscope.engine.tally import Rows
from depthscope.engine.view import View
from depthscope.materials.window import Window
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch
from depthscope.runtime.run import Seen, run

GROUPS = ("question", "last", "answer", "sink")
"""What a position is: of the question; its last one, which predicts the first answer token; an answer token; a sink."""
_CAP = 10**9
"""Rows kept of a material: all."""


@dataclass(frozen=True)
class Prompt:
    """One answered prompt, run alone and recorded.

    Args:
        seen: the pass, with all states and the calls of all blocks. sinks: its sinks. unit: its independent unit.
    """

    window: Window
    seen: Seen
    sinks: Bool[Tensor, " token"]
    unit: str

    @classmethod
    def of(cls, view: View, row: int) -> Prompt:
        """The prompt of one row of a shard, run once more by itself: replays of one row need a record of one row."""
        window = view.windows[row]
        seen = run(
            view.seen.model,
            Batch.of_ids([list(window.ids)]),
            read=["L0.resid_pre", "L*.resid_post"],
            record=True,
        )
        return cls(window, seen, view.sinks[row], view.units[row])

    @property
    def marks(self) -> Int[Tensor, " mark"]:
        """Positions that predict the answer tokens."""
        return torch.tensor(self.window.marks, device=self.seen.model.device)

    @property
    def gold(self) -> Int[Tensor, " mark"]:
        """The answer's ids."""
        return torch.tensor(self.window.about["gold"], device=self.seen.model.device)

    @cached_property
    def group(self) -> np.ndarray:
        """Place in GROUPS of each position; a sink that is the question's last position or an answer stays that."""
        order = np.arange(len(self.window.ids))
        first = self.window.marks[0]
        sink = self.sinks.cpu().numpy() & (order < first)
        return np.where(sink, 3, np.where(order < first, 0, np.where(order == first, 1, 2)))

    @cached_property
    def operand(self) -> np.ndarray:
        """Which number of the prompt each position belongs to, in order from 0; -1 where it is none."""
        found = np.full(len(self.window.ids), -1)
        for k, places in enumerate(self.window.about["operands"]):
            found[places] = k
        return found

    def answered(self) -> tuple[float, bool]:
        """Mean probability of the gold tokens, each behind the true ones before it, and whether all are on top."""
        final = self.seen[self.seen.model.anatomy.states()[-1]][0, self.marks]
        wanted = Decode(target=True, target_rank=True)
        trace = self.seen.model.head.decode(final[None], final, wanted, self.gold)
        assert trace.cross_entropy is not None
        assert trace.target_rank is not None
        return float((-trace.cross_entropy).double().exp().mean()), bool((trace.target_rank == 1).all())

    def by_position(self, **columns: np.ndarray) -> Rows:
        """Rows of a tally, one a position: the given columns with window, position, token, part, task and unit."""
        n = len(self.window.ids)
        shared = {
            "window": np.full(n, self.window.index),
            "position": np.arange(n),
            "token": np.array(self.window.about["tokens"], dtype=str),
            "group": self.group,
            "operand": self.operand,
            "task": np.full(n, self.window.about["task"]),
            "unit": np.full(n, self.unit),
        }
        key = np.uint64(self.window.index) * np.uint64(2**32) + np.arange(n, dtype=np.uint64)
        return Rows(key, {**shared, **columns}, _CAP)

    def by_prompt(self, **columns: np.ndarray) -> Rows:
        """One row of a tally for the prompt: the given columns with task, unit, and what the model answers."""
        probability, right = self.answered()
        shared = {
            "window": np.array([self.window.index]),
            "asked": np.array([f"{self.window.about['prompt']} {self.window.about['answer']}"]),
            "task": np.array([self.window.about["task"]]),
            "unit": np.array([self.unit]),
            "gold_probability": np.array([probability]),
            "right": np.array([float(right)]),
        }
        given = {name: np.asarray(value)[None] for name, value in columns.items()}
        return Rows(np.array([self.window.index], np.uint64), {**shared, **given}, _CAP)


def joined(parts: list[Rows]) -> Rows:
    """Rows of several prompts, one behind the other."""
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.add(part)
    return whole


def tasks_of(task: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the axis `task`, "all" first, and which items are in each, [item, task]."""
    names = np.unique(task)
    several = np.concatenate([["all"], names])
    return several, np.concatenate([np.ones((len(task), 1), bool), task[:, None] == names], 1)
