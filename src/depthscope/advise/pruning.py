"""The work of a pruning: its text and tasks in halves, candidates, the choice, and the checkpoint."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscope.advise.candidates import Candidate, Criteria, criteria, increases, proposed
from depthscope.advise.cost import Cost, measured_in_turns
from depthscope.advise.export import ABOUT, export
from depthscope.advise.prune_findings import Outcome, Sheet, card_of, findings_of
from depthscope.advise.scoring import score
from depthscope.advise.shorten import shortened
from depthscope.advise.verification import Examiner, slack
from depthscope.engine.removal import removal_order
from depthscope.engine.study import Work
from depthscope.engine.tally import PerDocument
from depthscope.errors import BadInput, LawBroken, Refused
from depthscope.measures.statistics import bootstrap_ratio
from depthscope.results.result import Findings
from depthscope.runtime.model import Model
from depthscope.store.atomic import read_json

if TYPE_CHECKING:
    from depthscope.advise.prune import Prune

CHECKPOINT = "checkpoint"
"""Where in the run folder the smaller model lies."""
RECHECKED = 4
"""Items of each task that the loaded checkpoint answers again before it is given its name."""


class Pruning:
    """One study at work: its text in halves, its journal, its tasks."""

    def __init__(self, study: Prune, work: Work) -> None:
        self.study, self.work, self.model = study, work, work.model
        margin = (study.budget if study.budget else study.margin) / 100
        self.examiner = Examiner(study.loaded(), margin, study.chat, work.seed, work.journal)
        self.windows = [list(w.ids) for w in work.windows.items]
        self.first = _first_half(work.units, work.seed)

    def run(self) -> Findings:
        """Propose, screen, verify, measure, export."""
        sizes = [self.study.remove] if self.study.remove else list(range(1, self._most() + 1))
        scores = self._criteria(sizes[-1])
        sizes = [n for n in sizes if n <= self.model.anatomy.n_layers - len(scores.kept_back)]
        if not sizes:
            kept = "; ".join(f"{layer}: {reason}" for layer, reason in scores.kept_back.items())
            raise BadInput(
                f"{self.study.remove or 1} layers are to go, fewer of {self.model.name} are free; these stay: {kept}"
            )
        candidates = self._proposed(scores, sizes)
        rises = self._screened(candidates)
        chosen, trials = self._chosen(candidates, rises)
        short = self._short(chosen)
        sheets = self._examined(short, chosen, final=True)
        broken = self.examiner.broken((*sheets, *trials.get(chosen, ())))
        outcome = Outcome(
            self.model.name, self.model.anatomy.n_layers, chosen, scores, candidates, rises, self.first, sheets, broken,
            {c: [s[2] for s in each] for c, each in trials.items()}, *self._costs(short, chosen.removed),
            self.work.seed, self.work.windows.tokens,
        )  # fmt: skip
        if self.study.budget:
            self._within(outcome)
        about = self._exported(short, outcome, sheets)
        self.work.progress("export", 1, 1)
        return findings_of(outcome, about)

    def _most(self) -> int:
        depth = self.model.anatomy.n_layers
        return min(self.study.most or max(1, depth // 3), depth - 2)

    def _half(self, first: bool) -> tuple[list[list[int]], list[str]]:
        keep = [k for k, unit in enumerate(self.work.units) if (unit in self.first) == first]
        return [self.windows[k] for k in keep], [self.work.units[k] for k in keep]

    def _criteria(self, largest: int) -> Criteria:
        windows, units = self._half(True)
        about = {"largest": largest, "protect": list(self.study.protect), "seed": self.work.seed}
        found = Criteria.of(
            self.work.journal.step(
                "criteria",
                about,
                lambda: criteria(self.model, windows, units, largest, self.study.protect).as_dict(),
            )
        )
        self.work.progress("criteria", 1, 1)
        return found

    def _proposed(self, scores: Criteria, sizes: Sequence[int]) -> tuple[Candidate, ...]:
        windows, units = self._half(True)
        order = removal_order(
            self.model, windows, sizes[-1], units=units, protect=scores.kept_back, lazy=self.study.lazy,
            beam=self.study.beam, journal=self.work.journal, progress=self.work.progress,
        )  # fmt: skip
        greedy = [level.removed for level in order.levels]
        found: list[Candidate] = []
        reasons: list[str] = []
        for size in sizes:
            try:
                found.extend(proposed(self.model, scores, greedy, size))
            except Refused as reason:
                reasons.append(str(reason))
        if not found:
            raise Refused("; ".join(reasons))
        return tuple(found)

    def _screened(self, candidates: Sequence[Candidate]) -> PerDocument:
        """Rise of the loss of each candidate, [unit, candidate]."""
        sets = [list(c.removed) for c in candidates]

        def compute() -> dict[str, Any]:
            found = increases(self.model, self.windows, self.work.units, sets)
            return {"units": found.units, "sums": found.sums.tolist(), "counts": found.counts.tolist()}

        found = self.work.journal.step("screen", {"sets": sets}, compute)
        self.work.progress("screen", 1, 1)
        return PerDocument(
            tuple(found["units"]), np.asarray(found["sums"]), np.asarray(found["counts"], np.int64)
        )

    def _chosen(
        self, candidates: Sequence[Candidate], rises: PerDocument
    ) -> tuple[Candidate, dict[Candidate, tuple[Sheet, ...]]]:
        """The candidate to export, by the halves that are not reported, and what the tasks said of those tried."""
        first = np.asarray([unit in self.first for unit in rises.units])
        loss = rises.sums[first].sum(0) / np.maximum(rises.counts[first].sum(0), 1)
        order = sorted(range(len(candidates)), key=lambda k: (loss[k], k))
        by_size: dict[int, list[Candidate]] = {}
        for k in order:
            by_size.setdefault(len(candidates[k].removed), []).append(candidates[k])
        if not self.study.budget:
            return self._best(by_size[self.study.remove])
        if not self.study.tasks:
            limit = math.log1p(self.study.budget / 100)
            ends = bootstrap_ratio(rises.sums[first], rises.counts[first], seed=self.work.seed)
            worst = dict(zip(candidates, np.fmax(ends.value, ends.high).tolist(), strict=True))
            fine = [n for n, each in by_size.items() if worst[each[0]] <= limit]
            return by_size[max(fine, default=min(by_size))][0], {}
        return self._bisected(by_size)

    def _best(self, same_size: Sequence[Candidate]) -> tuple[Candidate, dict[Candidate, tuple[Sheet, ...]]]:
        """Of the shortlist of one size, the one whose worst task loses least; without tasks the least loss."""
        if not self.study.tasks:
            return same_size[0], {}
        short = same_size[: self.study.shortlist]
        trials = {c: self._examined(self._short(c), c, final=False) for c in short}
        best = max(short, key=lambda c: (slack([s[2] for s in trials[c]]), -short.index(c)))
        return best, trials

    def _bisected(
        self, by_size: Mapping[int, Sequence[Candidate]]
    ) -> tuple[Candidate, dict[Candidate, tuple[Sheet, ...]]]:
        """The largest size whose best candidate stays within every margin by the seen differences, by bisection."""
        sizes, trials = sorted(by_size), dict[Candidate, tuple[Sheet, ...]]()
        low, high, chosen = 0, len(sizes), None
        while low < high:
            middle = (low + high) // 2
            best, tried = self._best(by_size[sizes[middle]])
            trials |= tried
            if slack([s[2] for s in tried[best]]) >= 0:
                chosen, low = best, middle + 1
            else:
                high = middle
        if chosen is None:
            best = max(trials, key=lambda c: slack([s[2] for s in trials[c]]))
            said = "; ".join(s[2].sentence for s in trials[best])
            raise Refused(
                f"no removal stays within {self.study.budget:g} points on every task; the nearest, without layers "
                f"{list(best.removed)}: {said}. Nothing was exported"
            )
        return chosen, trials

    def _within(self, outcome: Outcome) -> None:
        """Nothing, where the reported halves show that the budget is met.

        Raises:
            Refused: otherwise; what was found and how to export all the same is in the message.
        """
        removed = list(outcome.chosen.removed)
        how = f"Nothing was exported; --remove {len(removed)} exports it with this said"
        missed = [s[2].sentence for s in outcome.sheets if s[2].verdict != "holds"]
        if missed or outcome.broken:
            said = "; ".join([*missed, *(f"must pass and fails: {item}" for item in outcome.broken)])
            raise Refused(
                f"without layers {removed} a budget of {self.study.budget:g} points is not shown to be met: "
                f"{said}. {how}"
            )
        rise, limit = outcome.rise(), math.log1p(self.study.budget / 100)
        if not self.study.tasks and not rise.high <= limit:
            ends = f"{rise.value:.4f} nats, 95 % {rise.low:.4f} to {rise.high:.4f}"
            raise Refused(
                f"no removal keeps the rise of perplexity within {self.study.budget:g} % ({limit:.4f} nats) on the "
                f"half of the text that was not chosen by: without layers {removed} it is {ends}. {how}"
            )

    def _short(self, chosen: Candidate) -> Model:
        depth = self.model.anatomy.n_layers
        return shortened(self.model, [k for k in range(depth) if k not in chosen.removed])

    def _examined(self, short: Model, chosen: Candidate, final: bool) -> tuple[Sheet, ...]:
        found = self.examiner.examined(self.model, short, chosen.removed, final)
        if found:
            self.work.progress(f"tasks without {list(chosen.removed)}", 1, 1)
        return found

    def _costs(self, short: Model, removed: Sequence[int]) -> tuple[Cost, Cost]:
        """Of the intact and the shortened model, timed in turns."""
        study = self.study
        counts = {"prompt": study.prompt, "new": study.new, "warmup": study.warmup, "repeats": study.repeats}

        def compute() -> list[dict[str, Any]]:
            both = (self.model, short)
            return [one.as_dict() for one in measured_in_turns(both, batches=study.batches, **counts)]

        about = {**counts, "batches": list(study.batches), "removed": list(removed)}
        base, other = self.work.journal.step("costs", about, compute)
        return Cost.of(base), Cost.of(other)

    def _exported(self, short: Model, outcome: Outcome, sheets: Sequence[Sheet]) -> dict[str, Any]:
        """What the checkpoint says of itself; one that a killed study left whole is taken as it is."""
        folder, kept = self.work.folder / CHECKPOINT, short.provenance["kept"]
        if not folder.exists():
            export(
                self.model,
                kept,
                folder,
                findings=card_of(outcome),
                verify=partial(self._rechecked, sheets),
                seed=self.work.seed,
            )
        about = read_json(folder / ABOUT)
        if about["kept"] != list(kept) or about["base"]["weights_hash"] != self.model.provenance.get(
            "weights_hash"
        ):
            raise BadInput(f"{folder} holds another checkpoint; remove it, or choose another --out")
        return about

    def _rechecked(self, sheets: Sequence[Sheet], loaded: Model) -> None:
        """The loaded checkpoint answers some items again, as the model in memory did.

        Raises:
            LawBroken: when it answers otherwise.
        """
        tasks = {task.name: task for task in self.examiner.halves(final=True)}
        for _, second, _ in sheets:
            if second.by != "generation":
                continue
            ids = second.ids[:RECHECKED]
            again = score(loaded, tasks[second.task].only(ids), "generation", chat=self.study.chat)
            if again.correct != second.only(ids).correct:
                raise LawBroken(
                    f"the loaded checkpoint answers items of {second.task!r} otherwise than the model it was written "
                    "from; nothing was written"
                )


def _first_half(units: Sequence[str], seed: int) -> frozenset[str]:
    """The units to choose by, half of them by hash; all where there is only one."""
    names = sorted(set(units), key=lambda u: hashlib.sha256(f"{seed}:{u}".encode()).digest())
    return frozenset(names[: max(1, len(names) // 2)])
