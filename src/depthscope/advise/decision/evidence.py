"""Measurements of one model, each kept by a journal: scores on tasks, lengths of answers, loss on a text, speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from depthscope.advise.cost import Cost, measured
from depthscope.advise.decision.subjects import Subject
from depthscope.advise.scoring import By, Scores, asked, score
from depthscope.advise.verification import ways
from depthscope.engine.journal import Journal
from depthscope.engine.provenance import hashed, identity
from depthscope.engine.reading import Reading
from depthscope.engine.source import Source
from depthscope.errors import BadInput
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.tasks import Task
from depthscope.measures.statistics import bootstrap_ratio
from depthscope.results.decision import Estimate
from depthscope.runtime.model import Model

PROMPT, ROOM = 128, 40
"""Tokens of a timed prompt, and positions that are left for what is written after it."""


def _unwatched(said: str) -> None:
    del said


@dataclass(frozen=True)
class Lengths:
    """Tokens of each item of a task: of its prompt, and of what a model wrote, by that model's own tokenizer."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Evidence:
    """What was measured of one model.

    Args:
        about: layers, hashes, family, chat template. scores: task -> way -> scores. lengths: by task.
        loss: nats a token on the calibration text. beside: the base timed again right after this model.
    """

    subject: Subject
    about: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, Scores]]
    lengths: Mapping[str, Lengths]
    cost: Cost
    loss: Estimate
    beside: Cost | None = None


@dataclass(frozen=True)
class Bench:
    """What every model is measured with.

    Args:
        journal: remembers each measurement by the model's stamp. reading: the calibration text; text: what changes
            when it does. chat: prompts go through the chat template. repeats: of timings.
    """

    journal: Journal
    tasks: Mapping[str, Task]
    reading: Reading
    text: str = "packaged sample"
    chat: bool = False
    repeats: int = 10
    seed: int = 0
    progress: Callable[[str], None] = _unwatched

    def measure(self, subject: Subject, loss: bool = True, base: Subject | None = None) -> Evidence:
        """Everything about one model; what the journal holds is not measured again, and the model not opened for it.

        With `base` that one is timed again right after: a machine that got slower in between slows both.
        """
        scores: dict[str, dict[str, Scores]] = {}
        lengths: dict[str, Lengths] = {}
        about = self._kept("about", subject, {}, _about)
        for name, task in self.tasks.items():
            self.progress(f"{subject.name}: {name}")
            key = {"task": task.hash, "chat": self.chat}
            scores[name] = {way: self._score(subject, task, way) for way in ways(task)}
            said = scores[name]["generation"].said
            found = self._kept("lengths", subject, key, lambda m, t=task, s=said: _lengths(m, t, s))
            lengths[name] = Lengths(tuple(found["prompt"]), tuple(found["answer"]))
        self.progress(f"{subject.name}: speed")
        timed = {"repeats": self.repeats, "threads": torch.get_num_threads()}
        cost = Cost.of(self._kept("cost", subject, timed, lambda m: _timed(m, self.repeats).as_dict()))
        beside = None
        if base is not None:
            key = {**timed, "beside": subject.stamp}
            beside = Cost.of(self._kept("cost", base, key, lambda m: _timed(m, self.repeats).as_dict()))
        lost = self.loss(subject) if loss else Estimate()
        return Evidence(subject, about, scores, lengths, cost, lost, beside)

    def loss(self, subject: Subject) -> Estimate:
        """Mean loss on the calibration text, with an interval over its documents."""
        key = {"text": self.text, "tokens": self.reading.tokens, "window": self.reading.window}
        found = self._kept("loss", subject, key, lambda model: text_loss(model, self.reading))
        sums, counts = np.asarray(found["sums"]), np.asarray(found["counts"])
        value, low, high = (float(part) for part in bootstrap_ratio(sums, counts, seed=self.seed))
        known = np.isfinite([low, high]).all()
        return Estimate(value, low if known else None, high if known else None, len(sums))

    def _score(self, subject: Subject, task: Task, way: By) -> Scores:
        key = {"task": task.hash, "by": way, "chat": self.chat}
        found = self._kept("score", subject, key, lambda m: score(m, task, way, chat=self.chat).as_dict())
        return Scores.of(found)

    def _kept(
        self, name: str, subject: Subject, key: Mapping[str, Any], compute: Callable[[Model], Any]
    ) -> Any:  # noqa: ANN401  (JSON of the step's own form)
        return self.journal.step(name, {**key, **subject.stamp}, lambda: compute(subject.model))


def text_loss(model: Model, reading: Reading) -> dict[str, list[float]]:
    """Sums of the loss in nats and counts of predicted tokens, by document (by window where documents are few).

    Raises:
        BadInput: when a loss is not finite.
    """
    source = Source.of("text", reading.windows(model))
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for window, unit in zip(source.windows.items, source.units, strict=True):
        ids = torch.tensor([window.ids], device=model.device)
        with torch.no_grad():
            logits = model.net(input_ids=ids, use_cache=False).logits[0, 1:-1]
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        lost = torch.nn.functional.cross_entropy(wide, ids[0, 2:], reduction="sum")
        sums[unit] = sums.get(unit, 0.0) + float(lost)
        counts[unit] = counts.get(unit, 0) + len(wide)
    if not np.isfinite(list(sums.values())).all():
        raise BadInput(f"{model.name} gives a loss that is not finite on the calibration text; try float32")
    return {"sums": list(sums.values()), "counts": [float(n) for n in counts.values()]}


def _about(model: Model) -> dict[str, Any]:
    model = hashed(model)
    return {
        **identity(model), "family": model.anatomy.name, "layers": model.anatomy.n_layers,
        "chat_template": bool(getattr(model.tokenizer, "chat_template", None)),
    }  # fmt: skip


def _timed(model: Model, repeats: int) -> Cost:
    """Speeds on prompts of PROMPT tokens, or of what a model with few positions can read."""
    longest = getattr(model.config, "max_position_embeddings", None) or PROMPT + ROOM
    return measured(model, prompt=max(1, min(PROMPT, longest - ROOM)), repeats=repeats)


def _lengths(model: Model, task: Task, said: tuple[str, ...]) -> dict[str, list[int]]:
    def count(text: str) -> int:
        return len(plain_ids(model.tokenizer, text))

    return {
        "prompt": [count(asked(item)) for item in task.items],
        "answer": [count(text) + 1 for text in said],
    }
