"""When in training something sets in: where a curve bends upwards most, on an axis of factors of training.

Source: Chen et al. 2024 (arXiv 2309.07311), onsets as points of largest acceleration.
"""

import numpy as np
from jaxtyping import Float, Num

from depthscope.errors import BadInput
from depthscope.measures.laws import Law

FEWEST = 4
"""Steps that an onset is found among: fewer have no second difference beside another one."""


def onset_step(
    curves: Num[np.ndarray, "*curve step"], steps: Num[np.ndarray, " step"]
) -> Float[np.ndarray, "*curve"]:
    """The step with the largest second difference of each smoothed curve.

    Curves are smoothed by medians of three neighbours (ends stay); on the axis x = ln(1 + step) the second difference
    at k is (y_{k+1} - y_k) / (x_{k+1} - x_k) - (y_k - y_{k-1}) / (x_k - x_{k-1}). NaN where a curve has a gap,
    and where it bends upwards nowhere. For what falls, give the negative.

    Raises:
        BadInput: for fewer than 4 steps, or steps that do not rise from 0 or more.
    """
    x = np.log1p(np.asarray(steps, np.float64))
    if len(x) < FEWEST or (np.diff(x) <= 0).any() or steps[0] < 0:
        raise BadInput(
            f"steps {np.asarray(steps).tolist()}: an onset needs {FEWEST} or more, rising from 0 or more"
        )
    y = np.asarray(curves, np.float64)
    inner = np.median(np.stack([y[..., :-2], y[..., 1:-1], y[..., 2:]]), axis=0)
    smooth = np.concatenate([y[..., :1], inner, y[..., -1:]], axis=-1)
    bend = np.diff(np.diff(smooth, axis=-1) / np.diff(x), axis=-1)
    known = np.asarray(np.isfinite(bend).all(-1))
    best = np.where(known[..., None], bend, -np.inf).argmax(-1)
    largest = np.take_along_axis(np.where(known[..., None], bend, 0.0), best[..., None], -1)[..., 0]
    return np.where(known & (largest > 0), np.asarray(steps, np.float64)[best + 1], np.nan)


LAWS = (Law(onset_step, (), {"steps": np.array([0, 1, 2, 4, 8, 16, 32, 64, 128])}),)
