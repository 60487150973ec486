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

import torch
from filelock import FileLock, Timeout

import depthscope
from depthscope.advise.decision.compare import Matter, base_row, drifted, hints, row, task_costs
from depthscope.advise.decision.diagnosis import diagnosed, prompts
from depthscope.advise.decision.evidence import Bench, Evidence
from depthscope.advise.decision.ladder import rungs, sizes
from depthscope.advise.decision.matters import matters, noticed
from depthscope.advise.decision.risks import notes
from depthscope.advise.decision.sentences import depth, halves, headline, ladder, meeting, on_task
from depthscope.advise.decision.sheet import Sheet
from depthscope.advise.decision.stress import stressed
from depthscope.advise.decision.subjects import Subject, named, stamped, without
from depthscope.advise.decision.verdicts import chosen, monthly, pareto, routed
from depthscope.engine.journal import Journal
from depthscope.engine.reading import Reading
from depthscope.errors import EmptyMaterial, Refused, StoreError
from depthscope.results.decision import (
    STEPS,
    Decision,
    Depth,
    Estimate,
    Said,
    Step,
    TaskFound,
    Variant,
    decoded,
)
from depthscope.store.atomic import make_folder, store_error

Progress = Callable[[str], None]
ROLLOUT = ("shadow", "canary", "accuracy", "form", "length", "rollback")
BACKWARD = 3.0
"""Work of training on a token over that of reading it: one pass forward, and about two for the gradients."""


def quiet(said: str) -> None:
    """Progress that nobody watches."""
    del said


OURS = frozenset({"journal", "depth", "tables", "decision.json", ".lock"})


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
    with _held(out):
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
        return self._decision(tuple(steps))

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
        digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
        folder = f"depth/{digest}"
        key = {**self.base.stamp, "prompts": digest, "seed": self.sheet.seed}

        def measured() -> dict[str, Any]:
            try:
                return diagnosed(self.base.model, texts, self.out / folder, self.sheet.seed, folder)
            except (Refused, EmptyMaterial) as reason:
                return {"refused": str(reason)}

        stored = self.bench.journal.step("depth", key, measured)
        if "refused" in stored:
            return Step(number, "not_evaluated", (Said.of("depth.refused", reason=stored["refused"]),))
        self.depth = decoded(Depth, stored)
        asked = self._sketch()
        return Step(number, "done", (depth(asked), *halves(asked)))

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
        return Step(number, "done", (Said.of("width.not_evaluated"), self._healing()))

    def _healing(self) -> Said:
        tokens = self.sheet.healing_tokens
        if not tokens:
            return Said.of("healing.not_evaluated")
        speed = max(self.evidence[self.base.name].cost.speed, key=lambda one: one.batch)
        work = BACKWARD * tokens
        hours = Estimate(
            work / speed.prefill,
            work / speed.prefill_range[1],
            work / speed.prefill_range[0],
            self.sheet.repeats,
        )
        return Said.of("healing.estimate", tokens=tokens, hours=hours)

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

    def _sketch(self) -> Decision:
        """What is known so far, without verdicts."""
        lines = tuple(m.line for m in self.matters)
        title, currency = self.sheet.title, self.sheet.prices.currency
        return Decision(
            title,
            self.base.name,
            currency,
            (),
            (),
            (),
            (),
            lines,
            tuple(self.rows),
            self.depth,
            (),
            self.base.name,
        )

    def _decision(self, steps: tuple[Step, ...]) -> Decision:
        best = pareto(self.rows, self.base.name)
        self.rows = [replace(one, pareto=one.name in best) for one in self.rows]
        made = replace(self._sketch(), steps=steps, risks=self._risks(), provenance=_provenance(self))
        if steps[-1].state != "done":
            made = replace(made, meeting=meeting(made, self._focus({})))
            return replace(made, headline=headline(made))
        order = sorted(self.hints, key=self._expense)
        choice = {
            m.line.name: chosen(m.line, {n: self.hints[n][m.line.name] for n in order}, order)
            for m in self.matters
        }
        timed = {
            **self.evidence,
            self.base.name: drifted(self.evidence[self.base.name], self.evidence.values()),
        }
        costs = {n: task_costs(e, self.matters, self.sheet.prices) for n, e in timed.items()}
        routes = routed(made.tasks, self.rows, choice, costs, self.base.name)
        moved = [route.variant for route in routes if route.variant != self.base.name]
        most = max(moved, key=moved.count, default=self.base.name)
        made = replace(made, routes=routes, chosen=most, monthly=monthly(routes, self.base.name))
        made = replace(made, meeting=meeting(made, self._focus(choice)))
        return replace(made, headline=headline(made))

    def _expense(self, name: str) -> tuple[float, float]:
        """What variants are ordered by, cheapest first: measured cost, then size."""
        found = next(one for one in self.rows if one.name == name)
        return (found.cost.value if found.cost.value is not None else float("inf"), float(found.parameters))

    def _focus(self, choice: dict[str, str | None]) -> dict[str, str]:
        """For each task the variant that sentences speak of: the chosen one, else the mildest."""
        others = [one.name for one in self.rows if one.name != self.base.name]
        if not others:
            return {}
        return {
            m.line.name: choice.get(m.line.name) or others[-1 if len(others) == 1 else 0]
            for m in self.matters
        }

    def _risks(self) -> tuple[Said, ...]:
        about = self.evidence[self.base.name].about if self.base.name in self.evidence else {}
        return notes(
            [m.line for m in self.matters], self.rows, flags=self.sheet.risks, family=str(about.get("family", "")),
            chat_template=bool(about.get("chat_template")), own_text=bool(self.sheet.text),
            quantised_after=any(one.quantised_after_pruning for one in self.sheet.alternatives),
        )  # fmt: skip


def _provenance(work: _Procedure) -> dict[str, Any]:
    sheet = work.sheet
    about = work.evidence[work.base.name].about if work.base.name in work.evidence else {}
    return {
        "command": work.command, "depthscope": depthscope.__version__, "model": about.get("model", sheet.model),
        "weights": about.get("weights_hash"), "revision": about.get("revision"), "dtype": about.get("dtype"),
        "device": about.get("device"), "threads": torch.get_num_threads(), "seed": sheet.seed,
        "text": f"{work.text}, {sheet.tokens} tokens",
        "sheet_hash": hashlib.sha256(sheet.path.read_bytes()).hexdigest()[:16],
        "tasks": "; ".join(f"{m.line.name} {m.line.hash}" for m in work.matters),
    }  # fmt: skip


class _held:  # noqa: N801  (reads as a verb where it is used)
    """The folder of a decision, held by one process; a folder with other files in it is refused."""

    def __init__(self, out: Path) -> None:
        self.out = make_folder(out)
        self.lock = FileLock(self.out / ".lock")

    def __enter__(self) -> Path:
        try:
            self.lock.acquire(timeout=0)
        except Timeout as error:
            raise StoreError(
                f"another process works in {self.out}; wait for it, or choose another --out"
            ) from error
        except OSError as error:
            raise store_error(error, self.out) from error
        foreign = sorted(
            p.name for p in self.out.iterdir() if p.name not in OURS and not p.name.startswith("decision.")
        )
        if foreign and not (self.out / "journal").is_dir():
            self.lock.release()
            raise StoreError(
                f"{self.out} is not empty and holds no decision, but {', '.join(foreign[:5])}; choose another --out"
            )
        return self.out

    def __exit__(self, *about: object) -> None:
        self.lock.release()
