"""Guesses in closed form, beside which a predictor is judged; two of them see the token that it must not see.

All come from the sums of one pass (`predictor_sums`). Ridge regressions have a free intercept; their penalty is a
multiple of the mean diagonal of the centred Gram matrix, chosen on positions kept back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.fits.predictor_sums import Kept, Products, Scale, Vocabulary, features_of
from depthscope.measures.linear_map import spectral
from depthscope.runtime.predictor import Predictor

GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Multiples of the mean diagonal that a penalty is chosen from."""
BLIND = ("mean", "position_mean", "copy", "unigram", "ridge", "ridge_2")
"""The training mean; that of each position; h_t itself; E[h_{t+1} | x_t]; ridge from h_t; from h_t and h_{t-1}."""
SEEING = ("token", "ridge_token")
"""Bounds that see the next token: E[h_{t+1} | x_{t+1}]; ridge from h_t and the embedding of x_{t+1}."""
NAMES = (*BLIND, *SEEING)
SHRINK = 1.0
"""Items that the mean counts for in the mean of a position or of a token."""


@dataclass(frozen=True)
class Guesses:
    """All closed-form guesses of one state.

    Args:
        tensors: "position", "unigram", "token": tables of y; "ridge", "ridge_2", "ridge_token": weights
            [3 d + 1, d] on all features, zero where a regression does not look. penalties: the chosen multiples.
    """

    tensors: Mapping[str, Tensor]
    penalties: Mapping[str, float]

    @classmethod
    def of(cls, sums: Products, kept: Kept) -> Guesses:
        """Solved from sums."""
        width = sums.cross.shape[1]
        now, before, ahead = (torch.arange(width, device=sums.cross.device) + k * width for k in range(3))
        looks = {"ridge": now, "ridge_2": torch.cat((now, before)), "ridge_token": torch.cat((now, ahead))}
        solved = {name: ridge(sums, at, kept) for name, at in looks.items()}
        tables = {"position": sums.position, "unigram": sums.before, "token": sums.after}
        tensors = {name: _shrunk(table, sums) for name, table in tables.items()}
        tensors |= {name: weights for name, (weights, _) in solved.items()}
        return cls(tensors, {name: alpha for name, (_, alpha) in solved.items()})

    def on(
        self, reader: Predictor, scale: Scale, stream: Tensor, ids: Tensor, vocabulary: Vocabulary
    ) -> Iterator[tuple[str, Float[Tensor, "row position d_model"]]]:
        """Name and guess of every target 1..T-1 of a batch, in raw units."""
        h = stream[:, 1:]
        features = features_of(reader, stream, ids, vocabulary)
        now, then = vocabulary.row_of[ids[:, :-1]], vocabulary.row_of[ids[:, 1:]]
        given = self.tensors

        yield "mean", scale.mean.expand_as(h)
        yield "position_mean", scale.raw(given["position"][: h.shape[1]].expand_as(h))
        yield "copy", stream[:, :-1]
        yield "unigram", scale.raw(given["unigram"][now])
        yield "token", scale.raw(given["token"][then])
        for name in ("ridge", "ridge_2", "ridge_token"):
            yield name, scale.raw(features @ given[name])


def ridge(sums: Products, at: Tensor, kept: Kept) -> tuple[Float[Tensor, "feature d_model"], float]:
    """Weights on all features from those numbered `at` and the constant, and the multiple that was best on `kept`."""
    n = sums.gram[-1, -1].clamp_min(1.0)
    mean_x, mean_y = sums.gram[at, -1] / n, sums.cross[-1] / n
    gram = sums.gram[at][:, at] - n * torch.outer(mean_x, mean_x)
    cross = sums.cross[at] - n * torch.outer(mean_x, mean_y)
    problem = spectral(gram, cross)
    size = gram.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    best: tuple[float, Tensor, float] | None = None
    for alpha in GRID:
        inner = problem.weights(alpha * size)
        weights = torch.zeros_like(sums.cross)
        weights[at] = inner
        weights[-1] = mean_y - mean_x @ inner
        found = weights.float()
        error = float((kept.features @ found - kept.y).square().mean(dtype=torch.float64))
        if best is None or error < best[0]:
            best = (error, found, alpha)
    assert best is not None
    return best[1], best[2]


def _shrunk(table: Tensor, sums: Products) -> Tensor:
    """Means of a table of sums and counts, shrunk towards the mean of all by SHRINK items."""
    mean = (sums.cross[-1] / sums.gram[-1, -1].clamp_min(1.0)).float()
    return (table[:, :-1] + SHRINK * mean) / (table[:, -1:] + SHRINK)
