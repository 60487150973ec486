"""What steering is measured by: means of a stream and of its parts over training windows; tokens that tell a domain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.fits.states import batches
from depthscope.materials.token_classes import CLASSES, TokenClasses
from depthscope.materials.window import Window
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.predictor import Predictors
from depthscope.runtime.run import run
from depthscope.runtime.steering import Pieces, taken_apart

PARTS = ("predictable", "novel", "raw")
"""The expectation, what is left, and the stream itself."""
COMMON = 3
"""Times that a token must occur in a domain to tell it."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Means of one state over the positions of the training windows, float32.

    Args:
        mean: of the stream, [d_model]. novel: of its novel part. length: mean of |h|.
        domains: part -> mean of each label minus the mean over labels, [label d_model].
        types: part -> mean at tokens of each class minus that over all tokens, [class d_model]; 0 for absent classes.
        pool: novel parts of single tokens of other texts, [position d_model].
    """

    mean: Tensor
    novel: Tensor
    length: float
    domains: Mapping[str, Tensor]
    types: Mapping[str, Tensor]
    pool: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name, for a file."""
        named = {
            "mean": self.mean,
            "novel": self.novel,
            "length": torch.tensor(self.length),
            "pool": self.pool,
        }
        for part in PARTS:
            named |= {f"domains.{part}": self.domains[part], f"types.{part}": self.types[part]}
        return named

    @classmethod
    def of_tensors(cls, named: Mapping[str, Tensor]) -> Reference:
        """What `tensors` gave."""
        domains, types = ({p: named[f"{kind}.{p}"] for p in PARTS} for kind in ("domains", "types"))
        return cls(named["mean"], named["novel"], float(named["length"]), domains, types, named["pool"])


class _Sums:
    """Sums of one state's parts by label and by class of token, in float64."""

    def __init__(self, labels: int, width: int) -> None:
        self.by_label = torch.zeros(3, labels, width, dtype=torch.float64)
        self.by_type = torch.zeros(3, len(CLASSES), width, dtype=torch.float64)
        self.of_label = torch.zeros(labels, dtype=torch.float64)
        self.of_type = torch.zeros(len(CLASSES), dtype=torch.float64)
        self.length = 0.0
        self.pool: list[Tensor] = []

    def add(self, pieces: Pieces, labels: Tensor, types: Tensor, first: int, place: Tensor) -> None:
        """One batch: labels [row], types [row token], one position of each row for the pool."""
        parts = torch.stack([pieces.expected, pieces.novel, pieces.stream])[:, :, first:].double().cpu()
        self.by_label.index_add_(1, labels, parts.sum(2))
        self.of_label.index_add_(0, labels, torch.full(labels.shape, parts.shape[2], dtype=torch.float64))
        kinds = types[:, first:].flatten()
        self.by_type.index_add_(1, kinds, parts.flatten(1, 2))
        self.of_type.index_add_(0, kinds, torch.ones_like(kinds, dtype=torch.float64))
        self.length += float(torch.linalg.vector_norm(parts[2], dim=-1).sum())
        self.pool += list(pieces.novel[torch.arange(len(place)), place].float().cpu())

    def reference(self, positions: int) -> Reference:
        """The means."""
        count = self.of_type.sum()
        whole = self.by_type.sum(1) / count
        labels = self.by_label / self.of_label[:, None].clamp_min(1)
        types = self.by_type / self.of_type[:, None].clamp_min(1) - whole[:, None]
        types = types * (self.of_type > 0)[:, None]
        domains = labels - labels.mean(1, keepdim=True)
        pool = torch.stack([self.pool[p % len(self.pool)] for p in range(positions)])
        by_label, by_type = (_named(each) for each in (domains, types))
        return Reference(
            whole[2].float(), whole[1].float(), self.length / float(count), by_label, by_type, pool
        )


def _named(tables: Tensor) -> dict[str, Tensor]:
    return {part: tables[k].float() for k, part in enumerate(PARTS)}


def references(
    model: Model,
    predictors: Predictors,
    states: Sequence[int],
    windows: Sequence[Window],
    labels: Sequence[str],
    classes: TokenClasses,
    first: int,
    seed: int,
) -> dict[int, Reference]:
    """The references of some states, from one pass over windows of equal length with a label in `about`."""
    sums = {state: _Sums(len(labels), model.anatomy.d_model) for state in states}
    longest = max(len(w.ids) for w in windows)
    drawn = np.random.default_rng(seed)
    for some in batches(windows):
        of_label = torch.tensor([labels.index(str(w.about["label"])) for w in some])
        types = torch.tensor([classes.of(w.ids) for w in some])
        place = torch.from_numpy(drawn.integers(first, len(some[0].ids), len(some)))
        for state, pieces in read_pieces(model, predictors, states, some):
            sums[state].add(pieces, of_label, types, first, place)
    return {state: each.reference(longest) for state, each in sums.items()}


def read_pieces(
    model: Model, predictors: Predictors, states: Sequence[int], windows: Sequence[Window]
) -> Iterator[tuple[int, Pieces]]:
    """Each state of some windows of equal length, taken apart."""
    sites = model.anatomy.states()
    batch = Batch.of_ids([w.ids for w in windows])
    seen = run(model, batch, read=[sites[state] for state in states])
    for state in states:
        yield state, taken_apart(predictors.at(state), seen[sites[state]])


def telling_tokens(
    windows: Sequence[Window], labels: Sequence[str], vocabulary: int, count: int
) -> dict[str, tuple[int, ...]]:
    """Of each label the ids that are most often there and seldom elsewhere.

    By the log odds of an id in the label's windows against all others, half a count added to each, over their standard
    error; only ids that occur COMMON times. Source: Monroe, Colaresi and Quinn 2008, with a flat prior.
    """
    counts = np.stack([_counted(windows, label, vocabulary) for label in labels])
    return {
        label: tuple(_telling(counts[k], counts.sum(0) - counts[k], count)) for k, label in enumerate(labels)
    }


def _counted(windows: Sequence[Window], label: str, vocabulary: int) -> Int[np.ndarray, " id"]:
    ids = [i for w in windows if w.about["label"] == label for i in w.ids]
    return np.bincount(np.asarray(ids, np.int64), minlength=vocabulary)


def _telling(here: Any, there: Any, count: int) -> list[int]:  # noqa: ANN401  (counts by id)
    a, b = here + 0.5, there + 0.5
    odds = [np.log(x) - np.log(x.sum() - x) for x in (a, b)]
    score: Float[np.ndarray, " id"] = (odds[0] - odds[1]) / np.sqrt(1 / a + 1 / b)
    order = np.argsort(-np.where(here >= COMMON, score, -np.inf), kind="stable")[:count]
    kept = [int(i) for i in order if here[i] >= COMMON and score[i] > 0]
    return kept or [int(here.argmax())]
