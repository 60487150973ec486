"""Labelled tasks out of a tally, vectors as a mode has them, and the controls beside a task's scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from depthscope.engine.measured import part
from depthscope.engine.tally import Rows, Tally, Vectors
from depthscope.engine.task_scores import Scored
from depthscope.errors import EmptyMaterial
from depthscope.materials.labelled import KINDS, Item, Kind, Labelled


@dataclass(frozen=True)
class Read:
    """A task as it was read: its items whose texts all have vectors.

    Args:
        places: where each of the task's texts stands in the vectors. left_out: items with a text without tokens, or
            whose states were not finite.
    """

    task: Labelled
    places: tuple[int, ...]
    left_out: int


def tasks_read(total: Tally) -> list[Read]:
    """The tasks, put together again from what the windows said of themselves, in order of first appearance."""
    items, texts = part(total, "items", Rows).columns, part(total, "texts", Rows)
    said = dict(zip(texts.key.tolist(), texts.columns["text"].tolist(), strict=True))
    place = {int(key): k for k, key in enumerate(part(total, "vectors", Vectors).key)}
    found = []
    for name in dict.fromkeys(items["task"].tolist()):
        own = {column: values[items["task"] == name] for column, values in items.items()}
        found.append(_task(str(name), own, said, place))
    return found


def _task(name: str, own: Mapping[str, np.ndarray], said: dict[int, str], place: dict[int, int]) -> Read:
    slots: dict[int, dict[int, int]] = {}
    golds: dict[int, str] = {}
    for number, slot, key, gold in zip(own["item"], own["slot"], own["text"], own["gold"], strict=True):
        slots.setdefault(int(number), {})[int(slot)] = int(key)
        golds[int(number)] = str(gold)
    sizes = dict(zip(own["item"].tolist(), own["slots"].tolist(), strict=True))
    whole = [n for n in sorted(slots) if len(slots[n]) == sizes[n]]
    kind: Kind = KINDS[KINDS.index(own["kind"][0])]
    numbered: dict[int, int] = {}
    items = []
    for n in whole:
        texts = tuple(numbered.setdefault(slots[n][s], len(numbered)) for s in range(sizes[n]))
        items.append(Item(texts, golds[n] if kind == "classification" else float(golds[n])))
    total = int(own["of"][0])
    if not items:
        raise EmptyMaterial(f"none of the {total} items of {name} could be read; its texts have no tokens")
    task = Labelled(name, kind, tuple(said[key] for key in numbered), tuple(items))
    return Read(task, tuple(place[key] for key in numbered), total - len(items))


def processed(vectors: Float[np.ndarray, "state text d"], how: str) -> Float[np.ndarray, "state text d"]:
    """Vectors as they are (""), or without what is common to all texts of the task; no label is looked at.

    standard: each channel minus its mean, over its deviation. abtt: minus the mean and the parts along the first
    ceil(d / 100) principal directions (Mu and Viswanath 2018, all but the top).
    """
    if not how:
        return vectors
    centred = vectors.astype(np.float64) - vectors.mean(1, keepdims=True, dtype=np.float64)
    if how == "standard":
        spread = centred.std(1, keepdims=True)
        return (centred / np.where(spread > 0, spread, 1.0)).astype(np.float32)
    found = np.empty_like(vectors)
    for state, each in enumerate(centred):
        if not np.isfinite(each).all():
            found[state] = np.nan
            continue
        top = np.linalg.svd(each, full_matrices=False)[2][: -(-each.shape[1] // 100)]
        found[state] = each - (each @ top.T) @ top
    return found


def tfidf(texts: Sequence[str]) -> Float[np.ndarray, "1 text term"]:
    """Words, pairs of words and single CJK characters, weighted by TF-IDF: what a task needs no model for."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    pattern = r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+"
    fitted = TfidfVectorizer(token_pattern=pattern, ngram_range=(1, 2), max_features=4096)
    try:
        found = fitted.fit_transform(texts)
    except ValueError:  # no text holds a word
        return np.zeros((1, len(texts), 1), np.float32)
    return np.asarray(found.todense(), np.float32)[None]


def controls(
    task: Labelled,
    best: Mapping[str, np.ndarray],
    score: Callable[[Labelled, np.ndarray, str], Scored],
    seed: int,
) -> Iterator[tuple[str, str, Scored | None, float]]:
    """Of each score what the most frequent label, TF-IDF, and labels in random order at the best state give.

    As (score, variant, the scored items, NaN), or with None and a share that is known.

    Args:
        best: of each score, the vectors [1, text, d] of the state that is the best by it.
    """
    words = tfidf(task.texts)
    mixed = np.random.default_rng(seed).permutation(len(task.items))
    golds = [task.items[k].gold for k in mixed]
    shuffled = replace(task, items=tuple(Item(i.texts, g) for i, g in zip(task.items, golds, strict=True)))
    for metric, vectors in best.items():
        yield metric, "majority", None, _majority(task, metric)
        yield metric, "tfidf", score(task, words, metric), np.nan
        if (
            task.kind == "retrieval"
        ):  # positives of other queries: the same numbers of texts, in another order
            shuffled = replace(task, items=tuple(_mixed(item, seed + n) for n, item in enumerate(task.items)))
        yield metric, "shuffled", score(shuffled, vectors, metric), np.nan


def _mixed(item: Item, seed: int) -> Item:
    order = np.random.default_rng(seed).permutation(len(item.texts) - 1) + 1
    return Item((item.texts[0], *(item.texts[k] for k in order)), item.gold)


def _majority(task: Labelled, metric: str) -> float:
    """What answers without reading give: the share of the most frequent label, or of the pairs that are alike."""
    golds = [str(item.gold) for item in task.items]
    if metric in ("few_shot", "ridge", "knn"):
        return max(golds.count(label) for label in task.labels) / len(golds)
    return golds.count("1.0") / len(golds) if metric == "average_precision" else float("nan")
