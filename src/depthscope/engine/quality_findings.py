"""From pooled vectors of labelled texts to measurements: scores, best states, gains over the last state, controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from depthscope.engine.judged import Judged, judged
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts
from depthscope.engine.quality_tasks import Read, controls, processed, tasks_read
from depthscope.engine.tally import Tally, Vectors
from depthscope.engine.task_scores import METRICS, Scored
from depthscope.materials.labelled import Labelled
from depthscope.measures.statistics import Interval
from depthscope.results.measurement import Measurement

VARIANTS = ("majority", "tfidf", "shuffled")
OTHER_KIND = "the score belongs to another kind of task"
BEST = "interval: the best states of draws of items"
SHARE = "how often, of draws of items, the state is the best"
AS_GOOD = "1 where the paired interval of best minus state holds 0"
SEEN = "as gain, but chosen and scored on the same items: too good"
Cell = tuple[str, str, str]
"""(task, score, mode)"""


@dataclass(frozen=True)
class Graded:
    """Everything scored: by (task, score, mode) the judgement, and by (task, score, variant) a control's interval."""

    cells: Mapping[Cell, Judged]
    controls: Mapping[Cell, tuple[Interval, int]]
    tasks: tuple[str, ...]
    scores: tuple[str, ...]
    modes: tuple[str, ...]
    main: Mapping[str, str]

    def measurements(self, facts: Facts) -> list[Measurement]:
        """All measurements."""
        state = {"state": np.arange(facts.n_layers + 1)}
        note = "bootstrap over items, the same items for all states"
        held = "best state before the last minus the last state; chosen on one half of the items, scored on the other"
        return [
            self._main(state, note),
            self._each("score", state, lambda j: j.score, note),
            self._each("best_state", {}, lambda j: j.best, BEST),
            self._each("best_share", state, lambda j: _exact(j.best_share), SHARE),
            self._each("as_good", state, lambda j: _exact(j.as_good), AS_GOOD),
            self._each("gain", {}, lambda j: j.gain, held),
            self._each("gain_seen", {}, lambda j: j.gain_seen, SEEN),
            self._controls(),
        ]  # fmt: skip

    def _axes(self, more: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        by = {"task": self.tasks, "score": self.scores, "mode": self.modes}
        return {**{axis: np.asarray(labels) for axis, labels in by.items()}, **more}

    def _each(
        self, name: str, more: Mapping[str, np.ndarray], pick: Callable[[Judged], Interval], note: str
    ) -> Measurement:
        axes = self._axes(more)
        shape = tuple(len(labels) for labels in axes.values())
        value, low, high, n = (np.full(shape, np.nan) for _ in range(4))
        for (task, score, mode), found in self.cells.items():
            at = self.tasks.index(task), self.scores.index(score), self.modes.index(mode)
            value[at], low[at], high[at] = pick(found)
            n[at] = np.where(np.isfinite(value[at]), found.n, 0)
        counts = np.nan_to_num(n).astype(np.int64)
        exact = not np.isfinite(low).any()
        unit = {"best_share": "probability"}.get(name, "1")
        ends = (None, None) if exact else (low, high)
        return Measurement(name, axes, value, unit, *ends, counts, counts, note, _why(value))

    def _main(self, state: Mapping[str, np.ndarray], note: str) -> Measurement:
        """Each task's main score."""
        every = self._each("score", state, lambda j: j.score, note)
        picked = [(t, self.scores.index(self.main[task])) for t, task in enumerate(self.tasks)]
        parts = (every.value, every.low, every.high, every.n, every.n_items)
        value, low, high, n, n_items = (
            None if p is None else np.stack([p[t, s] for t, s in picked]) for p in parts
        )
        assert value is not None
        axes = {axis: labels for axis, labels in every.axes.items() if axis != "score"}
        said = ", ".join(f"{task}: {self.main[task]}" for task in self.tasks)
        return Measurement(
            "main_score", axes, value, "1", low, high, n, n_items, f"{said}; {note}", _why(value)
        )

    def _controls(self) -> Measurement:
        axes = {"task": self.tasks, "score": self.scores, "variant": VARIANTS}
        value, low, high = (np.full(tuple(map(len, axes.values())), np.nan) for _ in range(3))
        n = np.zeros(value.shape, np.int64)
        for (task, score, variant), (found, items) in self.controls.items():
            at = self.tasks.index(task), self.scores.index(score), VARIANTS.index(variant)
            value[at], low[at], high[at] = found
            n[at] = items if np.isfinite(found.value) else 0
        note = "shuffled: labels in random order, at the best state of the first mode"
        missing = f"{OTHER_KIND}, or has no answer without reading" if np.isnan(value).any() else ""
        named = {axis: np.asarray(labels) for axis, labels in axes.items()}
        return Measurement("control", named, value, "1", low, high, n, n, note, missing)


def _exact(values: np.ndarray) -> Interval:
    nothing = np.full(values.shape, np.nan)
    return Interval(values.astype(np.float64), nothing, nothing)


def _why(value: np.ndarray) -> str:
    gone = f"{OTHER_KIND}, the state's vectors are not finite, or all its cosines are equal"
    return gone if np.isnan(value).any() else ""


def interval_of(found: Scored | None, share: float, draws: int, seed: int) -> tuple[Interval, int]:
    """A control's score at its one state with its interval, and its items; a share that is known has neither."""
    if found is None:
        nothing = np.asarray(np.nan)
        return Interval(np.asarray(share), nothing, nothing), 0
    drawn = found.drawn(draws, seed)[:, 0]
    fine = drawn[np.isfinite(drawn)]
    ends = np.quantile(fine, [0.025, 0.975]) if len(fine) else np.full(2, np.nan)
    one = Interval(found.score()[0], ends[0], ends[1]).holding()
    return one, int(np.isfinite(found.values).any(0).sum())


def graded(
    total: Tally, modes: Sequence[str], place_of: Callable[[str], int], how_of: Callable[[str], str],
    score: Callable[[Labelled, np.ndarray, Sequence[str]], tuple[Scored, ...]], draws: int, seed: int,
) -> tuple[Graded, list[Read]]:  # fmt: skip
    """Score and judge every task in every mode.

    Args:
        place_of, how_of: of a mode, its place on the vectors' second axis, and how they are processed.
        score: scores of a task from vectors [state, text, d], of the names given or of all.
    """
    vectors, read = part(total, "vectors", Vectors).values, tasks_read(total)
    cells: dict[Cell, Judged] = {}
    beside: dict[Cell, tuple[Interval, int]] = {}
    main: dict[str, str] = {}
    for each in read:
        name = each.task.name
        own = vectors[list(each.places)]
        best: dict[str, np.ndarray] = {}
        for mode in modes:
            held = processed(np.ascontiguousarray(own[:, place_of(mode)].transpose(1, 0, 2)), how_of(mode))
            for found in score(each.task, held, ()):
                cells[name, found.metric, mode] = judgement = judged(found, draws, seed)
                state = judgement.best.value
                if np.isfinite(state):
                    best.setdefault(found.metric, held[[int(state)]])
        main[name] = next(m for m in METRICS[each.task.kind] if (name, m, modes[0]) in cells)
        for metric, variant, found, share in controls(
            each.task, best, lambda t, v, m: score(t, v, [m])[0], seed
        ):
            interval, n = interval_of(found, share, draws, seed)
            beside[name, metric, variant] = interval, n if found else len(each.task.items)
    scores = tuple(dict.fromkeys(metric for kind in METRICS.values() for metric in kind))
    used = tuple(m for m in scores if any(cell[1] == m for cell in cells))
    names = tuple(each.task.name for each in read)
    return Graded(cells, beside, names, used, tuple(modes), main), read
