"""Verification: a shortened model against the intact one on tasks, item by item, remembered step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from depthscope.advise.paired import Comparison, compared
from depthscope.advise.scoring import By, Scores, score
from depthscope.engine.journal import Journal
from depthscope.materials.tasks import Task
from depthscope.runtime.model import Model


@dataclass(frozen=True)
class Examiner:
    """Asks models the items of tasks; each answer sheet is a step of the journal.

    Args:
        margin: the loss that is allowed, 0..1; half of it for critical tasks. chat: through the chat template.
    """

    tasks: tuple[Task, ...]
    margin: float
    chat: bool
    seed: int
    journal: Journal

    def halves(self, final: bool) -> tuple[Task, ...]:
        """The half of each task's items to choose by, or the half that is reported."""
        return tuple(task.halves(self.seed)[final] for task in self.tasks)

    def sheet(self, model: Model, removed: Sequence[int], task: Task, by: By) -> Scores:
        """The scores of a model on a task; `removed` names the model in the journal."""
        about: dict[str, Any] = {"removed": list(removed), "task": task.name, "items": task.hash, "by": by}
        about["chat"] = self.chat
        return Scores.of(
            self.journal.step(
                "answers",
                about,
                lambda: score(model, task, by, chat=self.chat and by == "generation").as_dict(),
            )
        )

    def examined(
        self, base: Model, other: Model, removed: Sequence[int], final: bool
    ) -> tuple[tuple[Scores, Scores, Comparison], ...]:
        """Sheets of both models and their comparison, for each task and way of scoring."""
        found = []
        for task in self.halves(final):
            for by in ways(task):
                first, second = self.sheet(base, (), task, by), self.sheet(other, removed, task, by)
                margin = self.margin / 2 if task.critical else self.margin
                found.append((first, second, compared(first, second, margin, seed=self.seed)))
        return tuple(found)

    def broken(self, sheets: Sequence[tuple[Scores, Scores, Comparison]]) -> tuple[str, ...]:
        """Must-pass items that the intact model gets right and the other one wrong."""
        must = {(task.name, item.id) for task in self.tasks for item in task.items if item.must_pass}
        return tuple(
            f"{first.task} {item}"
            for first, second, _ in sheets
            for item, was, now in zip(first.ids, first.correct, second.correct, strict=True)
            if was and not now and (first.task, item) in must
        )


def ways(task: Task) -> tuple[By, ...]:
    """How a task is scored: by generation, a choice by likelihood of its options too."""
    return ("generation", "likelihood") if task.kind == "choice" else ("generation",)


def slack(comparisons: Sequence[Comparison]) -> float:
    """How far the worst task stays above its margin, by the seen differences; what candidates are chosen by."""
    return min((c.difference + c.margin for c in comparisons), default=0.0)
