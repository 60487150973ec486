"""Scores of pooled vectors in their fast forms against the plain ones, on made-up vectors of the model's width."""

from __future__ import annotations

import time
from functools import partial

import torch
from torch import Tensor

from benchmarks.paired import Ratio, paired
from depthscope.measures.invariance import dime, dime_2, orders, unit_views
from depthscope.measures.lidar import lidar_spectrum
from depthscope.measures.similarity import cka, grams
from depthscope.runtime.model import Model

TEXTS, VIEWS, MANY = 128, 8, 472
worked = partial(paired, clock=time.process_time)
"""Pairs timed by the work of the processor: the problems are small and run on one thread."""


def lidar(model: Model) -> list[Ratio]:
    """LiDAR by a Cholesky factor against the inverse root by eigenvectors, and against outer products one by one."""
    views = unit_views(_views(model))
    found: dict[str, Tensor] = {}

    def fast() -> None:
        found["fast"] = lidar_spectrum(views)

    def by_roots() -> None:
        found["roots"] = _spectrum(views, _scatter_by_product(views))

    def by_outer_products() -> None:
        found["outer"] = _spectrum(views, _scatter_by_outer(views))

    ratios = [
        worked(
            "LiDAR, Cholesky / eigenvectors of the within-scatter",
            by_roots,
            fast,
            "<= 0.33",
            most=5,
        ),
        worked(
            "LiDAR, Cholesky / outer products one by one",
            by_outer_products,
            fast,
            "<= 0.1",
            most=2,
        ),
    ]
    for name in ("roots", "outer"):
        torch.testing.assert_close(found["fast"], found[name], rtol=1e-6, atol=1e-8)
    return ratios


def similarity(model: Model) -> list[Ratio]:
    """CKA of all pairs of states by one product of flattened Gram matrices against a product for each pair."""
    states = _views(model, model.anatomy.n_layers + 1).transpose(0, 1)
    found: dict[str, Tensor] = {}

    def at_once() -> None:
        gram = grams(states)
        found["at_once"] = cka(gram, gram)

    def each_pair() -> None:
        centred = [(x - x.mean(0)).double() for x in states]
        lengths = [torch.linalg.matrix_norm(x.mT @ x) for x in centred]
        found["each"] = torch.ones(len(states), len(states), dtype=torch.float64)
        for i, x in enumerate(centred):
            for j, y in enumerate(centred[:i]):
                found["each"][i, j] = found["each"][j, i] = (x.mT @ y).square().sum() / (
                    lengths[i] * lengths[j]
                )

    ratio = worked(
        "CKA of all pairs, one product / a product a pair",
        each_pair,
        at_once,
        "<= 0.1",
        most=2,
        clock=time.process_time,
    )
    torch.testing.assert_close(found["at_once"], found["each"], rtol=1e-5, atol=1e-6)
    return [ratio]


def dime_orders(model: Model) -> list[Ratio]:
    """DiME of order 2 in closed form against order 1 with ten random orders, over as many texts as the paper's 472."""
    views = unit_views(_views(model, 2, MANY))
    shuffles = orders(MANY)
    return [
        worked(
            "DiME, order 2 in closed form / order 1 with ten orders",
            lambda: dime(views[:, 0], views[:, 1], shuffles),
            lambda: dime_2(views[:, 0], views[:, 1]),
            "<= 0.1",
            most=5,
        )
    ]


def _views(model: Model, count: int = VIEWS, texts: int = TEXTS) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    width = model.anatomy.d_model
    means = torch.randn(texts, 1, width, generator=generator)
    return means + torch.randn(texts, count, width, generator=generator)


def _scatter_by_product(views: Tensor) -> Tensor:
    within = (views - views.mean(1, keepdim=True)).flatten(0, 1)
    return within.mT @ within / len(within)


def _scatter_by_outer(views: Tensor) -> Tensor:
    total = torch.zeros(views.shape[-1], views.shape[-1], dtype=views.dtype)
    for text in views:
        for view in text - text.mean(0):
            total += torch.outer(view, view)
    return total / (views.shape[0] * views.shape[1])


def _spectrum(views: Tensor, within: Tensor) -> Tensor:
    """Eigenvalues by the inverse root of the within-scatter, as the definition reads."""
    n, d = len(views), views.shape[-1]
    within = within + 1e-4 * within.trace() / d * torch.eye(d, dtype=within.dtype)
    means = views.mean(1)
    between = (means - means.mean(0)).mT @ (means - means.mean(0)) / n
    values, axes = torch.linalg.eigh(within)
    root = axes @ (values.rsqrt()[:, None] * axes.mT)
    return torch.linalg.eigvalsh(root @ between @ root).flip(-1).clamp_min(0)[: min(n, d)]
