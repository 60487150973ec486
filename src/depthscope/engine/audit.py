"""Audit: the engine's one verb. Analyses over a text, shard by shard, into a run folder that can always be resumed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from depthscope.engine.execute import Job, Outcome
from depthscope.engine.executors import local
from depthscope.engine.needs import Analysis, Facts, Needs, parameters, united, waves
from depthscope.engine.provenance import described, identity
from depthscope.engine.shard import Shard, capture_shards, rows_that_fit, sweep_shards
from depthscope.engine.tally import Tally, fold
from depthscope.errors import BadInput, LawBroken, Refused
from depthscope.materials.text import Bos, Windows, cut, read
from depthscope.registry import ANALYSES
from depthscope.results.result import Result, Text
from depthscope.runtime.model import Model
from depthscope.runtime.verify import holds, verify
from depthscope.store.run import Run, RunFolder, open_run

FIRST = (
    "corpus_statistics",
    "logit_lens",
    "settle_depth",
    "residual_contribution",
    "layer_skip",
    "representation_profile",
    "head_patterns",
)
"""What an audit without a list of analyses runs; of these, what a model refuses is left out and noted."""
BUDGET = 2**30
"""Bytes of streams a shard may hold beyond the model."""
Progress = Callable[[str, int, int], None]
"""(phase, tokens done, tokens in all)"""


@dataclass(frozen=True)
class Reading:
    """How text becomes windows; all of it is recorded.

    Args:
        text, field: see `materials.text.read`. tokens, window, bos, max_length, chat: see `materials.text.cut`.
    """

    text: str | Path | Sequence[str] | None = None
    field: str = "text"
    tokens: int = 8192
    window: int = 256
    bos: Bos = "auto"
    max_length: int | None = None
    chat: bool = False

    def windows(self, model: Model) -> Windows:
        """Read and cut.

        Raises:
            Refused: for models that read images.
        """
        if model.tokenizer is None:
            raise Refused(
                f"{model.name} reads {model.anatomy.family.reads}, it has no tokenizer; an audit reads text"
            )
        source, documents = read(self.text, self.field)
        return cut(
            documents, model.tokenizer, source=source, tokens=self.tokens, window=self.window, bos=self.bos,
            model_type=model.config.model_type, max_length=self.max_length, chat=self.chat,
        )  # fmt: skip


def audit(
    model: Model,
    analyses: Iterable[str | Analysis] | None = None,
    *,
    out: str | Path,
    text: str | Path | Sequence[str] | None = None,
    tokens: int = 8192,
    window: int = 256,
    field: str = "text",
    bos: Bos = "auto",
    max_length: int | None = None,
    chat: bool = False,
    seed: int = 0,
    workers: int = 1,
    budget: int = BUDGET,
    null: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
    command: str = "",
) -> Run:
    """Run analyses over a text and leave a run folder; the same call resumes a killed run.

    Args:
        analyses: names or analysis objects; None runs FIRST, leaving out what the model refuses.
        out: the run folder. An analysis can be added to a finished one: only what is new runs.
        text, tokens, window, field, bos, max_length, chat: see `Reading`.
        workers: processes on this machine, each with a copy of the model; numbers do not depend on it.
        budget: bytes of streams held beyond the model.
        null: "shuffled" reads the same tokens in random order (for "untrained" give a model with random weights).
        force: go on although a law is broken on these weights; the report says so.
        progress: called with (phase, tokens done, tokens in all).

    Raises:
        Refused: when the model cannot answer a named analysis. LawBroken: when a law is red and `force` is off.
        RunMismatch: when `out` holds a run of other parameters. BadInput, EmptyMaterial: for unusable text.
        NonFinite: when the model gives no finite number.
    """
    asked = chosen(analyses, model)
    reading = Reading(text, field, tokens, window, bos, max_length, chat)
    windows = reading.windows(model)
    windows = windows.shuffled(seed) if null == "shuffled" else windows
    with RunFolder.open_or_create(out, _key(model, windows, seed, window)) as folder:
        auditor = _Auditor(model, windows, folder, seed, workers, budget, progress or _silent)
        auditor.prepare(asked, command, force)
        auditor.work(asked.analyses)
        auditor.finish()
    return open_run(out)


@dataclass(frozen=True)
class Chosen:
    """The analyses that will run, and those of the default list that the model refuses, with the reason."""

    analyses: Mapping[str, Analysis]
    refused: Mapping[str, str]


def chosen(analyses: Iterable[str | Analysis] | None, model: Model) -> Chosen:
    """Resolve names, add what they wait for, and ask each whether the model can answer it.

    Raises:
        UnknownName: for an unknown name. Refused: when a named analysis refuses the model.
    """
    named: dict[str, Analysis] = {}
    refused: dict[str, str] = {}
    for item in FIRST if analyses is None else analyses:
        name, analysis = _resolved(item)
        try:
            needs = analysis.needs(model.anatomy)
        except Refused as reason:
            if analyses is not None:
                raise Refused(f"{name} cannot run on {model.name}: {reason}") from reason
            refused[name] = str(reason)
            continue
        for before in needs.after:
            named.setdefault(before, ANALYSES[before]())
        named[name] = analysis
    if not named:
        raise BadInput(f"no analysis to run; refused: {refused}")
    return Chosen(named, refused)


def _resolved(item: str | Analysis) -> tuple[str, Analysis]:
    if isinstance(item, str):
        return item, ANALYSES[item]()
    return type(item).__module__.rsplit(".", 1)[-1], item


def _key(model: Model, windows: Windows, seed: int, window: int) -> dict[str, Any]:
    return {**identity(model), "data": windows.hash, "window": window, "seed": seed}


def _silent(phase: str, done: int, total: int) -> None:
    del phase, done, total


class _Auditor:
    """One run in progress: folder, windows, and what has been done."""

    def __init__(
        self,
        model: Model,
        windows: Windows,
        folder: RunFolder,
        seed: int,
        workers: int,
        budget: int,
        progress: Progress,
    ) -> None:
        self.model, self.windows, self.folder = model, windows, folder
        self.seed, self.workers, self.budget, self.progress = seed, workers, budget, progress
        self.kind, self.units = windows.units()
        self.seconds: dict[str, float] = {}
        self.health = {"non_finite": 0, "halved": 0}
        self.given: dict[str, Result] = {}

    def prepare(self, asked: Chosen, command: str, force: bool) -> None:
        """Verify the laws once, write the manifest and the ids that will be read."""
        stored = self.folder.manifest
        begun = time.perf_counter()
        verdicts = stored.get("verification")
        if verdicts is None:
            found = verify(self.model)
            if not holds(found) and not force:
                broken = "; ".join(
                    f"law {v.law}, {v.title}: {v.reason}" for v in found if v.status == "broken"
                )
                raise LawBroken(
                    f"{self.model.name} breaks {broken}. Numbers would not mean what they say; --force runs all the same"
                )
            verdicts = [v.as_dict() for v in found]
        self.seconds["verify"] = time.perf_counter() - begun
        known = {**stored.get("analyses", {}), **{n: parameters(a) for n, a in asked.analyses.items()}}
        self.manifest = {
            **described(self.model, self.windows, self.kind, self.seed),
            "verification": verdicts,
            "analyses": known,
            "refused": {**stored.get("refused", {}), **asked.refused},
            "command": command or stored.get("command", ""),
            "timings": stored.get("timings", {}),
            "non_finite": stored.get("non_finite", {"count": 0}),
            "complete": False,
        }
        self.folder.write_manifest(self.manifest)
        items = self.windows.items
        self.folder.write_inputs(
            [w.index for w in items], [w.document for w in items], [w.ids for w in items]
        )

    def work(self, analyses: Mapping[str, Analysis]) -> None:
        """All waves; what is already in the folder is not done again."""
        finished = open_run(self.folder.path)
        needs = {name: a.needs(self.model.anatomy) for name, a in analyses.items()}
        for wave in waves(needs):
            fresh = {n: analyses[n] for n in wave if not _done(finished, n, analyses[n])}
            self.given.update({n: finished[n] for n in wave if n not in fresh})
            if fresh:
                self._wave(fresh, {n: needs[n] for n in fresh})

    def _wave(self, analyses: Mapping[str, Analysis], needs: Mapping[str, Needs]) -> None:
        union = united(needs.values())
        job = Job(analyses, needs, union, self.windows, self.units, dict(self.given), self.seed)
        shards = self.shards(union)
        folders = {name: self.folder.parts(self._part(name, a, union)) for name, a in analyses.items()}
        todo = [
            s for s in shards if not all((f / f"{s.name}.npz").exists() for f in self._for(folders, needs, s))
        ]
        done = sum(_tokens(s) for s in shards) - sum(_tokens(s) for s in todo)
        self._run(job, todo, folders, done, sum(_tokens(s) for s in shards))
        for name, analysis in analyses.items():
            self._conclude(name, analysis, folders[name], [s for s in shards if _sees(needs[name], s)])

    def shards(self, union: Needs) -> list[Shard]:
        """Everything one wave will run, in order."""
        itemsize = self.model.dtype.itemsize
        rows = rows_that_fit(
            self.model.anatomy, union, max(len(w.ids) for w in self.windows.items), itemsize, self.budget
        )
        found = capture_shards(self.windows, union, rows, self.seed) if union.captures else []
        for number, need in enumerate(sorted(union.sweeps)):
            found += sweep_shards(self.windows, need, self.seed, number)
        return found

    def _for(self, folders: Mapping[str, Path], needs: Mapping[str, Needs], shard: Shard) -> list[Path]:
        return [folder for name, folder in folders.items() if _sees(needs[name], shard)]

    def _part(self, name: str, analysis: Analysis, union: Needs) -> str:
        content = json.dumps(
            [parameters(analysis), union.positions, union.every_query, self.budget, repr(sorted(union.sites))]
        )
        return f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def _run(
        self, job: Job, todo: Sequence[Shard], folders: Mapping[str, Path], done: int, total: int
    ) -> None:
        self.progress("audit", done, total)
        size = {s.name: _tokens(s) for s in todo}
        for outcome in local.outcomes(self.model, job, todo, self.workers):
            for name, tally in outcome.tallies.items():
                tally.save(folders[name] / f"{outcome.shard}.npz")
            self._note(outcome)
            done += size[outcome.shard]
            self.progress("audit", done, total)

    def _note(self, outcome: Outcome) -> None:
        phase = outcome.shard.partition("-")[0]
        self.seconds[phase] = self.seconds.get(phase, 0.0) + outcome.seconds
        self.health["non_finite"] += outcome.non_finite
        self.health["halved"] += outcome.halved

    def _conclude(self, name: str, analysis: Analysis, folder: Path, shards: Sequence[Shard]) -> None:
        begun = time.perf_counter()
        total = fold([Tally.load(folder / f"{s.name}.npz") for s in shards])
        facts = Facts.of(self.model.anatomy, self.kind, self.seed, self.model.name)
        findings = analysis.conclude(total, facts)
        notes = (*findings.notes, *self._caveats())
        about = {**identity(self.model), "data": self.windows.hash, "seed": self.seed, "units": self.kind}
        result = Result(
            name,
            parameters(analysis),
            replace(findings, notes=notes),
            Text.of(ANALYSES.docstring(name)),
            about,
        )
        self.folder.write_result(result)
        self.given[name] = result
        self.seconds["conclude"] = self.seconds.get("conclude", 0.0) + time.perf_counter() - begun

    def _caveats(self) -> tuple[str, ...]:
        few = "Fewer than 8 documents were read, so intervals are over windows, which are not independent."
        return (few,) if self.kind == "windows" else ()

    def finish(self) -> None:
        """Mark the run complete and keep its timings."""
        timings = {k: round(v + self.manifest["timings"].get(k, 0.0), 3) for k, v in self.seconds.items()}
        before = self.manifest["non_finite"].get("count", 0)
        health = {"count": before + self.health["non_finite"], "halved_batches": self.health["halved"]}
        kept = {**self.manifest["timings"], **timings}
        self.folder.write_manifest({**self.manifest, "timings": kept, "non_finite": health, "complete": True})


def _tokens(shard: Shard) -> int:
    return len(shard.windows) * shard.length


def _sees(needs: Needs, shard: Shard) -> bool:
    return shard.sweep in needs.sweeps if shard.sweep else needs.captures


def _done(run: Run, name: str, analysis: Analysis) -> bool:
    """True where the folder holds this analysis's result with the same parameters."""
    if name not in run:
        return False
    return json.loads(json.dumps(dict(run[name].parameters))) == json.loads(json.dumps(parameters(analysis)))
