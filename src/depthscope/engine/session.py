"""One audit in progress: waves, shards, parts on the disk, conclusions. What is in the folder is not done again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from depthscope.engine.choice import Chosen, words
from depthscope.engine.execute import Job, Outcome
from depthscope.engine.executors import local
from depthscope.engine.needs import Analysis, Facts, Needs, by_material, parameters, united, waves
from depthscope.engine.progress import Progress
from depthscope.engine.provenance import described, identity
from depthscope.engine.shard import Shard, planned
from depthscope.engine.source import Source
from depthscope.engine.tally import Tally, fold
from depthscope.errors import NonFinite, StoreError, UnknownName
from depthscope.materials.window import Material, Windows
from depthscope.results.result import Result
from depthscope.runtime.lens import Lens
from depthscope.runtime.model import Model
from depthscope.store.atomic import read_json, write_json
from depthscope.store.run import Run, RunFolder, open_run

BUDGET = 2**30
"""Bytes of streams a shard may hold beyond the model."""


class Session:
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
        seconds: dict[str, float],
        lenses: tuple[Lens, ...],
    ) -> None:
        self.model, self.folder, self.lenses = model, folder, lenses
        self.seed, self.workers, self.budget, self.progress = seed, workers, budget, progress
        self.sources: dict[Material | None, Source] = {None: Source.of("text", windows)}
        self.seconds = seconds
        self.given: dict[str, Result] = {}

    def prepare(self, asked: Chosen, command: str, verdicts: list[dict[str, Any]]) -> None:
        """Read all materials, then write the manifest and the ids that will be read."""
        stored: dict[str, Any] = self.folder.manifest
        finished = open_run(self.folder.path)
        kept = asked.implied & set(finished)
        fresh = {n: parameters(a) for n, a in asked.analyses.items() if n not in kept}
        self.manifest: dict[str, Any] = {
            **described(self.model, self.sources[None], self.seed, stored.get("data", {}).get("sample", {})),
            "workers": self.workers,
            "lenses": [lens.name for lens in self.lenses],
            "materials": stored.get("materials", {}),
            "verification": verdicts,
            "analyses": {**stored.get("analyses", {}), **fresh},
            "refused": {**stored.get("refused", {}), **asked.refused},
            "command": command or stored.get("command", ""),
            "timings": stored.get("timings", {}),
            "non_finite": stored.get("non_finite", {"count": 0}),
            "complete": False,
        }
        for (
            name,
            analysis,
        ) in asked.analyses.items():  # a material that cannot be read is heard of before any pass
            if not _done(finished, name, None if name in asked.implied else analysis):
                self.source(analysis.needs(self.model.anatomy).material)
        self.folder.write_manifest(self.manifest)
        self.sources[None].write(self.folder)

    def source(self, material: Material | None) -> Source:
        """What a material gives, read once; its ids are written beside those of the text."""
        if material is not None and material not in self.sources:
            windows = material.windows(self.model, self.seed)
            taken = material.name in {s.name for s in self.sources.values()}
            name = f"{material.name}-{windows.hash[:8]}" if taken else material.name
            found = self.sources[material] = Source.of(name, windows)
            self.manifest["materials"][name] = found.described()
            found.write(self.folder)
        return self.sources[material]

    def work(self, asked: Chosen) -> None:
        """All waves; what is already in the folder is not done again, unless what it waited for was."""
        finished = open_run(self.folder.path)
        needs = {name: a.needs(self.model.anatomy) for name, a in asked.analyses.items()}
        for wave in waves(needs):
            done = {
                n for n in wave
                if _done(finished, n, None if n in asked.implied else asked.analyses[n])
                and finished[n].provenance.get("given", {}) == self._handed(needs[n].after)
            }  # fmt: skip
            self.given.update({n: finished[n] for n in done})
            for names in by_material({n: needs[n] for n in wave if n not in done}):
                self._pass({n: asked.analyses[n] for n in names}, {n: needs[n] for n in names})

    def _pass(self, analyses: Mapping[str, Analysis], needs: Mapping[str, Needs]) -> None:
        """The analyses of one wave that read the same."""
        union = united(needs.values())
        source = self.source(union.material)
        given = dict(self.given)
        job = Job(analyses, needs, union, source.windows, source.units, given, self.seed, self.lenses)
        shards = self.shards(union)
        about = self.manifest["data"] if union.material is None else self.manifest["materials"][source.name]
        about["sample"] = about.get("sample", {}) | _sample(union, shards)
        stamp = self._stamp(union)
        folders = {
            name: self.folder.parts(f"{name}-{_digest([parameters(a), stamp])}")
            for name, a in analyses.items()
        }
        todo = [
            s for s in shards if not all((f / f"{s.name}.npz").exists() for f in self._for(folders, needs, s))
        ]
        done = sum(s.tokens for s in shards) - sum(s.tokens for s in todo)
        self._run(job, todo, folders, f"{source.name}-{stamp}", (done, sum(s.tokens for s in shards)))
        for name, analysis in analyses.items():
            seen = [folders[name] / f"{s.name}.npz" for s in shards if s.serves(needs[name])]
            self._conclude(name, analysis, seen, needs[name])

    def shards(self, union: Needs) -> list[Shard]:
        """Everything one pass will run, in order."""
        windows = self.source(union.material).windows
        model = self.model
        return planned(model.anatomy, windows, union, model.dtype.itemsize, self.seed, self.budget)

    def _for(self, folders: Mapping[str, Path], needs: Mapping[str, Needs], shard: Shard) -> list[Path]:
        return [folder for name, folder in folders.items() if shard.serves(needs[name])]

    def _stamp(self, union: Needs) -> str:
        """What the numbers of a part depend on besides the analysis: how shards are cut, and what was given to them."""
        how = [
            union.positions,
            union.every_query,
            self.budget,
            repr(sorted(union.sites)),
            repr(sorted(union.sweeps)),
            self.source(union.material).windows.hash,
            [lens.identity for lens in self.lenses],
        ]
        return _digest([*how, self._handed(union.after)])

    def _handed(self, names: Sequence[str]) -> dict[str, str]:
        """What is handed to an analysis: of each result a digest of its parameters, and of what was handed to it."""
        found = {name: self.given[name] for name in sorted(names)}
        return {n: _digest([dict(r.parameters), r.provenance.get("given", {})]) for n, r in found.items()}

    def _run(
        self,
        job: Job,
        todo: Sequence[Shard],
        folders: Mapping[str, Path],
        stamp: str,
        counts: tuple[int, int],
    ) -> None:
        done, total = counts
        self.progress("audit", done, total)
        size = {s.name: s.tokens for s in todo}
        for outcome in local.outcomes(self.model, job, todo, self.workers):
            self._note(outcome, stamp)
            for name, tally in outcome.tallies.items():
                tally.save(folders[name] / f"{outcome.shard}.npz")
            done += size[outcome.shard]
            self.progress("audit", done, total)

    def _note(self, outcome: Outcome, stamp: str) -> None:
        """Keep the shard's time, and on the disk, before its tallies, what was wrong with it."""
        phase, source = outcome.shard.partition("-")[0], stamp.rpartition("-")[0]
        self.seconds[phase] = self.seconds.get(phase, 0.0) + outcome.seconds
        path = self.folder.parts("health") / f"{outcome.shard}-{stamp}.json"
        if outcome.non_finite or outcome.halved:
            bad = {str(window): count for window, count in outcome.non_finite.items()}
            write_json(path, {"source": source, "non_finite": bad, "halved": outcome.halved})
        else:
            path.unlink(missing_ok=True)

    def health(self, source: str = "") -> dict[str, int]:
        """Positions with states that are not finite, windows left out for them, batches halved: over all sessions.

        Args:
            source: only the windows of this material; all where it is empty.
        """
        worst: dict[tuple[str, str], int] = {}
        halved = 0
        for path in sorted(self.folder.parts("health").glob("*.json")):
            found = read_json(path)
            if source not in ("", found["source"]):
                continue
            halved += bool(found["halved"])
            for window, count in found["non_finite"].items():
                key = (found["source"], window)
                worst[key] = max(count, worst.get(key, 0))
        return {"count": sum(worst.values()), "windows": len(worst), "halved_batches": halved}

    def _conclude(self, name: str, analysis: Analysis, parts: Sequence[Path], needs: Needs) -> None:
        begun = time.perf_counter()
        source, lens = self.source(needs.material), self.lenses[0].name
        total = fold([Tally.load(path) for path in parts])
        if not total:
            raise NonFinite(
                f"every window that {name} read has NaN or infinite states in {self.model.name}; check the weights and "
                "the text, or run in float32 or bfloat16 where the model overflows float16"
            )
        facts = Facts.of(self.model.anatomy, source.kind, self.seed, self.model.name, lens)
        findings = analysis.conclude(total, facts)
        total.save(self.folder.totals(name))
        notes = (*findings.notes, *source.caveats(self.health(source.name)["windows"]))
        about = {**identity(self.model), "data": source.windows.hash, "seed": self.seed, "units": source.kind}
        result = Result(
            name,
            parameters(analysis),
            replace(findings, notes=notes),
            words(name, analysis),
            {**about, "lens": lens, "given": self._handed(needs.after)},
        )
        self.folder.write_result(result)
        self.given[name] = result
        self.seconds["conclude"] = self.seconds.get("conclude", 0.0) + time.perf_counter() - begun

    def finish(self) -> None:
        """Mark the run complete and keep its timings."""
        timings = {k: round(v + self.manifest["timings"].get(k, 0.0), 3) for k, v in self.seconds.items()}
        kept = {**self.manifest["timings"], **timings}
        self.folder.write_manifest(
            {**self.manifest, "timings": kept, "non_finite": self.health(), "complete": True}
        )


def _sample(union: Needs, shards: Sequence[Shard]) -> dict[str, int]:
    """How much of the text each kind of reading uses, for the manifest and the report."""
    found: dict[str, int] = {}
    if union.decode:
        found["decoded_positions"] = sum(len(s.positions) for s in shards)
    if union.every_query:
        found["attention_every_query"] = union.every_query
    for need in sorted(union.sweeps):
        swept = [s for s in shards if s.sweep == need]
        named: dict[tuple[str, ...], str] = {(): "replayed", ("block",): "skip_layer"}
        what = named.get(need.sublayers, "skip_sublayer")
        found[f"{what}_tokens"] = sum(s.tokens for s in swept)
        found[f"{what}_windows"] = sum(len(s.windows) for s in swept)
    return found


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _done(run: Run, name: str, analysis: Analysis | None) -> bool:
    """True where the folder holds this analysis's result with the same parameters; with any, where None is asked.

    A result whose files are damaged or gone is not done: it is concluded again from its tallies.
    """
    try:
        found = run[name]
    except (StoreError, UnknownName):
        return False
    if analysis is None:
        return True
    return json.loads(json.dumps(dict(found.parameters))) == json.loads(json.dumps(parameters(analysis)))
