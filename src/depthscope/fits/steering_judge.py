"""The judge of written text: which domain some tokens are from, by which tokens and pairs of tokens stand in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from depthscope.materials.window import Window


@dataclass(frozen=True, eq=False)
class Judge:
    """A logistic regression on TF-IDF weights of ids and pairs of ids, fitted on pieces as long as what it judges.

    It knows no state of any model, so a text that it takes for a domain has words of that domain.

    Args:
        labels: sorted. accuracy: share of held-out pieces that it puts right, `pieces` of them.
    """

    labels: tuple[str, ...]
    model: Any
    accuracy: float
    pieces: int

    @classmethod
    def of(cls, train: Sequence[Window], held_out: Sequence[Window], length: int, seed: int) -> Judge:
        """Fitted on the pieces of some windows, tried on those of others."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        texts, gold = _pieces(train, length)
        made = make_pipeline(
            TfidfVectorizer(token_pattern=r"\d+", ngram_range=(1, 2), sublinear_tf=True, min_df=2),
            LogisticRegression(C=10.0, max_iter=200, class_weight="balanced", random_state=seed),
        )
        made.fit(texts, gold)
        tried, wanted = _pieces(held_out, length)
        right = float(np.mean(made.predict(tried) == np.asarray(wanted))) if tried else float("nan")
        return cls(tuple(map(str, made.classes_)), made, right, len(tried))

    def probabilities(self, texts: Sequence[Sequence[int]]) -> Float[np.ndarray, "text label"]:
        """Of each text the probability of each label, in the order of `labels`."""
        return np.asarray(self.model.predict_proba([_spelled(ids) for ids in texts]), np.float64)


def _pieces(windows: Sequence[Window], length: int) -> tuple[list[str], list[str]]:
    """Every full piece of each window and its label."""
    cut = [(w.ids[k : k + length], w) for w in windows for k in range(0, len(w.ids) - length + 1, length)]
    return [_spelled(ids) for ids, _ in cut], [str(w.about["label"]) for _, w in cut]


def _spelled(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


def distinct(ids: Sequence[int], n: int) -> float:
    """Different runs of n tokens over all runs of n tokens, 0 to 1; NaN for a text shorter than n."""
    runs = [tuple(ids[k : k + n]) for k in range(len(ids) - n + 1)]
    return len(set(runs)) / len(runs) if runs else float("nan")


def shared(ids: Sequence[int], other: Sequence[int], common: frozenset[int]) -> float:
    """Of the different tokens written that are not common ones, the share that another text has too; NaN for none."""
    own = set(ids) - common
    return len(own & set(other)) / len(own) if own else float("nan")


def commonest(windows: Sequence[Window], count: int) -> frozenset[int]:
    """The most frequent ids of some windows."""
    found: dict[int, int] = {}
    for w in windows:
        for i in w.ids:
            found[i] = found.get(i, 0) + 1
    return frozenset(sorted(found, key=lambda i: (-found[i], i))[:count])


def scored(
    judge: Judge, ids: Sequence[int], own: Window, other: Window, common: frozenset[int]
) -> Mapping[str, float | None]:
    """What is said of one written text: probabilities of both domains, tokens shared with both texts; None for NaN."""
    p = judge.probabilities([ids])[0]
    of_own, of_other = (float(p[judge.labels.index(str(w.about["label"]))]) for w in (own, other))
    said = {
        "towards_other": of_other / (of_other + of_own), "other_domain": of_other, "own_domain": of_own,
        "shared_other": shared(ids, other.ids, common), "shared_own": shared(ids, own.ids, common),
        "distinct_1": distinct(ids, 1), "distinct_2": distinct(ids, 2),
    }  # fmt: skip
    return {name: value if math.isfinite(value) else None for name, value in said.items()}
