"""Task scores: what each state's vectors are worth in a task, item by item, with the same draws for all states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from depthscope.errors import BadInput, UnknownName
from depthscope.materials.labelled import Kind, Labelled
from depthscope.measures.probes import (
    cluster_numbers,
    draw_shots,
    few_shot_labels,
    nearest_labels,
    numbered,
    ridge_probe,
)
from depthscope.measures.scores import (
    ndcg,
    pair_cosines,
    ranked,
    ranking_precision,
    reciprocal_rank,
    weighted_average_precision,
    weighted_mean,
    weighted_spearman,
    weighted_v_measure,
)

METRICS: Mapping[Kind, tuple[str, ...]] = {
    "classification": ("few_shot", "ridge", "knn", "v_measure"),
    "sts": ("spearman",),
    "pair": ("average_precision",),
    "retrieval": ("ndcg", "map", "mrr"),
}
"""What a kind of task is scored by; the first is its main score."""
STATISTICS: Mapping[str, Callable[[Any, Any, Any], Any]] = {
    "v_measure": weighted_v_measure,
    "spearman": weighted_spearman,
    "average_precision": weighted_average_precision,
}
"""Score -> what makes it of items; the mean where none is named."""
TOGETHER = 2**22
"""Numbers of one block of draws."""


@dataclass(frozen=True)
class Scored:
    """One score of one task at every state.

    Args:
        values: what each item shows at each state: whether it was right (few_shot: how often, over the draws in which
            it was no example; NaN where it always was), its cosine, its cluster, or its query's score. All NaN at
            states whose vectors are not finite. gold: what belongs to it.
    """

    metric: str
    values: Float[np.ndarray, "state item"]
    gold: Num[np.ndarray, " item"]

    def score(self) -> Float[np.ndarray, " state"]:
        """The score of each state, over all items."""
        return self.weighted(np.ones((1, len(self.gold)), np.int64))[0]

    def weighted(self, weights: Num[np.ndarray, "draw item"]) -> Float[np.ndarray, "draw state"]:
        """The scores of draws in which items occur as often as their weights say."""
        statistic = STATISTICS.get(self.metric, weighted_mean)
        found = np.full((len(weights), len(self.values)), np.nan)
        for state, values in enumerate(self.values):
            if np.isfinite(values).any():
                found[:, state] = statistic(values, self.gold, weights)
        return found

    def drawn(self, draws: int = 1000, seed: int = 0) -> Float[np.ndarray, "draw state"]:
        """Scores of items drawn with replacement, the same items for all states: differences of states are paired.

        Moved so that the mean of the draws is the score itself: a score that is no mean (agreement of clusters most)
        has a bias that repeated items enlarge.
        """
        n = len(self.gold)
        generator, found = np.random.default_rng(seed), list[np.ndarray]()
        for start in range(0, draws, max(1, TOGETHER // n)):
            rows = min(draws - start, max(1, TOGETHER // n))
            found.append(self.weighted(generator.multinomial(n, np.full(n, 1 / n), size=rows)))
        every = np.concatenate(found)
        middle = np.where(np.isfinite(every), every, 0.0).sum(0) / np.maximum(np.isfinite(every).sum(0), 1)
        return every + (self.score() - middle)


def scored(
    task: Labelled,
    vectors: Float[np.ndarray, "state text d"],
    metrics: Sequence[str] = (),
    *,
    shots: int = 8,
    draws: int = 10,
    seed: int = 0,
) -> tuple[Scored, ...]:
    """Scores of a task at every state; the examples of the few-shot draws are the same for all states.

    classification: few_shot (logistic regression on `shots` items of each label, `draws` times, accuracy on the
    others), ridge (all items, each left out in closed form), knn (5 nearest other items by cosine), v_measure
    (mini-batch k-means into as many clusters as labels). sts: spearman of the cosines with the scores. pair: average
    precision of the cosines. retrieval: ndcg of the first 10 over all candidate texts of the task; map and mrr over a
    query's own.

    Args:
        vectors: of the task's texts, in their order. metrics: which of `METRICS`; all where empty.

    Raises:
        BadInput: when the vectors are not those of the task's texts, or a label has fewer than two items.
        UnknownName: for a score that this kind of task does not have.
    """
    if vectors.shape[1] != len(task.texts):
        raise BadInput(f"{task.name} has {len(task.texts)} texts, but {vectors.shape[1]} vectors were given")
    for metric in metrics:
        if metric not in METRICS[task.kind]:
            raise UnknownName(f"score of a {task.kind} task", metric, METRICS[task.kind])
    chosen = [m for m in METRICS[task.kind] if not metrics or m in metrics]
    make: Callable[..., list[Scored]] = {
        "classification": _classified, "sts": _paired, "pair": _paired, "retrieval": _retrieved,
    }[task.kind]  # fmt: skip
    return tuple(make(task, vectors, chosen, shots, draws, seed))


def _each(vectors: np.ndarray, items: int, look: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What `look` says of the items at each state [state, item]; NaN at states whose vectors are not finite."""
    found = np.full((len(vectors), items), np.nan)
    for state, each in enumerate(vectors):
        if np.isfinite(each).all():
            found[state] = look(each)
    return found


