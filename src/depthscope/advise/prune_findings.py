"""What a pruning found, as measurements and tables, as the words of a model card, and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscope.advise.candidates import Candidate, Criteria
from depthscope.advise.cost import Cost
from depthscope.advise.paired import Comparison
from depthscope.advise.scoring import Scores
from depthscope.engine.tally import PerDocument
from depthscope.measures.statistics import Interval, bootstrap_ratio
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings

Sheet = tuple[Scores, Scores, Comparison]
"""What the intact and the shortened model answered on a task, and their comparison."""
UNVERIFIED = (
    "Nothing was verified by tasks: no task file was given, and loss says little of what a model can do."
)
SHORT = 32_768
"""Tokens of calibration text below which a note says so."""


@dataclass(frozen=True)
class Outcome:
    """Everything a pruning found.

    Args:
        chosen: what is removed. rises: of every candidate's loss, [unit, candidate]; first: units that were chosen by.
        sheets: of the reported halves of the tasks. broken: must-pass items that fail now. trials: comparisons on the
            halves that were chosen by.
    """

    name: str
    depth: int
    chosen: Candidate
    scores: Criteria
    candidates: tuple[Candidate, ...]
    rises: PerDocument
    first: frozenset[str]
    sheets: tuple[Sheet, ...]
    broken: tuple[str, ...]
    trials: Mapping[Candidate, Sequence[Comparison]]
    base: Cost
    short: Cost
    seed: int
    tokens: int

    @property
    def reported(self) -> np.ndarray:
        """Which units were not chosen by; all where there is only one."""
        rows = np.asarray([unit not in self.first for unit in self.rises.units])
        return rows if rows.any() else ~rows

    def rise(self) -> Interval:
        """Rise of the loss of what is removed, nats, on units that were not chosen by."""
        place, rows = self.candidates.index(self.chosen), self.reported
        return bootstrap_ratio(self.rises.sums[rows, place], self.rises.counts[rows, place], seed=self.seed)

    def lines(self) -> list[str]:
        """The outcome in sentences: what goes, loss, tasks, speed beside the share of layers."""
        removed, rise = self.chosen.removed, self.rise()
        share = 100 * len(removed) / self.depth
        layers = ", ".join(map(str, removed))
        said = [
            f"Removed {len(removed)} of {self.depth} layers ({share:.1f} %): {layers} (proposed by "
            f"{', '.join(self.chosen.origins)}).",
            f"Loss on text not chosen by: {rise.value:+.4f} nats a token{_ends(rise)}, "
            f"{int(self.reported.sum())} units, {int(self.rises.counts[self.reported].sum(0)[0])} tokens.",
        ]
        said += [f"Task {c.sentence}." for _, _, c in self.sheets] or [UNVERIFIED]
        said += [f"Must pass and fails now: {item}." for item in self.broken]
        return [*said, *speeds(self.base, self.short, share)]


def speeds(base: Cost, short: Cost, share: float) -> list[str]:
    """What is gained, beside the share of layers that went."""
    smaller = 100 * (1 - short.parameters / base.parameters)
    cache = f", cache {100 * (1 - short.kv_bytes / base.kv_bytes):.1f} %" if base.kv_bytes else ""
    said = [
        f"Gained, for {share:.1f} % of the layers: parameters {smaller:.1f} %{cache} (of the original's parameters "
        f"{100 * base.embedding_share:.1f} % are embedding and head, which do not shrink)."
    ]
    for before, after in zip(base.speed, short.speed, strict=True):
        said.append(
            f"Batch {before.batch}: decode {after.decode:.1f} against {before.decode:.1f} tokens/s "
            f"({after.decode / before.decode:.2f} x), prefill {after.prefill:.0f} against {before.prefill:.0f} "
            f"tokens/s ({after.prefill / before.prefill:.2f} x); medians of {base.repeats}, {base.device}, "
            f"{base.threads} threads."
        )
    return said


def card_of(outcome: Outcome) -> str:
    """The findings for a model card, Markdown."""
    return "\n".join(f"- {line}" for line in outcome.lines())


def findings_of(outcome: Outcome, checkpoint: Mapping[str, Any]) -> Findings:
    """Measurements, tables, the checkpoint and the sentences."""
    found = [*_screened(outcome), *_alone(outcome), *_costs(outcome), *_tasks(outcome)]
    tables = {"protected": _protected(outcome), "candidates": _candidates(outcome)}
    if outcome.sheets:
        tables["verdicts"], tables["regressions"] = _verdicts(outcome), _regressions(outcome)
    few = (
        [
            f"The calibration text has {outcome.tokens} tokens; {SHORT} or more from the domain of use are advised."
        ]
        if outcome.tokens < SHORT
        else []
    )
    return Findings({m.name: m for m in found}, tables, {"checkpoint": checkpoint}, (*outcome.lines(), *few))


def _screened(outcome: Outcome) -> list[Measurement]:
    rows = outcome.reported
    found = bootstrap_ratio(outcome.rises.sums[rows], outcome.rises.counts[rows], seed=outcome.seed)
    axes = {"variant": np.asarray([c.name for c in outcome.candidates])}
    counts = outcome.rises.counts[rows]
    note = "removed at every position, sinks included; on units that candidates were not chosen by"
    size = np.asarray([len(c.removed) for c in outcome.candidates], np.float64)
    chosen = np.asarray([c == outcome.chosen for c in outcome.candidates], np.float64)
    gaps = "the model overflows without these layers" if np.isnan(found.value).any() else ""
    return [
        Measurement("loss_increase", axes, found.value, "nats", found.low, found.high, (counts > 0).sum(0),
                    counts.sum(0), note, gaps),
        Measurement("layers_removed", axes, size, "1"),
        Measurement("chosen", axes, chosen, "1", note="1 at what was exported"),
    ]  # fmt: skip


def _alone(outcome: Outcome) -> list[Measurement]:
    axes = {"layer": np.arange(outcome.depth)}
    kept = np.asarray([k in outcome.scores.kept_back for k in range(outcome.depth)], np.float64)
    note = "of removing the layer alone, on the units that candidates were chosen by"
    return [
        Measurement(
            "influence", axes, np.asarray(outcome.scores.influence), "1", note="1 - cos(input, output)"
        ),
        Measurement("loss_alone", axes, np.asarray(outcome.scores.loss), "nats", note=note),
        Measurement("protected", axes, kept, "1", note="1 where the layer stays; the table says why"),
    ]


def _costs(outcome: Outcome) -> list[Measurement]:
    both = (outcome.base, outcome.short)
    axes = {"model": np.asarray(["intact", "shortened"])}

    def of(name: str, values: Sequence[float | int], unit: str, note: str = "") -> Measurement:
        return Measurement(name, axes, np.asarray(values, np.float64), unit, note=note)

    found = [
        of("parameters", [c.parameters for c in both], "1"),
        of("weight_bytes", [c.bytes for c in both], "bytes"),
        of(
            "cache_bytes",
            [c.kv_bytes for c in both],
            "bytes",
            "by which the cache grows with each token of a row",
        ),
    ]
    speed = {**axes, "variant": np.asarray([f"batch {s.batch}" for s in outcome.base.speed])}
    about = outcome.base
    note = (
        f"median, slowest and quickest of {about.repeats} repeats; {about.prompt} tokens read, {about.new} written; "
        f"{about.device}, {about.threads} threads"
    )
    for name in ("prefill", "decode"):
        value = np.asarray([[getattr(s, name) for s in c.speed] for c in both])
        ends = np.asarray([[getattr(s, f"{name}_range") for s in c.speed] for c in both])
        found.append(
            Measurement(f"{name}_speed", speed, value, "tokens/s", ends[..., 0], ends[..., 1], note=note)
        )
    return found


def _tasks(outcome: Outcome) -> list[Measurement]:
    if not outcome.sheets:
        return []
    each = [c for _, _, c in outcome.sheets]
    task = {"task": np.asarray([_label(c) for c in each])}
    n = np.asarray([c.n for c in each])
    score = np.asarray([[c.base for c in each], [c.other for c in each]])
    low, high = ([getattr(c, end) for c in each] for end in ("low", "high"))
    note = "items that candidates were not chosen by"
    return [
        Measurement("score", {"model": np.asarray(["intact", "shortened"]), **task}, score, "probability",
                    n=np.broadcast_to(n, score.shape), note=note),
        Measurement("difference", task, np.asarray([c.difference for c in each]), "probability", np.asarray(low),
                    np.asarray(high), n, n, f"shortened - intact, paired; {note}"),
        Measurement("p", task, np.asarray([c.p for c in each]), "probability", n=n, note="McNemar, exact, two-sided"),
        Measurement("margin", task, np.asarray([c.margin for c in each]), "probability"),
    ]  # fmt: skip


def _label(found: Comparison) -> str:
    return f"{found.task} by {found.by}"


def _protected(outcome: Outcome) -> Table:
    kept = outcome.scores.kept_back
    return Table(
        {"layer": np.asarray(list(kept)), "reason": np.asarray(list(kept.values()), object)},
        "layers that are never removed",
    )


def _candidates(outcome: Outcome) -> Table:
    return Table(
        {
            "candidate": np.asarray([c.name for c in outcome.candidates], object),
            "removed": np.asarray([", ".join(map(str, c.removed)) for c in outcome.candidates], object),
            "tasks": np.asarray([_trial(outcome, c) for c in outcome.candidates], object),
        },
        "sets of layers that were proposed, and what the tasks said on the items that were chosen by",
    )


def _trial(outcome: Outcome, candidate: Candidate) -> str:
    return "; ".join(c.sentence for c in outcome.trials.get(candidate, ())) or "not tried"


def _verdicts(outcome: Outcome) -> Table:
    each = [c for _, _, c in outcome.sheets]
    return Table(
        {
            "task": np.asarray([_label(c) for c in each], object),
            "verdict": np.asarray([c.verdict for c in each], object),
            "more_items": np.asarray([c.more or 0 for c in each]),
            "gained": np.asarray([c.gained for c in each]),
            "lost": np.asarray([c.lost for c in each]),
        },
        "holds, fails or undecided at the margin; more_items would decide it, about",
    )


def _regressions(outcome: Outcome, most: int = 20) -> Table:
    rows = [
        (_label(c), item, was, now)
        for first, second, c in outcome.sheets
        for item, a, b, was, now in zip(
            first.ids, first.correct, second.correct, first.said, second.said, strict=True
        )
        if a and not b
    ]
    names = ("task", "item", "intact", "shortened")
    columns = zip(*rows[:most], strict=True) if rows else ([] for _ in names)
    return Table(
        {name: np.asarray(list(values), object) for name, values in zip(names, columns, strict=True)},
        f"items that the intact model gets right and the shortened one wrong, the first {most} of {len(rows)}",
    )


def _ends(found: Interval) -> str:
    if np.isnan(found.low):
        return " (one unit, no interval)"
    return f" (95 % {found.low:+.4f} to {found.high:+.4f})"
