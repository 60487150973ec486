"""Linear predictors of the last few states, solved: a ridge regression in place of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from depthscope.fits.predictor_course import Course
from depthscope.fits.predictor_sums import Scale
from depthscope.fits.teacher import Streams, batched
from depthscope.materials.window import Window
from depthscope.runtime.predictor import Predictor

PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Multiples of the mean diagonal of the Gram matrix that the penalty is chosen from."""


def lagged(x: Float[Tensor, "row token width"], lags: int) -> Float[Tensor, "row token lagged"]:
    """The last `lags` inputs of each token side by side, zeros before the first; column = dimension x lags + lag."""
    return functional.pad(x, (0, 0, lags - 1, 0)).unfold(1, lags, 1).flatten(2)


class _Sums:
    """Gram matrix and products of one state, the last column of the features a 1."""

    def __init__(self, features: int, width: int, device: torch.device) -> None:
        self.gram = torch.zeros(features, features, dtype=torch.float64, device=device)
        self.cross = torch.zeros(features, width, dtype=torch.float64, device=device)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Items [item, features] and [item, width]."""
        self.gram += (x.T @ x).double()
        self.cross += (x.T @ y).double()

    def solved(self, penalty: float) -> Tensor:
        """Weights [features, width]; the 1 is not penalised."""
        shrink = torch.full((len(self.gram),), penalty * float(self.gram.diagonal()[:-1].mean()))
        shrink[-1] = 0.0
        return torch.linalg.solve(self.gram + shrink.to(self.gram).diag(), self.cross)


def solve(
    nets: Mapping[int, Predictor],
    scale: Mapping[int, Scale],
    windows: Sequence[Window],
    course: Course,
    teach: Callable[[Sequence[Window]], Streams],
) -> None:
    """Set the weights of linear predictors to the ridge solution over some windows, in place.

    The last tenth of the windows is kept back, the penalty is the one of PENALTIES with the smallest error there, and
    the solution with it stands on all but these windows.
    """
    back = max(1, len(windows) // 10)
    sums = {s: _Sums(_features(net), net.width, net.mean.device) for s, net in nets.items()}
    for batch in batched(windows[:-back], course.rows):
        for s, (x, y) in _items(nets, scale, teach(batch), course).items():
            sums[s].add(x, y)
    kept = _items(nets, scale, teach(windows[-back:]), course)
    for s, net in nets.items():
        x, y = kept[s]
        found = [sums[s].solved(penalty) for penalty in PENALTIES]
        errors = [float((y - x @ weights.float()).square().sum()) for weights in found]
        _set(net, found[errors.index(min(errors))])


def _items(
    nets: Mapping[int, Predictor], scale: Mapping[int, Scale], streams: Streams, course: Course
) -> dict[int, tuple[Tensor, Tensor]]:
    """Of each state the features [item, lagged + 1] and targets [item, d_model] that count."""
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for s, net in nets.items():
        stream = streams.of[s]
        h = stream[:, 1:]
        kept = scale[s].kept(h, course)
        with torch.no_grad():
            x = lagged(net.inputs(stream), max(1, net.design.window))[:, :-1][kept]
        found[s] = (functional.pad(x, (0, 1), value=1.0), ((h - net.mean) / net.unit)[kept])
    return found


def _features(net: Predictor) -> int:
    return max(1, net.design.window) * net.width + 1


def _set(net: Predictor, weights: Tensor) -> None:
    out = cast("nn.Linear", net.blocks[0].out)
    with torch.no_grad():
        out.weight.copy_(weights[:-1].T)
        out.bias.copy_(weights[-1])
