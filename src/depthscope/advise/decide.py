"""Decide: whether a shallower model may do the work, step by step, each measurement remembered by a journal.

Steps: task sheet, baseline, depth diagnosis, smaller siblings, pruning ladder, stress, width and retraining, rollout.
The work can stop after any; the same call goes on and repeats nothing. What comes out is a `Decision`: numbers and
keyed sentences, which `report.decision` renders.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from depthscope.advise.decision.closing import Gathered, concluded, sketch
from depthscope.advise.decision.compare import Matter, base_row, hints, row
from depthscope.advise.decision.diagnosis import diagnosed, prompts
from depthscope.advise.decision.evidence import Bench, Evidence
from depthscope.advise.decision.folder import held
from depthscope.advise.decision.ladder import rungs, sizes
from depthscope.advise.decision.matters import matters, noticed
from depthscope.advise.decision.retraining import healing
from depthscope.advise.decision.sentences import depth, halves, ladder, on_task
from depthscope.advise.decision.sheet import Sheet
from depthscope.advise.decision.stress import stressed
from depthscope.advise.decision.subjects import Subject, named, stamped, without
from depthscope.advise.decision.width import narrowed, spoken
from depthscope.engine.journal import Journal
from depthscope.engine.reading import Reading
from depthscope.errors import EmptyMaterial, Refused
from depthscope.results.decision import STEPS, Decision, Depth, Said, Step, TaskFound, Variant, Width
from depthscope.results.decoding import decoded

Progress = Callable[[str], None]
ROLLOUT = ("shadow", "canary", "accuracy", "form", "length", "rollback")


def quiet(said: str) -> None:
    """Progress that nobody watches."""
    del said


def decide(sheet: Sheet, out: Path, *, command: str = "", progress: Progress = quiet) -> Decision:
    """Walk the steps of a sheet up to its `stop_after`.

    Args:
        out: folder of the journal and of the audit behind the depth diagnosis; the same folder resumes.
        command: kept in the provenance. progress: called with what is measured next.

    Raises:
        StoreError: when the folder holds something else, or another process works in it.
        What loading the models, reading the tasks and measuring raise.
    """
    found = matters(sheet)  # before the folder is made: a wrong input leaves nothing behind
    with held(out):
        return _Procedure(sheet, out, found, command, progress).walk()


class _Procedure:
    """One decision at work; every step adds to what the later ones stand on."""

    def __init__(
        self, sheet: Sheet, out: Path, found: tuple[Matter, ...], command: str, progress: Progress
    ) -> None:
        self.sheet, self.out, self.matters, self.command, self.progress = sheet, out, found, command, progress
        self.text = stamped(sheet.text) if sheet.text else "packaged sample"
        reading = Reading(sheet.text or None, tokens=sheet.tokens)
        tasks = {m.task.name: m.task for m in found}
        journal = Journal(out / "journal", "decision", "")
        self.bench = Bench(
            journal, tasks, reading, self.text, sheet.chat, sheet.repeats, sheet.seed, progress
        )
        label = Path(sheet.model).name
        self.base = named(label, "base", sheet.model, sheet.revision, sheet.dtype, sheet.device)
        self.evidence: dict[str, Evidence] = {}
        self.rows: list[Variant] = []
        self.hints: dict[str, dict[str, TaskFound]] = {}
        self.depth: Depth | None = None
        self.width: Width | None = None
        self.late_at = time.monotonic() + 60 * sheet.minutes if sheet.minutes else float("inf")
        self.out_of_time = False

    def walk(self) -> Decision:
        """All steps up to the last one asked for; those not reached are marked."""
        steps: list[Step] = []
        for number, name in enumerate(STEPS, start=1):
            if number > self.sheet.stop_after or self.out_of_time:
                steps.append(Step(number, "stopped"))
                continue
            self.progress(f"step {number}: {name.replace('_', ' ')}")
            done: Step = getattr(self, f"_{name}")(number)
            steps.append(done if not self.out_of_time else replace(done, state="stopped"))
        return concluded(self._gathered(), tuple(steps))

    def _task_sheet(self, number: int) -> Step:
        return Step(number, "done", noticed([m.line for m in self.matters]))

    def _baseline(self, number: int) -> Step:
        found = self.bench.measure(self.base)
        self.evidence[self.base.name] = found
        self.rows.append(base_row(found, self.matters, self.sheet.prices))
        said = [
            Said.of(
                f"baseline.{one.reason}",
                task=one.task,
                score=one.score,
                threshold=m.line.threshold,
                allowed=m.line.allowed_drop,
            )
            for one, m in zip(self.rows[0].tasks, self.matters, strict=True)
            if one.reason
        ]
        return Step(number, "done", tuple(said))

    def _depth(self, number: int) -> Step:
        texts = prompts([m.task for m in self.matters], self.sheet.prompts, self.sheet.seed)
        digest, seed = _digest(*texts), self.sheet.seed
        folder = f"depth/{digest}"
        stored = self._diagnosed(
            "depth",
            {"prompts": digest},
            lambda: diagnosed(self.base.model, texts, self.out / folder, seed, folder),
        )
        if "refused" in stored:
            return Step(number, "not_evaluated", (Said.of("depth.refused", reason=stored["refused"]),))
        self.depth = decoded(Depth, stored)
        asked = sketch(self._gathered())
        return Step(number, "done", (depth(asked), *halves(asked)))

    def _diagnosed(
        self, name: str, about: dict[str, Any], measured: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """What an audit of the base says, remembered; where the base cannot answer, the reason as `refused`."""

        def attempted() -> dict[str, Any]:
            try:
                return measured()
            except (Refused, EmptyMaterial) as reason:
                return {"refused": str(reason)}

        return self.bench.journal.step(name, {**self.base.stamp, **about, "seed": self.sheet.seed}, attempted)

    def _shallow_first(self, number: int) -> Step:
        found = [one for one in self._named() if one.kind == "sibling"]
        self._compared(found)
        return Step(number, "done", self._said_of(found) or (Said.of("shallow.none"),))

    def _pruning_ladder(self, number: int) -> Step:
        given = [one for one in self._named() if one.kind != "sibling"]
        self._compared(given)
        layers = int(self.evidence[self.base.name].about["layers"])
        tried = self._late() or rungs(
            self.base, self.bench.reading, sizes(self.sheet.ladder, layers), self.bench.journal, self.text
        )
        if tried is True:
            return Step(number, "done", (*self._said_of(given), Said.of("ladder.time")))
        if tried.refused and not tried.sets:
            return Step(
                number, "done", (*self._said_of(given), Said.of("ladder.refused", reason=tried.refused))
            )
        ends = self._climbed([without(self.base, removed) for removed in tried.sets])
        climbed = [one for one in self.rows if one.kind == "ladder"]
        closing = (Said.of("ladder.time"),) if self.out_of_time else ladder(climbed, ends)
        return Step(number, "done", (*self._said_of(given), *closing))

    def _climbed(self, subjects: Iterable[Subject]) -> bool:
        """Measure rung by rung; True where the ladder ended because every task broke a limit."""
        for subject in subjects:
            self._compared([subject])
            found = self.hints.get(subject.name, {})
            if found and all(one.verdict == "reject" for one in found.values()):
                return True
        return False

    def _stress(self, number: int) -> Step:
        return Step(number, "done", stressed(self.rows, self.rows[0]))

    def _width_and_retraining(self, number: int) -> Step:
        about = {"text": self.text, "tokens": self.sheet.tokens}
        folder, reading = f"width/{_digest(self.text, str(self.sheet.tokens))}", self.bench.reading
        stored = self._diagnosed(
            "width",
            about,
            lambda: narrowed(self.base.model, reading, self.out / folder, self.sheet.seed, folder),
        )
        if "refused" in stored:
            said = (Said.of("width.refused", reason=stored["refused"]), Said.of("width.not_evaluated"))
        else:
            self.width = decoded(Width, stored)
            said = spoken(self.width)
        cost = self.evidence[self.base.name].cost
        return Step(number, "done", (*said, healing(cost, self.sheet.healing_tokens, self.sheet.repeats)))

    def _rollout(self, number: int) -> Step:
        return Step(number, "done", tuple(Said.of(f"rollout.{name}") for name in ROLLOUT))

    def _named(self) -> list[Subject]:
        """The alternatives of the sheet."""
        return [
            named(
                one.name, one.kind, one.model, one.revision, one.dtype, self.sheet.device,
                step=4 if one.kind == "sibling" else 5, price_per_1k_tokens=one.price_per_1k_tokens,
                quantised_after_pruning=one.quantised_after_pruning,
            )
            for one in self.sheet.alternatives
        ]  # fmt: skip

    def _late(self) -> bool:
        self.out_of_time = self.out_of_time or time.monotonic() > self.late_at
        return self.out_of_time

    def _compared(self, subjects: Iterable[Subject]) -> None:
        """Measure variants and compare each with the base, until the time is used up."""
        base = self.evidence[self.base.name]
        for subject in subjects:
            if self._late():
                return
            found = self.bench.measure(subject, loss=subject.kind != "sibling", base=self.base)
            subject.close()
            self.evidence[subject.name] = found
            self.hints[subject.name] = hints(found, base, self.matters, self.sheet.seed)
            self.rows.append(row(found, base, self.matters, self.sheet.prices, self.sheet.seed))

    def _said_of(self, subjects: Iterable[Subject]) -> tuple[Said, ...]:
        names = {one.name for one in subjects}
        lines = {m.line.name: m.line for m in self.matters}
        return tuple(
            on_task(one, found, lines[found.task])
            for one in self.rows
            if one.name in names
            for found in one.tasks
        )

    def _gathered(self) -> Gathered:
        """What is known so far."""
        return Gathered(
            self.sheet, self.matters, self.base.name, self.evidence, tuple(self.rows), self.hints, self.depth,
            self.width, self.command, self.text,
        )  # fmt: skip


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
