"""Atlases of the checkpoints of one training: how scores rise, and the step at which each label is born."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from depthscope.measures.acceleration import onset_step
from depthscope.measures.head_pairing import birth_step, top_mean
from depthscope.report.head_comparison import ATLAS, Heads
from depthscope.results.measurement import Measurement
from depthscope.store.run import Run
from depthscope.store.steps import marked_step

TOP = 0.05
"""Share of the heads whose mean stands for a score at a step."""
BEHAVIOURS = {
    "minimal_pairs/accuracy": 1.0, "minimal_pairs/good_loss": -1.0, "grammar_heads/uas": 1.0,
    "induction_heads/first_copy_loss": -1.0, "induction_heads/second_copy_loss": -1.0,
}  # fmt: skip
"""What the model can do, by measurement, and whether it rises or falls."""
FEWEST = 4
"""Steps below which nothing sets in."""
NOBODY = "no head has it at the last step"


@dataclass(frozen=True)
class HeadCourse:
    """Scores and labels over steps.

    Args:
        top: [step, score], mean of the TOP share of heads with the largest values. share: [step, role] of heads.
        birth: [role], the step from which on some head has the label at every later step too. kept: [role], heads that
            have it at the last step; kept_birth: [role], the median of the steps from which on they keep it.
        behaviour: [step, score], those of BEHAVIOURS that all runs measured; None without any.
        onset: [score], the step at which each sets in, see `measures.acceleration.onset_step`; None below 4 steps.
    """

    top: Measurement
    share: Measurement
    birth: Measurement
    kept: Measurement
    kept_birth: Measurement
    behaviour: Measurement | None = None
    onset: Measurement | None = None


def course_of(runs: Sequence[Run], names: Sequence[str]) -> HeadCourse | None:
    """The course of runs that are checkpoints of one training: atlases of one size whose names hold different steps."""
    marked = {step: place for place, run in enumerate(runs) if (step := _step(run)) is not None}
    if len(runs) < 2 or len(marked) < len(runs) or not all(ATLAS in run for run in runs):
        return None
    steps = sorted(marked)
    atlases = [Heads.of(names[marked[step]], runs[marked[step]][ATLAS]) for step in steps]
    if len({one.size for one in atlases}) > 1:
        return None
    found = course(atlases, np.array(steps, np.int64))
    return replace(found, **behaviours([runs[marked[step]] for step in steps], np.array(steps, np.int64)))


def behaviours(runs: Sequence[Run], steps: np.ndarray) -> dict[str, Measurement]:
    """What all runs measured of BEHAVIOURS over steps, and when each sets in."""
    known = {name: sign for name, sign in BEHAVIOURS.items() if all(_has(run, name) for run in runs)}
    if not known:
        return {}
    each = [name.split("/") for name in known]
    values = np.array([[run[analysis][name].scalar() for analysis, name in each] for run in runs])
    axis = {"score": np.array(list(known))}
    gap = "a run has no value of it"
    found = {"behaviour": Measurement("behaviour", {"step": steps, **axis}, values, "1", missing=gap)}
    if len(steps) >= FEWEST and steps[0] >= 0:
        onset = onset_step(values.T * np.array(list(known.values()))[:, None], steps)
        note = "step of the largest second difference over ln(1 + step)"
        found["onset"] = Measurement(
            "behaviour_onset", axis, onset, "1", note=note, missing="it sets in nowhere"
        )
    return found


def _has(run: Run, name: str) -> bool:
    analysis, measured = name.split("/")
    return analysis in run and measured in run[analysis].findings.measurements


def course(atlases: Sequence[Heads], steps: np.ndarray) -> HeadCourse:
    """Scores and labels that all atlases have, in the order of their steps."""
    scores = [name for name in atlases[0].scores if all(name in one.scores for one in atlases)]
    roles = [name for name in atlases[0].roles if all(name in one.roles for one in atlases)]
    values = np.stack([np.stack([one.scores[name].ravel() for name in scores]) for one in atlases])
    has = np.stack([np.stack([one.roles[name].ravel() for name in roles]) for one in atlases])
    decided = np.isfinite(has).sum(-1)
    share = np.where(decided > 0, np.nansum(has, -1) / np.maximum(decided, 1), np.nan)
    each = birth_step(has, steps)
    kept = [heads[np.isfinite(heads)] for heads in each]
    middle = np.array([np.median(own) if len(own) else np.nan for own in kept])
    born = birth_step((np.nan_to_num(has) > 0).any(-1).astype(float), steps)
    axis = {"role": np.array(roles)}
    return HeadCourse(
        Measurement(
            "score_top", {"step": steps, "score": np.array(scores)}, top_mean(values, TOP), "1",
            note=f"mean of the {TOP:.0%} of heads with the largest values, in the unit of each score",
            missing="not measured",
        ),
        Measurement(
            "role_share", {"step": steps, **axis}, share, "probability", n_items=decided, note="of heads",
            missing="scores that were not measured leave it open",
        ),
        Measurement(
            "role_birth", axis, born, "1", note="first step from which on some head has the label at every step",
            missing=NOBODY,
        ),
        Measurement("role_kept", axis, np.array(list(map(len, kept))), "1", note="heads with it at the last step"),
        Measurement(
            "role_kept_birth", axis, middle, "1", note="median of the steps from which on those heads keep it",
            missing=NOBODY,
        ),
    )  # fmt: skip


def _step(run: Run) -> int | None:
    """The step that a run's own name, its model's name or its revision is marked with."""
    model = run.manifest.get("model", {})
    said = (str(model.get("revision") or ""), str(model.get("name", "")).rpartition("/")[2], run.path.name)
    return next((step for step in map(marked_step, said) if step is not None), None)