def _classified(
    task: Labelled, vectors: np.ndarray, metrics: Sequence[str], shots: int, draws: int, seed: int
) -> list[Scored]:
    gold = numbered(np.asarray([str(item.gold) for item in task.items]))
    rare = [task.labels[k] for k, n in enumerate(np.bincount(gold)) if n < 2]
    if rare:
        raise BadInput(
            f"{task.name}: {len(rare)} of {len(task.labels)} labels have a single item ({', '.join(rare[:5])}); a "
            "label needs one to learn from and one to be tested on: add items, leave the label out, or raise the limit"
        )
    examples = [draw_shots(gold, shots, seed + draw) for draw in range(draws)]
    looks: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "few_shot": lambda x: _few_shot(x, gold, examples),
        "ridge": lambda x: ridge_probe(x, gold).predicted == gold,
        "knn": lambda x: nearest_labels(x, gold) == gold,
        "v_measure": lambda x: cluster_numbers(x, int(gold.max()) + 1, seed),
    }
    own = vectors[:, [item.texts[0] for item in task.items]]
    return [Scored(metric, _each(own, len(gold), looks[metric]), gold) for metric in metrics]


def _few_shot(x: np.ndarray, gold: np.ndarray, examples: Sequence[np.ndarray]) -> np.ndarray:
    """How often each item was right, over the draws in which it was no example."""
    right, tested = np.zeros(len(gold)), np.zeros(len(gold))
    for shots in examples:
        other = np.ones(len(gold), bool)
        other[shots] = False
        right += other & (few_shot_labels(x, gold, shots) == gold)
        tested += other
    return np.divide(right, tested, out=np.full(len(gold), np.nan), where=tested > 0)


def _paired(
    task: Labelled, vectors: np.ndarray, metrics: Sequence[str], shots: int, draws: int, seed: int
) -> list[Scored]:
    del shots, draws, seed
    gold = np.asarray([float(item.gold) for item in task.items])
    first, second = ([item.texts[k] for item in task.items] for k in (0, 1))
    values = _each(
        vectors, len(gold), lambda x: pair_cosines(x[first].astype(np.float64), x[second].astype(np.float64))
    )
    return [Scored(metric, values, gold) for metric in metrics]


def _retrieved(
    task: Labelled, vectors: np.ndarray, metrics: Sequence[str], shots: int, draws: int, seed: int
) -> list[Scored]:
    del shots, draws, seed
    gold = np.asarray([float(item.gold) for item in task.items])
    corpus = sorted({text for item in task.items for text in item.texts[1:]})
    looks: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "ndcg": lambda x: _over(task, x, ndcg, corpus),
        "map": lambda x: _over(task, x, ranking_precision),
        "mrr": lambda x: _over(task, x, reciprocal_rank),
    }
    return [Scored(metric, _each(vectors, len(gold), looks[metric]), gold) for metric in metrics]


def _over(
    task: Labelled, x: np.ndarray, score: Callable[[Any], float], corpus: Sequence[int] = ()
) -> np.ndarray:
    """Each query's score: of the corpus without the query's own text, or of the query's own candidates."""
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    unit = np.divide(x, norms, out=np.zeros(x.shape), where=norms > 0)
    found = np.zeros(len(task.items))
    for number, item in enumerate(task.items):
        query, positives = item.texts[0], set(item.texts[1 : 1 + int(item.gold)])
        candidates = [t for t in (corpus or item.texts[1:]) if t != query or t in positives]
        relevant = np.asarray([t in positives for t in candidates], np.bool_)
        found[number] = score(ranked(unit[candidates] @ unit[query], relevant))
    return found
