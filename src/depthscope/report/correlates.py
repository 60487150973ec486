"""Verdict on metrics: which curves over states go with the scores of tasks in this model, and in which direction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from depthscope.measures.correlates import Correlate, correlate
from depthscope.report.quality import main_score
from depthscope.report.sentence import Verdict
from depthscope.report.tables import PageTable, number
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

Results = Mapping[str, Result]

METRICS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "representation_profile": (("prompt_entropy", "wei_no_massive"), ("effective_rank", "wei_no_massive"),
                               ("curvature", "signed"), ("anisotropy", "no_massive")),
    "dataset_geometry": (("dataset_entropy", "wei"), ("cosine_anisotropy", "")),
    "augmentation_invariance": (("infonce_loss", "views"), ("lidar", "views"), ("dime", "views")),
}  # fmt: skip
"""Analysis -> (measurement, the label of its one further axis): the curves that are compared with scores."""
SURE = 0.05
"""Largest p of a metric that is named."""


def metrics_follow(results: Results) -> Verdict:
    """Which metrics of the run go with the tasks' main scores: one sign in all tasks, with depth taken out too.

    Only the sign of this model is said. Each p is that of the distance correlation; states next to each other are
    alike, so a metric is named only where every task agrees before and after depth is taken out.
    """
    topic = "Which metrics go with the scores"
    quality = results["layer_quality"]
    tasks = np.asarray(quality["score"].axes["task"]).tolist()
    said: list[str] = []
    because: list[str] = []
    for name, found in correlates(results):
        because += [
            f"{name}, {task}: rho {c.spearman:+.2f}, without depth {c.partial:+.2f}, dCor {c.distance:.2f} "
            f"(p = {c.p:.3f})"
            for task, c in found.items()
        ]
        sign = _sign(list(found.values()))
        if sign:
            said.append(f"{name} {'rises' if sign > 0 else 'falls'} where scores rise")
    grounds = f"{'; '.join(because)}. Over {len(np.asarray(quality['score'].axes['state']))} states."
    if not because:
        return Verdict(topic, "Not decided: the run holds no metric over states.", False, "")
    if not said:
        return Verdict(
            topic, f"Not decided: no metric has one direction in all {len(tasks)} tasks.", False, grounds
        )
    return Verdict(topic, f"In this model {', '.join(said)}, in all {len(tasks)} tasks.", True, grounds)


def correlates(results: Results) -> Iterator[tuple[str, dict[str, Correlate]]]:
    """Each metric of the run, and how it goes with the main score of every task."""
    quality = results["layer_quality"]
    tasks = np.asarray(quality["score"].axes["task"]).tolist()
    for name, curve in curves(results):
        yield name, {task: _with(quality, task, curve) for task in tasks}


def metric_table(results: Results) -> PageTable | None:
    """A row a metric and task, with the sign of this model; None where the run holds no scores or no metric."""
    if "layer_quality" not in results:
        return None
    rows = [
        (name, task, f"{c.spearman:+.2f}", f"{c.partial:+.2f}", number(c.distance), number(c.p))
        for name, found in correlates(results)
        for task, c in found.items()
    ]
    if not rows:
        return None
    named = ("metric", "task", "rank correlation", "without depth", "distance correlation", "p")
    signs = tuple(
        tuple(cell.replace("-", "\N{MINUS SIGN}") if k in (2, 3) else cell for k, cell in enumerate(row))
        for row in rows
    )
    note = (
        "over the states of this model: + rises where the task's main score rises; p is that of the distance "
        "correlation, which neighbouring states make too small"
    )
    return PageTable("Metrics beside the scores of tasks", named, signs, 2, note)


def curves(results: Results) -> Iterator[tuple[str, Measurement]]:
    """The metrics that the run holds with intervals, each as one curve over states."""
    for analysis, names in METRICS.items():
        measured = results[analysis].findings.measurements if analysis in results else {}
        for name, label in names:
            if name not in measured:
                continue
            found = measured[name]
            more = [axis for axis in found.axes if axis != "state"]
            if more and label in np.asarray(found.axes[more[0]]).tolist():
                found = found.select(**{more[0]: label})
            if list(found.axes) == ["state"] and _sure(found):
                yield f"{name}{f' ({label})' if label else ''}", found


def _sure(found: Measurement) -> bool:
    """Whether a curve has intervals: what has none may be of a single text."""
    return found.low is not None and bool(np.isfinite(found.low).any())


def _with(quality: Result, task: str, curve: Measurement) -> Correlate:
    score = quality["score"]
    mode = np.asarray(score.axes["mode"])[0]
    own = score.select(task=task, score=main_score(quality, task), mode=mode)
    shared = [s for s in np.asarray(curve.axes["state"]).tolist() if s in np.asarray(own.axes["state"])]
    at = [[found.at(state=s) for s in shared] for found in (curve, own)]
    return correlate(np.asarray(at[0]), np.asarray(at[1]), np.asarray(shared, np.float64))


def _sign(found: list[Correlate]) -> int:
    """1 or -1 where every task has that sign with and without depth, and every p is small; 0 otherwise."""
    for sign in (1, -1):
        if all(sign * c.spearman > 0 and sign * c.partial > 0 and c.p <= SURE for c in found):
            return sign
    return 0
