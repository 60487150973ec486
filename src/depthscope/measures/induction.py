"""What heads do on a block of tokens that is repeated, and what their writes say for each token of the block.

A sequence is some leading positions (BOS), then a block of L different tokens, `copies` times. A query i of the second
or a later copy has its own token at i - L, i - 2L ..., and the token that came next at i - L + 1, i - 2L + 1 ...
Sources: Olsson et al. 2022 (arXiv 2209.11895), appendix on head activation evaluators, with "followed by" in place of
"preceded by"; Tang et al. 2024 (arXiv 2407.15891) call `duplicate` of the previous copy the echo score.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32

SCORES = ("prefix_matching", "induction", "induction_argmax", "duplicate")


def repeat_scores(
    rows: Float[Tensor, "batch head query key"],
    query_positions: Int[Tensor, " query"],
    start: int,
    length: int,
    window: int | None,
) -> dict[str, Float[Tensor, "batch head query"]]:
    """Scores of each attention row of a repeated block, one value a query, 0 to 1.

    - `prefix_matching`: mass on all earlier positions that follow an occurrence of the query's token.
    - `induction`: mass on i - L + 1, the token after the query's token in the copy before.
    - `induction_argmax`: 1 where that position has the largest mass of all keys from `start` on: what stands before the
      block (the sink) does not compete. 0 where no key has any mass.
    - `duplicate`: mass on i - L, the query's own token in the copy before.

    NaN for queries of the first copy and before it; for `induction`, `induction_argmax` and `duplicate` also where the
    key lies outside a sliding window; for `prefix_matching` where every target does.

    Args:
        rows: probabilities over keys 0 .. key-1. query_positions: position i of each row.
        start: first position of the first copy. length: L. window: keys with i - j < window are visible; None: all.

    Raises:
        BadInput: for a block shorter than 2 tokens, or a start below 0.
    """
    if length < 2 or start < 0:
        raise BadInput(
            f"a repeated block has 2 tokens or more and starts at 0 or later, got {length}, {start}"
        )
    rows, i = at_least_float32(rows), query_positions.to(rows.device)
    later = i >= start + length
    after = _at(rows, i - length + 1)
    same = _at(rows, i - length)
    keys = torch.arange(rows.shape[-1], device=rows.device)
    back = i[:, None] + 1 - keys[None, :]
    target = (back > 0) & (back % length == 0) & (keys[None, :] > start) & later[:, None]
    visible = torch.full_like(target, True) if window is None else (i[:, None] - keys[None, :] < window)
    matched = (rows * (target & visible)).sum(-1)
    own = rows.masked_fill(keys < start, 0.0)
    largest = (own.argmax(-1) == i - length + 1) & (own.amax(-1) > 0)
    reach = later & (visible & target).any(-1)
    near = later & (length - 1 < (window or math.inf))
    own_near = later & (length < (window or math.inf))
    return {
        "prefix_matching": torch.where(reach, matched, math.nan),
        "induction": torch.where(near, after, math.nan),
        "induction_argmax": torch.where(near, largest.to(rows.dtype), math.nan),
        "duplicate": torch.where(own_near, same, math.nan),
    }


def copying(
    direct: Float[Tensor, "*head token token"],
) -> tuple[Float[Tensor, "*head token"], Float[Tensor, "*head token"]]:
    """How much a head's write at each token raises that token above the other candidates, and its share.

    With logits centred over candidates and cut at zero, r = relu(x - mean x): copying = 2 r_own / (r_own + largest
    other r) - 1, from -1 (another token is raised, the own one is not) to 1 (only the own one is); own_share = r_own /
    sum r, by chance 1 / candidates. NaN where nothing is raised. Scale-free, so no final norm needs its size.

    Args:
        direct: direct-path logits; candidate k of row k is the row's own token.

    Raises:
        BadInput: when there are not as many tokens as candidates, or fewer than 2.
    """
    n = direct.shape[-1]
    if direct.shape[-2] != n or n < 2:
        raise BadInput(
            f"copying needs as many tokens as candidates, at least 2, got {tuple(direct.shape[-2:])}"
        )
    direct = at_least_float32(direct)
    raised = torch.relu(direct - direct.mean(-1, keepdim=True))
    own = raised.diagonal(dim1=-2, dim2=-1)
    eye = torch.eye(n, dtype=torch.bool, device=direct.device)
    other = raised.masked_fill(eye, 0.0).amax(-1)
    return 2 * own / (own + other) - 1, own / raised.sum(-1)


def eigenvalue_score(matrix: Float[Tensor, "*head d d"]) -> Float[Tensor, "*head"]:
    """Sum of the real parts of the eigenvalues over the sum of their sizes, -1 to 1.

    For W_O W_U W_E W_V of a head (d_head x d_head), whose eigenvalues other than zero are those of the full
    circuit from tokens to logits: near 1 the head copies. NaN for a matrix of zeros. Source: Elhage et al. 2021.
    """
    values = torch.linalg.eigvals(at_least_float32(matrix))
    return values.real.sum(-1) / values.abs().sum(-1)


def _at(rows: Tensor, keys: Tensor) -> Tensor:
    index = keys.clamp_min(0).long()[None, None, :, None].expand(*rows.shape[:2], -1, 1)
    return rows.gather(-1, index).squeeze(-1)


LAWS = (
    Law(repeat_scores, ("non_negative", "batch_free"), {"start": 1, "length": 2, "window": None}),
    Law(repeat_scores, ("non_negative", "batch_free"), {"start": 0, "length": 2, "window": 2}),
    Law(copying, ("bounded_by_one", "shift_free", "scale_free"), {}),
    Law(eigenvalue_score, ("bounded_by_one", "scale_free")),
)
