"""What kinds of tokens of pictures get and hold: attention received, norms, and what linear probes read of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depthscope.engine.cells import Items
from depthscope.engine.needs import Facts
from depthscope.measures.token_probes import ridge_predictions
from depthscope.results.measurement import Measurement

KINDS = ("background", "foreground", "class_token", "register")
PROBED = 600
"""Tokens of a kind that a probe is trained on, and as many that it is judged on."""
FEWEST = 20
TALL = 4.0
"""A cell is an outlier above this many median norms of its picture."""
NONE = "there are no such tokens, or too few of them, or they have no texture or class of their own"
UNITS = {
    "received": "1",
    "norm_ratio": "1",
    "outlier_share": "probability",
    "class_probe": "probability",
    "own_probe": "probability",
}
NOTES = {
    "received": "1 is an even share",
    "norm_ratio": "largest norm of a cell over the median of its picture's cells",
    "outlier_share": f"cells above {TALL:g} median norms of their picture",
    "class_probe": "tokens whose picture's class a linear probe reads, in pictures that it was not trained on",
    "own_probe": "tokens whose own texture a linear probe reads, in pictures that it was not trained on",
}


@dataclass(frozen=True)
class Probed:
    """The tokens that probes read, chosen before anything runs.

    Args:
        kinds: of all tokens, [row token]. wanted: what each probe asks of every token, -1 where it asks nothing.
        row, position: of the chosen ones. train: whether the token's picture is trained on.
    """

    kinds: Int[Tensor, "row token"]
    wanted: Mapping[str, Int[Tensor, "row token"]]
    row: np.ndarray
    position: np.ndarray
    train: np.ndarray

    @classmethod
    def of(cls, kinds: Tensor, label: Tensor, own: Tensor, seed: int) -> Probed:
        """Up to PROBED tokens of each kind from the first half of the pictures, and as many from the second.

        Args:
            label: the class of each picture, -1 for none. own: the texture of each token, -1 for none.
        """
        rows, chosen = len(kinds), list[np.ndarray]()
        early = np.arange(rows) < rows // 2
        for kind in range(len(KINDS)):
            places = torch.nonzero(kinds == kind).numpy()
            for half in (True, False):
                mine = places[early[places[:, 0]] == half]
                order = np.random.default_rng([seed, kind, half]).permutation(len(mine))
                chosen.append(mine[np.sort(order[:PROBED])])
        joined = np.concatenate(chosen)
        wanted = {"class_probe": label[:, None].expand_as(kinds), "own_probe": own}
        return cls(kinds, wanted, joined[:, 0], joined[:, 1], early[joined[:, 0]])

    def scores(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Probe -> share of each picture's tokens that are read right, [row, layer, kind], NaN where none was judged.

        Args:
            vectors: of the chosen tokens, [token, layer, d_model].
        """
        kind = self.kinds[self.row, self.position].numpy()
        found: dict[str, np.ndarray] = {}
        for name, asked in self.wanted.items():
            said = asked[self.row, self.position].numpy()
            found[name] = np.full((len(self.kinds), vectors.shape[1], len(KINDS)), np.nan)
            for k in range(len(KINDS)):
                mine = np.flatnonzero((kind == k) & (said >= 0))
                self._judge(found[name][:, :, k], vectors[mine], said[mine], mine)
        return found

    def _judge(self, into: np.ndarray, vectors: np.ndarray, said: np.ndarray, mine: np.ndarray) -> None:
        train, row = self.train[mine], self.row[mine]
        if min(train.sum(), (~train).sum()) < FEWEST or len(np.unique(said)) < 2:
            return
        targets = np.eye(int(said.max()) + 1)[said]
        for layer in range(vectors.shape[1]):
            x = vectors[:, layer].astype(np.float64)
            guess = ridge_predictions(x[train], targets[train], x[~train]).argmax(1)
            right = (guess == said[~train]).astype(float)
            count = np.bincount(row[~train], minlength=len(into))
            total = np.bincount(row[~train], right, minlength=len(into))
            into[:, layer] = np.where(count > 0, total / np.maximum(count, 1), np.nan)


def received(
    attention: Float[Tensor, "row head query key"], kinds: Int[Tensor, "row token"]
) -> Float[np.ndarray, "row kind"]:
    """Attention that a token of each kind gets over an even share, by picture; NaN where it has none of a kind."""
    got = attention.mean(1).sum(1).double()  # over heads and queries: every picture's sums to its tokens
    found = np.full((len(kinds), len(KINDS)), np.nan)
    for kind in range(len(KINDS)):
        mine = kinds == kind
        count = mine.sum(1)
        mean = torch.where(mine, got, 0.0).sum(1) / count.clamp_min(1)
        found[:, kind] = torch.where(count > 0, mean, torch.nan).cpu().numpy()
    return found


def norms(
    state: Float[Tensor, "row token d_model"], cells: Bool[Tensor, "row token"]
) -> tuple[np.ndarray, np.ndarray]:
    """(largest norm over the median, share above TALL medians) of each picture's cells."""
    size = torch.linalg.vector_norm(state.double(), dim=-1).masked_fill(~cells, torch.nan)
    median = size.nanmedian(1).values.clamp_min(1e-12)
    over = size / median[:, None]
    tall = (over > TALL).double().sum(1) / cells.sum(1)
    return over.nan_to_num(0.0).amax(1).cpu().numpy(), tall.cpu().numpy()


def token_measurements(
    found: Sequence[Mapping[str, np.ndarray]], variants: Sequence[str], facts: Facts
) -> list[Measurement]:
    """Means over pictures with intervals; `found` holds for each variant the scores [row, layer(, kind)]."""
    rows, layers = found[0]["norm_ratio"].shape
    items = Items(np.array([f"picture-{k:05d}" for k in range(rows)]), facts, noun="pictures")
    made: list[Measurement] = []
    for name, unit in UNITS.items():
        values = np.stack([one[name] for one in found], 1)
        axes = {"variant": np.array(variants), "layer": np.arange(layers)}
        axes |= {"token": np.array(KINDS)} if values.ndim == 4 else {}
        made.append(items.mean(values, name, axes, unit, NOTES[name]))
    return [_reasoned(one) for one in made]


def _reasoned(found: Measurement) -> Measurement:
    """With the reason in words of tokens, where cells are missing."""
    return replace(found, missing=NONE) if np.isnan(found.value).any() else found


def as_json(found: Mapping[str, np.ndarray]) -> dict[str, object]:
    """Arrays as lists with None where a number is missing, for a journal."""
    return {name: np.where(np.isnan(x), None, x.astype(object)).tolist() for name, x in found.items()}  # pyright: ignore[reportArgumentType, reportCallIssue]


def from_json(stored: Mapping[str, object]) -> dict[str, np.ndarray]:
    """The arrays of `as_json`."""
    return {name: np.array(x, dtype=np.float64) for name, x in stored.items()}
