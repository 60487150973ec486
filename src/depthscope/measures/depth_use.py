"""How a profile of effects over layers spreads over the depth: halves, and the depth that holds most. numpy only.

Source: Csordas, Manning and Potts 2025 (arXiv 2505.13898): effects on future tokens fall in the second half of the
layers; the centre of mass of a profile is `trend.depth_score`.
"""

import numpy as np
from jaxtyping import Float, Num

from depthscope.errors import BadInput
from depthscope.measures.laws import Law

FIRST, LAST = 2, 1
"""The first two layers and the last one are left out of halves: they stand out by what they are, not by their depth."""


def half_ratio(effects: Num[np.ndarray, "*items layer"]) -> Float[np.ndarray, "*items"]:
    """Mean effect of the second half of the layers over that of the first, layers 2 .. L - 2.

    The middle layer of an odd number is left out. Range 0 .. inf for effects of one sign, 1 where halves are alike.

    NaN where a half has no layer (fewer than 6 layers), holds a NaN, or the first half has no effect.
    """
    values, depth = np.asarray(effects, np.float64), effects.shape[-1]
    first, second = values[..., FIRST : depth // 2], values[..., (depth + 1) // 2 : depth - LAST]
    if not first.shape[-1] or not second.shape[-1]:
        return np.full(values.shape[:-1], np.nan)
    top, bottom = second.mean(-1), first.mean(-1)
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)


def depth_holding(
    effects: Num[np.ndarray, "*items layer"], share: float = 0.9
) -> Float[np.ndarray, "*items"]:
    """The smallest depth (layer + 1) / L up to which layers hold a share of the sum of effects. Range 1/L .. 1.

    NaN where there is no effect in all, or a NaN. Effects below 0 count as 0.

    Raises:
        BadInput: for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise BadInput(f"depth_holding needs a share above 0 and at most 1, found {share}")
    values = np.asarray(effects, np.float64)
    values = np.where(values < 0, 0.0, values)
    total = values.sum(-1)
    # a share that is reached exactly is reached, whatever the rounding of the sums
    reached = np.cumsum(values, -1) >= share * total[..., None] * (1 - 1e-12)
    depth = (reached.argmax(-1) + 1) / effects.shape[-1]
    return np.where(np.isfinite(total) & (total > 0), depth, np.nan)


def row_effect(effects: Num[np.ndarray, "*items layer later"]) -> Float[np.ndarray, "*items layer"]:
    """Mean over later layers of the effect of skipping each layer, mean_{l > s} E[s, l]; 0 for the last one.

    NaN where a later cell is NaN; cells at and below the diagonal are not read.
    """
    values, depth = np.asarray(effects, np.float64), effects.shape[-1]
    later = np.arange(depth)[None, :] > np.arange(depth)[:, None]
    return np.where(later, values, 0.0).sum(-1) / np.maximum(later.sum(-1), 1)


LAWS = (
    Law(half_ratio, ("scale_free",)),
    Law(depth_holding, ("non_negative", "bounded_by_one", "scale_free")),
    Law(row_effect, ()),
)
