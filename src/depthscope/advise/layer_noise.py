"""Robustness of states: what noise in the texts does to predictions, to the score, and to finding a text again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Num

from depthscope.advise.layer_task import Judge
from depthscope.engine.task_scores import Scored, scored
from depthscope.materials.augment import views
from depthscope.materials.labelled import Labelled
from depthscope.measures.geometry import cosine_anisotropy
from depthscope.measures.invariance import partner_top1
from depthscope.measures.probes import few_shot_labels, numbered
from depthscope.measures.scores import pair_cosines
from depthscope.measures.spectrum import effective_rank

SAMPLE = 96
"""Items that are disturbed; half of them where there are fewer than twice as many."""
LEARNT = 256
"""Items that the probe of a classification learns from, undisturbed."""


@dataclass(frozen=True)
class Noise:
    """What disturbing texts does at some states, item by item or text by text.

    Args:
        flips: whether the prediction of an item changes [state item]: the label (classification), the side of the
            median similarity (sts, pair), the first candidate (retrieval). drop: score without minus score with noise
            [state]. found: how often a disturbed text is nearest to its other disturbed copy [state text].
        anisotropy: mean cosine of different undisturbed texts [state]. rank: effective rank of their vectors.
    """

    states: tuple[int, ...]
    flips: Float[np.ndarray, "state item"]
    drop: Float[np.ndarray, " state"]
    found: Float[np.ndarray, "state text"]
    anisotropy: Float[np.ndarray, " state"]
    rank: Float[np.ndarray, " state"]

    def as_json(self) -> dict[str, Any]:
        """The arrays as lists."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else list(v) for k, v in vars(self).items()}

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Noise:
        """What `as_json` gave."""
        arrays = {k: np.asarray(v, np.float64) for k, v in stored.items() if k != "states"}
        return cls(tuple(stored["states"]), **arrays)

    def rate(self) -> Float[np.ndarray, " state"]:
        """Share of items whose prediction flips."""
        return self.flips.mean(1)

    def more_flips(
        self, state: int, than: int, draws: Num[np.ndarray, "draw item"]
    ) -> tuple[float, float, float]:
        """Flip rate of a state minus another's, and its paired 95 % interval over drawn items."""
        gap = self.flips[self.states.index(state)] - self.flips[self.states.index(than)]
        low, high = np.quantile(draws @ gap / draws.sum(1), [0.025, 0.975])
        return float(gap.mean()), float(low), float(high)


def noise_of(judge: Judge, states: Sequence[int]) -> Noise:
    """Disturb the first items of a task and see what that does at some states; kept in the journal."""
    states = tuple(sorted(states))
    about = {
        "task": judge.task.hash, "states": list(states), "seed": judge.seed, "pooling": judge.bank.pooling,
        "norm": judge.bank.norm, "max_tokens": judge.bank.max_tokens, "metric": judge.metric,
    }  # fmt: skip
    return Noise.of(judge.journal.step("noise", about, lambda: _measured(judge, states).as_json()))


def sample(judge: Judge) -> Labelled:
    """The items that are disturbed."""
    return judge.first(min(SAMPLE, len(judge.task.items) // 2))


def _measured(judge: Judge, states: tuple[int, ...]) -> Noise:
    task = sample(judge)
    copies = [views(text, 2, judge.seed) for text in task.texts]
    clean = judge.bank.of(task.texts, states)
    first, second = (judge.bank.of([copy[k] for copy in copies], states) for k in (0, 1))
    flips, drop = _LOOKS[task.kind](judge, task, states, clean, first)
    found = [
        partner_top1(torch.from_numpy(a), torch.from_numpy(b)).nan_to_num(0.0)
        for a, b in zip(first, second, strict=True)
    ]
    spread = np.asarray([float(cosine_anisotropy(torch.from_numpy(x))) for x in clean])
    ranks = np.asarray([_rank(x) for x in clean])
    return Noise(states, flips.astype(np.float64), drop, torch.stack(found).numpy(), spread, ranks)


def _rank(vectors: np.ndarray) -> float:
    sizes = torch.linalg.svdvals(torch.from_numpy(vectors - vectors.mean(0)).double())
    total = float(sizes.sum())
    return float(effective_rank(sizes / total)) if total > 0 else 1.0


def _classified(
    judge: Judge, task: Labelled, states: Sequence[int], clean: np.ndarray, noisy: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels by a probe that learnt from other items, undisturbed ones."""
    order = judge.task.order(judge.seed)
    rest = judge.task.only(sorted(order[len(task.items) :][:LEARNT]))
    learnt = judge.bank.of(rest.texts, states)
    gold = numbered(np.asarray([str(item.gold) for item in (*rest.items, *task.items, *task.items)]))
    rows = [item.texts[0] for item in rest.items], [item.texts[0] for item in task.items]
    n, m = len(rest.items), len(task.items)
    flips, drop = np.zeros((len(states), m), bool), np.zeros(len(states))
    for k in range(len(states)):
        x = np.concatenate([learnt[k][rows[0]], clean[k][rows[1]], noisy[k][rows[1]]])
        if np.isfinite(x).all():
            said = few_shot_labels(x, gold, np.arange(n))
            before, after = said[n : n + m], said[n + m :]
            flips[k], drop[k] = (
                before != after,
                (before == gold[n : n + m]).mean() - (after == gold[n + m :]).mean(),
            )
    return flips, drop


def _paired(
    judge: Judge, task: Labelled, states: Sequence[int], clean: np.ndarray, noisy: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The side of the median similarity of undisturbed pairs."""
    first, second = ([item.texts[k] for item in task.items] for k in (0, 1))
    flips = np.zeros((len(states), len(task.items)), bool)
    for k in range(len(states)):
        sides = [
            pair_cosines(x[k][first].astype(np.float64), x[k][second].astype(np.float64))
            for x in (clean, noisy)
        ]
        middle = np.median(sides[0])
        flips[k] = (sides[0] > middle) != (sides[1] > middle)
    return flips, _lost(judge, task, clean, noisy)


def _retrieved(
    judge: Judge, task: Labelled, states: Sequence[int], clean: np.ndarray, noisy: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The candidate that comes first, of all of the task; only queries are disturbed."""
    queries = [item.texts[0] for item in task.items]
    others = sorted({text for item in task.items for text in item.texts[1:]})
    asked = clean.copy()
    asked[:, queries] = noisy[:, queries]
    flips = np.zeros((len(states), len(queries)), bool)
    for k in range(len(states)):
        unit = [x[k] / np.maximum(np.linalg.norm(x[k], axis=1, keepdims=True), 1e-12) for x in (clean, asked)]
        flips[k] = (unit[0][queries] @ unit[0][others].T).argmax(1) != (
            unit[1][queries] @ unit[0][others].T
        ).argmax(1)
    return flips, _lost(judge, task, clean, asked)


def _lost(judge: Judge, task: Labelled, clean: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    before, after = (_score(judge, task, x).score() for x in (clean, noisy))
    return np.nan_to_num(before - after)


def _score(judge: Judge, task: Labelled, vectors: np.ndarray) -> Scored:
    return scored(task, vectors, (judge.metric,), seed=judge.seed)[0]


_LOOKS = {"classification": _classified, "sts": _paired, "pair": _paired, "retrieval": _retrieved}
