"""Where an attention row's mass lies: by offset, on sets of keys, far away, by what its values weigh; how rows differ.

Rows are attention probabilities over all keys, as in `measures.patterns`. Sources: Clark et al. 2019 (arXiv
1906.04341), sections 3 and 6 (offsets, special tokens, distances between heads); Kobayashi et al. 2020 (2004.10102),
weights times the lengths of values; Xiao et al. 2024 (2309.17453), first keys and recent keys.
"""

import math
from itertools import combinations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32

SMOOTHING = 1e-3
"""Share of a row that is spread evenly over all keys before two rows are compared."""


def offset_masses(
    rows: Float[Tensor, "batch head query key"], query_positions: Int[Tensor, " query"], offsets: int
) -> Float[Tensor, "batch head query offset"]:
    """A[i, i - d] for d = 0 .. offsets - 1; NaN where there is no such key."""
    rows, keys = at_least_float32(rows), _back(rows, query_positions, offsets)
    index = keys.clamp_min(0).expand(*rows.shape[:2], *keys.shape)
    return rows.gather(-1, index).masked_fill(keys < 0, math.nan)


def _back(rows: Tensor, positions: Tensor, offsets: int) -> Tensor:
    return positions.to(rows.device)[:, None] - torch.arange(offsets, device=rows.device)


def key_masses(
    rows: Float[Tensor, "batch head query key"], keys: Bool[Tensor, "batch key kind"]
) -> Float[Tensor, "batch head query kind"]:
    """Sum of a row over each of some sets of keys, 0 where a set is empty; masked keys hold nothing anyway."""
    rows = at_least_float32(rows)
    return (rows.flatten(1, 2) @ keys.to(rows)).unflatten(1, rows.shape[1:3])


def local_mass(
    rows: Float[Tensor, "batch head query key"], query_positions: Int[Tensor, " query"], width: int
) -> Float[Tensor, "batch head query"]:
    """Sum of A[i, j] over 0 <= i - j < width without key 0, which is the sink."""
    rows, positions = at_least_float32(rows), query_positions.to(rows.device)
    back = positions[:, None] - torch.arange(rows.shape[-1], device=rows.device)
    near = (back >= 0) & (back < width)
    near[:, 0] = False
    return (rows * near).sum(-1)


def far_mass(
    rows: Float[Tensor, "batch head query key"],
    query_positions: Int[Tensor, " query"],
    start: int,
    recent: int,
) -> Float[Tensor, "batch head query"]:
    """Share of a row's mass beyond its first `start` and its last `recent` keys, the query's own included.

    NaN for queries before position start + recent, which see no other keys. 0 by construction in a sliding window of
    at most `recent` keys.
    """
    if start < 0 or recent < 1:
        raise BadInput(
            f"far keys lie behind 0 or more first and 1 or more recent keys, got {start} and {recent}"
        )
    rows, positions = at_least_float32(rows), query_positions.to(rows.device)
    key = torch.arange(rows.shape[-1], device=rows.device)
    far = (key >= start) & (positions[:, None] - key >= recent)
    share = (rows * far).sum(-1) / rows.sum(-1)
    return share.masked_fill(positions < start + recent, math.nan)


def without(
    rows: Float[Tensor, "batch head query key"], keys: Bool[Tensor, "batch key"]
) -> Float[Tensor, "batch head query key"]:
    """Rows with some keys taken out and the rest scaled to sum to 1; NaN where nothing is left."""
    left = at_least_float32(rows).masked_fill(keys.to(rows.device)[:, None, None], 0.0)
    total = left.sum(-1, keepdim=True)
    return torch.where(total > 0, left / total, math.nan)


def weighted(
    rows: Float[Tensor, "batch head query key"], norms: Float[Tensor, "batch head key"]
) -> Float[Tensor, "batch head query key"]:
    """A_ij |v_j| over its sum over keys: what each key's value contributes in length; NaN where all are zero."""
    rows = at_least_float32(rows)
    found = rows * norms.to(rows)[:, :, None]
    total = found.sum(-1, keepdim=True)
    return torch.where(total > 0, found / total, math.nan)


def group_spread(
    rows: Float[Tensor, "batch head query key"], group: int
) -> Float[Tensor, "batch head query"]:
    """Mean Jensen-Shannon divergence of each head's row to those of the other heads of its group, nats, 0 .. ln 2.

    Neighbouring heads make groups of `group`; NaN in groups of one.
    """
    if group < 1 or rows.shape[1] % group:
        raise BadInput(f"{rows.shape[1]} heads do not fall into groups of {group}")
    if group == 1:
        return torch.full(rows.shape[:3], math.nan, device=rows.device)
    each = _smoothed(rows, SMOOTHING).unflatten(1, (-1, group)).unbind(2)
    own = [_entropy(row) for row in each]
    total = [torch.zeros_like(entropy) for entropy in own]
    # a pair at a time: all together are group times the rows
    for one, other in combinations(range(group), 2):
        apart = _between(each[one], each[other], own[one], own[other])
        total[one] += apart
        total[other] += apart
    return (torch.stack(total, 2) / (group - 1)).flatten(1, 2)


def row_divergence(
    first: Float[Tensor, "... key"], second: Float[Tensor, "... key"], smoothing: float = SMOOTHING
) -> Float[Tensor, "..."]:
    """JS = H((p + q) / 2) - (H(p) + H(q)) / 2 in nats, 0 .. ln 2, of rows smoothed to (1 - s) A + s / n over n keys."""
    p, q = (_smoothed(x, smoothing) for x in (first, second))
    return _between(p, q, _entropy(p), _entropy(q))


def _smoothed(rows: Tensor, smoothing: float) -> Tensor:
    return at_least_float32(rows) * (1 - smoothing) + smoothing / rows.shape[-1]


def _between(p: Tensor, q: Tensor, entropy_p: Tensor, entropy_q: Tensor) -> Tensor:
    return (_entropy((p + q) / 2) - (entropy_p + entropy_q) / 2).clamp_min(0)


def _entropy(rows: Tensor) -> Tensor:
    return -(rows * rows.clamp_min(torch.finfo(rows.dtype).tiny).log()).sum(-1)


LAWS = (
    Law(offset_masses, ("non_negative", "bounded_by_one", "batch_free"), {"offsets": 3}),
    Law(key_masses, ("non_negative", "batch_free")),
    Law(local_mass, ("non_negative", "batch_free"), {"width": 2}),
    Law(far_mass, ("non_negative", "batch_free"), {"start": 1, "recent": 1}),
    Law(without, ("non_negative", "scale_free", "batch_free")),
    Law(weighted, ("non_negative", "scale_free", "batch_free")),
    Law(group_spread, ("non_negative", "batch_free"), {"group": 5}),
    Law(row_divergence, ("symmetric", "zero_on_equal")),
)
