"""What a choice of a layer found, as measurements and tables, and as lines for a terminal and a model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from depthscope.advise.layer_cost import LayerCost
from depthscope.advise.layer_noise import Noise
from depthscope.advise.layer_sanity import Sanity
from depthscope.advise.layer_search import Found, Seen, ends
from depthscope.advise.layer_task import Parts
from depthscope.materials.labelled import Labelled
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings

WHO = ("chosen", "last", "state 0", "words")
"""What is compared on the items kept back; words: TF-IDF, no model at all."""
CHOICE = "choice"


@dataclass(frozen=True)
class Chosen:
    """The outcome.

    Args:
        state: recommended. picked: what the search and the noise picked. why: cheapest; flips: earlier ones flip more
            often under noise; none: all near the best do; worse: the picked one is shown to be worse than the last.
        sides: scores on either side of the final norm, where both were looked at.
    """

    state: int
    picked: int
    why: str
    passed_over: tuple[int, ...]
    norm: bool
    sides: dict[str, float]
    pooling: str
    metric: str
    task: str
    kind: str


@dataclass(frozen=True)
class Report:
    """Scores on the items kept back, of WHO."""

    seen: Seen
    items: int

    def gap(self, better: str, other: str) -> tuple[float, float, float]:
        """Difference of two of WHO with its paired interval."""
        return self.seen.gap(WHO.index(better), WHO.index(other))

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """95 % intervals of the scores."""
        return ends(self.seen.drawn)

    def verdict(self) -> str:
        """`better`, `worse` or `alike`: the picked state against the last; `unknown` where one has no score."""
        _, low, high = self.gap("chosen", "last")
        if not np.isfinite([low, high]).all():
            return "unknown"
        return "better" if low > 0 else "worse" if high < 0 else "alike"


def findings_of(
    name: str, depth: int, both: Parts, clean: Sanity, found: Found, noise: Noise, chosen: Chosen, report: Report,
    costs: Sequence[LayerCost], blocks: float, task: Labelled,
) -> Findings:  # fmt: skip
    """Measurements, tables, the choice as JSON, and the sentences."""
    share = len(found.looked) / (depth + 1)
    measurements = [
        *_scores(found, len(both.choosing.items)), *_compared(report, chosen), *_noise(noise), *_costs(costs),
        Measurement("looked_share", {}, np.asarray(share), "1", note="of all states, scored at least once"),
        Measurement("block_share", {}, np.asarray(blocks), "1", note="blocks run for the search, of all there are"),
        Measurement("chosen_state", {}, np.asarray(float(chosen.state)), "1"),
    ]  # fmt: skip
    verdict = "last" if chosen.picked == depth else report.verdict()
    difference, low, high = report.gap("chosen", "last")
    about: dict[str, Any] = {
        **asdict(chosen), "model": name, "depth": depth, "best": found.best, "verdict": verdict,
        "difference": [difference, low, high],
        "items": {"choosing": len(both.choosing.items), "reporting": report.items},
        "left_out": list(both.left_out), "sanity": clean.as_json(), "task_hash": task.hash,
    }  # fmt: skip
    tables = {"rounds": _rounds(found), "sanity": _sanity(clean)}
    return Findings(
        {m.name: m for m in measurements},
        tables,
        {CHOICE: about},
        tuple(lines(about, found, report, costs, share, both)),
    )


def _scores(found: Found, items: int) -> list[Measurement]:
    """Each state's score on the most items it was scored on, with the interval over items."""
    rows: dict[int, tuple[float, float, float, float]] = {}
    for n, seen in (*((r.items, r.seen) for r in found.rounds), (items, found.final)):
        low, high = ends(seen.drawn)
        rows |= {
            s: (float(seen.score[k]), float(low[k]), float(high[k]), float(n))
            for k, s in enumerate(seen.states)
        }
    states = sorted(rows)
    axes = {"state": np.asarray(states)}
    value, low, high, counts = (np.asarray([rows[s][k] for s in states]) for k in range(4))
    n = counts.astype(np.int64)
    last = np.asarray([float(s in found.final.states) for s in states])
    note = "on the items that states were chosen by; a state that went early was scored on fewer"
    gaps = "the vectors of a state are not finite" if np.isnan(value).any() else ""
    return [
        Measurement("score", axes, value, "1", low, high, n, n, note, gaps),
        Measurement("survived", axes, last, "1", note="1 where the state was scored on all items"),
    ]


def _compared(report: Report, chosen: Chosen) -> list[Measurement]:
    axes = {"variant": np.asarray(WHO)}
    low, high = report.ends()
    n = np.full(len(WHO), report.items)
    note = "items that nothing was chosen by; words: TF-IDF, without a model"
    gaps = "the score is not defined on these vectors" if np.isnan(report.seen.score).any() else ""
    value, bottom, top = report.gap("chosen", "last")
    items = np.asarray(report.items)
    return [
        Measurement("reported_score", axes, report.seen.score, "1", low, high, n, n, note, gaps),
        Measurement("difference", {}, np.asarray(value), "1", np.asarray(bottom), np.asarray(top), items, items,
                    f"state {chosen.picked} minus the last, paired; {note}"),
    ]  # fmt: skip


