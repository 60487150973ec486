"""The numbers that documentation pages show of runs laid over each other; see write_numbers.py --compare, --seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from depthscope.report.compare import GRID, Comparison, compare, on_grid
from depthscope.report.seeds import compare_seeds
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result, Text
from depthscope.store.run import Run

SHOWN = (
    "representation_profile/prompt_entropy[mode=wei]", "representation_profile/prompt_entropy[mode=wei_no_massive]",
    "representation_profile/curvature[mode=signed]", "representation_profile/effective_rank[mode=wei_no_massive]",
    "logit_lens/kl_to_final", "logit_lens/cross_entropy", "corpus_statistics/norm_median",
)  # fmt: skip
"""Curves whose values at every fifth depth, and whose total variation, are kept."""
EVERY = 4


def compared(runs: Sequence[Run], seeds: bool) -> dict[str, Result]:
    """One result: summaries as [mode, model], curves as [depth, model]; the last model label is the difference.

    Of two runs with an atlas of heads also scores, labels [role, model] and how well heads can be paired.
    """
    found = (compare_seeds if seeds else compare)(runs)
    kinds = tuple(dict.fromkeys(str(run.manifest["model"]["family"]) for run in runs))
    found = replace(found, runs=kinds) if len(kinds) == len(found.runs) else found
    measured = [*_summaries(found), *_curves(found), *_heads(found)]
    notes = (found.pairing,)
    words = Text(*[" "] * 6)
    return {
        "comparison": Result(
            "comparison", {}, Findings({m.name: m for m in measured}, notes=notes), words, {}
        )
    }


def _models(found: Comparison) -> np.ndarray:
    return np.array([*found.runs, *(f"{name} minus {found.runs[0]}" for name in found.runs[1:])])


def _summaries(found: Comparison) -> list[Measurement]:
    kept = [one for one in found.summaries if one.kind != "total variation" or one.curve in SHOWN]
    made: list[Measurement] = []
    for kind in dict.fromkeys(one.kind for one in kept):
        each = [one for one in kept if one.kind == kind]
        parts: dict[str, Any] = {
            part: np.array([[*getattr(one, part), *getattr(one, apart)[1:]] for one in each])
            for part, apart in (("value", "difference"), ("low", "below"), ("high", "above"))
        }
        axes = {"mode": np.array([one.curve.partition("/")[2] for one in each]), "model": _models(found)}
        made.append(Measurement(kind.replace(" ", "_"), axes, unit="1", missing="no value", **parts))
    return made


def _curves(found: Comparison) -> list[Measurement]:
    made: list[Measurement] = []
    for one in (found.aligned[name] for name in SHOWN if name in found.aligned):
        bounds = [_own_bounds(one, part) for part in ("low", "high")]
        parts: dict[str, Any] = {
            part: np.concatenate([own, apart[1:]])[:, ::EVERY].T
            for part, own, apart in (
                ("value", one.value, one.difference), ("low", bounds[0], one.low), ("high", bounds[1], one.high)
            )
        }  # fmt: skip
        axes = {"depth": np.array([f"{depth:.0%}" for depth in GRID[::EVERY]]), "model": _models(found)}
        name = one.name.partition("/")[2].replace("[mode=", "_").replace("]", "")
        made.append(Measurement(name, axes, unit=one.unit, missing="no value", **parts))
    return made


def _heads(found: Comparison) -> list[Measurement]:
    """The second atlas against the first."""
    if not found.heads:
        return []
    pair = found.heads[0]
    scores = {"score": np.array([one.score for one in pair.scores])}
    by_score = {
        "level_apart": "level", "depth_apart": "depth", "depth_apart_random": "depth_null", "depth_apart_p": "depth_p",
    }  # fmt: skip
    made = [
        Measurement(
            name, scores, np.array([getattr(one, part) for one in pair.scores]), "1", missing="no value"
        )
        for name, part in by_score.items()
    ]
    value, low, high, n = (
        np.array([getattr(one, part) for one in pair.scores]) for part in ("correlation", "low", "high", "n")
    )
    made.append(
        Measurement("index_correlation", scores, value, "1", low, high, n_items=n, missing="other sizes")
    )
    roles = {"role": np.array([one.label for one in pair.labels]), "model": np.array(found.runs[:2])}
    for name, part in (("role_share", "share"), ("role_depth", "depth")):
        value = np.array([getattr(one, part) for one in pair.labels])
        made.append(Measurement(name, roles, value, "1", missing="open, or no head has it"))
    if pair.matched is not None:
        for name, value in (
            ("pairs_correlation", pair.matched.correlation), ("pairs_p", pair.matched.p),
            ("pairs_p_given", pair.matched.p_given), ("pairs_depth_correlation", pair.matched.depth),
        ):  # fmt: skip
            many = np.asarray(len(pair.matched.pairs))
            made.append(
                Measurement(name, {}, np.asarray(value), "1", n_items=many, missing="depths do not vary")
            )
    return made


def _own_bounds(one: Any, part: str) -> np.ndarray:  # noqa: ANN401
    """The interval of every architecture's own curve on GRID, [model, depth]."""
    return np.stack([on_grid(curve, part) for curve in one.curves])