def _noise(noise: Noise) -> list[Measurement]:
    axes = {"state": np.asarray(noise.states)}
    n = np.full(len(noise.states), noise.flips.shape[1])
    texts = np.full(len(noise.states), noise.found.shape[1])
    drawn = np.random.default_rng(0).multinomial(n[0], np.full(n[0], 1 / n[0]), size=1000) / n[0]
    low, high = np.quantile(drawn @ noise.flips.T, [0.025, 0.975], axis=0)
    return [
        Measurement("flip_rate", axes, noise.rate(), "probability", low, high, n, n,
                    "predictions that noise in the texts changes"),
        Measurement("noise_drop", axes, noise.drop, "1", n=n, n_items=n,
                    note="score without noise minus score with it"),
        Measurement("partner_found", axes, noise.found.mean(1), "probability", n=texts, n_items=texts,
                    note="disturbed copies of a text that are nearest to each other"),
        Measurement("anisotropy", axes, noise.anisotropy, "1", n=texts, n_items=texts,
                    note="mean cosine of different texts"),
        Measurement("effective_rank", axes, noise.rank, "1", n=texts, n_items=texts),
    ]  # fmt: skip


def _costs(costs: Sequence[LayerCost]) -> list[Measurement]:
    axes = {"state": np.asarray([c.state for c in costs])}
    one = costs[0]
    note = (
        f"median, quickest and slowest of {one.repeats} repeats on {one.rows} texts of {one.tokens} tokens; "
        f"{one.device}, {one.threads} threads"
    )
    seconds = np.asarray([c.seconds for c in costs])
    low, high = (np.asarray([c.seconds_range[k] for c in costs]) for k in (0, 1))
    found = [
        Measurement("seconds", axes, seconds, "seconds", low, high, note=note),
        Measurement("parameters", axes, np.asarray([float(c.parameters) for c in costs]), "1"),
        Measurement("weight_bytes", axes, np.asarray([float(c.bytes) for c in costs]), "bytes"),
    ]
    if all(c.peak_bytes is not None for c in costs):
        peaks = np.asarray([float(c.peak_bytes or 0) for c in costs])
        found.append(Measurement("peak_bytes", axes, peaks, "bytes", note="beyond the weights"))
    return found


def _rounds(found: Found) -> Table:
    rows = [(r.items, r.seen.states, r.dropped) for r in found.rounds]
    rows.append((-1, found.final.states, ()))
    columns = {
        "items": np.asarray([str(n) if n > 0 else "all" for n, _, _ in rows]),
        "scored": np.asarray([", ".join(map(str, states)) for _, states, _ in rows]),
        "dropped": np.asarray([", ".join(map(str, gone)) or "none" for _, _, gone in rows]),
    }
    return Table(columns, "rounds of the search: states scored, and those that went")


def _sanity(clean: Sanity) -> Table:
    rows = {key: value for key, value in clean.as_json().items() if key != "blocks"}
    said = [f"{v:.6g}" if isinstance(v, float) else str(v) for v in rows.values()]
    return Table(
        {"check": np.asarray(list(rows)), "found": np.asarray(said)}, "what was checked before any score"
    )


def lines(
    about: dict[str, Any], found: Found, report: Report, costs: Sequence[LayerCost], share: float, both: Parts
) -> list[str]:
    """The outcome in sentences."""
    depth, state, picked = about["depth"], about["state"], about["picked"]
    difference, low, high = about["difference"]
    said = [
        f"Take state {state} of {depth} ({about['pooling']} pooling, final norm {'on' if about['norm'] else 'off'}) "
        f"for {about['task']}.",
        f"Scored were {len(found.looked)} of {depth + 1} states ({100 * share:.0f} %); the best is {found.best}.",
    ]
    if about["verdict"] == "last":
        said.append("No earlier state is kept: " + _REASONS[about["why"]] + ".")
    else:
        said.append(
            f"State {picked} against the last on {report.items} items kept back: {about['metric']} "
            f"{report.seen.score[0]:.3f} against {report.seen.score[1]:.3f}, difference {difference:+.3f} (95 % "
            f"{low:+.3f} to {high:+.3f}): {_VERDICTS[about['verdict']]}."
        )
    if state != depth:
        first, last = costs[0], costs[-1]
        said.append(
            f"Against the last state: {100 * (1 - first.parameters / last.parameters):.0f} % fewer parameters, "
            f"{100 * (1 - first.seconds / last.seconds):.0f} % less time for a batch ({1000 * first.seconds:.0f} "
            f"against {1000 * last.seconds:.0f} ms)."
        )
    if both.left_out:
        said.append(f"Left out, with too few items: labels {', '.join(both.left_out[:5])}.")
    return said


_REASONS = {
    "cheapest": "the last is itself the earliest within one standard error of the best",
    "flips": "the earlier ones near the best flip more predictions under noise",
    "none": "all states near the best flip more predictions under noise",
}
_VERDICTS = {
    "better": "shown to be better",
    "worse": "shown to be worse, so the last state stays",
    "alike": "not distinguishable on so many items",
    "unknown": "not comparable, since one of them has no score",
}
