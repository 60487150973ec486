"""How a path of vectors turns, and how far a cloud of vectors points one way."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depthscope.errors import UnknownName
from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32
from depthscope.measures.spectrum import prepare

CURVATURES = ("signed", "folded", "state_angle")


class Curvature(NamedTuple):
    """Mean turning angle of each path in radians, and how many of its angles had to be skipped."""

    angle: Tensor
    skipped: Tensor


def curvature(
    vectors: Float[Tensor, "batch token d"], mask: Bool[Tensor, "batch token"], mode: str = "signed"
) -> Curvature:
    """Mean angle by which the path of token vectors turns, in radians.

    Steps are v_t = z_(t+1) - z_t; the mean is over the angles between v_t and v_(t+1). Modes: `signed`,
    0 .. pi; `folded` of |cos|, 0 .. pi/2 (it reverses the order above pi/2); `state_angle` the angle between
    neighbouring centred unit *states* instead of steps, 0 .. pi. Signed nulls: straight line 0, random walk
    pi/2, independent vectors 2 pi/3, zig-zag pi.

    Returns:
        angle: `Float[Tensor, " batch"]`, NaN with fewer than 3 valid tokens or no angle left. skipped: int64,
        the angles between valid tokens that were left out because a step (or centred state) has no length.
        Angles that touch a masked token are left out without being counted, so padding changes nothing.

    Raises:
        UnknownName: the mode is not one of `CURVATURES`.

    Sources: Henaff et al. 2019; Hosseini and Fedorenko 2023 (signed); the other two are forms in the code of
    Skean et al. 2025. Computed as 2 atan2(||u - v||, ||u + v||) of unit u, v (Kahan), exact where arccos is
    not.
    """
    return mean_turn(*turns(vectors, mask, mode), mask, fold=mode == "folded")


class Turns(NamedTuple):
    """Angles between neighbouring steps (or states) of paths in radians, and which of them are defined."""

    angles: Tensor
    defined: Tensor


def turns(
    vectors: Float[Tensor, "batch token d"], mask: Bool[Tensor, "batch token"], mode: str = "signed"
) -> Turns:
    """The angles that `curvature` averages, 0 .. pi: token - 2 between steps of a path, token - 1 between states.

    `mean_turn` averages them over any part of `mask`, so that several means share one computation. `state_angle`
    centres by the tokens in `mask`; steps do not depend on it.

    Raises:
        UnknownName: the mode is not one of `CURVATURES`.
    """
    if mode not in CURVATURES:
        raise UnknownName("curvature mode", mode, CURVATURES)
    units = _unit_states(vectors, mask) if mode == "state_angle" else _unit_steps(vectors, mask)
    a, b = units[:, :-1], units[:, 1:]
    angles = 2 * torch.atan2(torch.linalg.vector_norm(a - b, dim=-1), torch.linalg.vector_norm(a + b, dim=-1))
    there = (units != 0).any(-1)
    return Turns(angles, there[:, :-1] & there[:, 1:])


def mean_turn(
    angles: Float[Tensor, "batch angle"],
    defined: Bool[Tensor, "batch angle"],
    mask: Bool[Tensor, "batch token"],
    fold: bool = False,
    step: int = 1,
) -> Curvature:
    """Mean of the defined angles that touch tokens in `mask` only; `fold` takes pi - angle above pi/2.

    An angle touches every `step`-th token: three of them where there are token - 2 `step` angles, two where there are
    token - `step`.
    """
    angles, n = at_least_float32(angles), angles.shape[1]
    valid = torch.stack([mask[:, k : k + n] for k in range(0, mask.shape[1] - n + 1, step)]).all(0)
    usable = valid & defined
    angles = torch.minimum(angles, math.pi - angles) if fold else angles
    enough = (mask.sum(-1) >= 3) & usable.any(-1)
    mean = torch.where(usable, angles, 0.0).sum(-1) / usable.sum(-1)
    return Curvature(torch.where(enough, mean, math.nan), (valid & ~usable).sum(-1))


def cosine_anisotropy(vectors: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean cosine over all pairs of different vectors, (||sum u||^2 - n) / (n (n - 1)) with unit vectors u.

    Range -1/(n - 1) .. 1; 0 for directions without a preference, 1 if all point one way. Zero vectors have no
    direction and are left out. NaN with fewer than 2 others. float64. Source: Ethayarajh 2019, section 3.
    """
    units = torch.nn.functional.normalize(at_least_float32(vectors).double(), dim=-1)
    return anisotropy_from_sums(units.sum(0), (units != 0).any(-1).sum())


def anisotropy_from_sums(
    sum_u: Float[Tensor, "*items d"], n: int | Int[Tensor, "*items"]
) -> Float[Tensor, "*items"]:
    """`cosine_anisotropy` from the sum of n unit vectors, which batches add up; float64, NaN where n < 2."""
    n = torch.as_tensor(n, dtype=torch.float64, device=sum_u.device)
    value = (sum_u.double().square().sum(-1) - n) / (n * (n - 1))
    return torch.where(n < 2, math.nan, value)


def self_cluster(vectors: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """How much closer directions lie together than random ones: (||U U^T||^2 - E) / (n^2 - E), E = n + n (n - 1) / d.

    U holds unit rows; E is what random directions give. 0 for those, 1 where all lie on one line, below 0 where they
    stand further apart than chance. Zero vectors are left out; NaN with fewer than 2 others or d = 1. float64.
    Source: Tsitsulin et al. 2023, Unsupervised embedding quality evaluation.
    """
    units = _directions(vectors)
    n, d = units.shape
    if n < 2 or d < 2:
        return units.new_tensor(math.nan)
    side = units.mT @ units if d < n else units @ units.mT
    chance = n + n * (n - 1) / d
    return (side.square().sum() - chance) / (n * n - chance)


def uniformity(vectors: Float[Tensor, "n d"], sharpness: float = 2.0) -> Float[Tensor, ""]:
    """How evenly directions cover the sphere: ln of the mean of exp(-t ||u - v||^2) over pairs, t = `sharpness`.

    Range -4 t .. 0; 0 where all directions are equal, -2 t for pairs at right angles. Zero vectors are left out; NaN
    with fewer than 2 others. float64. Source: Wang and Isola 2020, section 4.
    """
    units = _directions(vectors)
    n = len(units)
    if n < 2:
        return units.new_tensor(math.nan)
    # ||u - v||^2 = 2 - 2 cos
    close = torch.exp(2 * sharpness * ((units @ units.mT).clamp(-1, 1) - 1)).fill_diagonal_(0)
    return (close.sum() / (n * (n - 1))).log()


class Outliers(NamedTuple):
    """Dimensions that stand out: how many, the largest one's share of all squares, the largest excess kurtosis."""

    number: Tensor
    share: Tensor
    kurtosis: Tensor


def outlier_dimensions(vectors: Float[Tensor, "n d"], ratio: float = 6.0) -> Outliers:
    """Dimensions whose root mean square exceeds `ratio` times the median one; how much the largest holds; kurtosis.

    share: of the sum of all squares, 1/d where dimensions are alike. kurtosis: of the values of each dimension around
    their mean, minus 3, the largest over dimensions; 0 for normal values. NaN without any vector that is not zero.
    float64. Source: Kovaleva et al. 2021 and Timkey and van Schijndel 2021, for the question.
    """
    rows = at_least_float32(vectors).double()
    energy = rows.square().mean(0)
    total = energy.sum()
    if not len(rows) or total == 0:
        return Outliers(*(rows.new_tensor(math.nan) for _ in range(3)))
    size = energy.sqrt()
    centred = rows - rows.mean(0)
    variance = centred.square().mean(0)
    varied = variance > torch.finfo(rows.dtype).eps ** 2 * energy
    kurtosis = torch.where(varied, centred.pow(4).mean(0) / variance.square() - 3, -math.inf).amax()
    count = (size > ratio * size.median()).sum().to(rows.dtype)
    return Outliers(count, energy.amax() / total, torch.where(varied.any(), kurtosis, math.nan))


def _directions(vectors: Tensor) -> Tensor:
    """Unit rows in float64, without the rows that are zero."""
    units = torch.nn.functional.normalize(at_least_float32(vectors).double(), dim=-1)
    return units[(units != 0).any(-1)]


def _unit_steps(vectors: Tensor, mask: Tensor) -> Tensor:
    """Steps between neighbours, of length 1, or 0 where nothing moved: [batch, token - 1, d]."""
    states = torch.where(mask.unsqueeze(-1), at_least_float32(vectors), 0.0)
    steps = states[:, 1:] - states[:, :-1]
    length = torch.linalg.vector_norm(steps, dim=-1)
    # The difference of two equal states computed at two places is rounding, and its direction means nothing.
    rounding = 4 * torch.finfo(states.dtype).eps * torch.linalg.vector_norm(states, dim=-1)
    still = length <= torch.maximum(rounding[:, 1:], rounding[:, :-1])
    return steps.mul_(torch.where(still, 0.0, 1 / length).unsqueeze(-1))


def _unit_states(vectors: Tensor, mask: Tensor) -> Tensor:
    """Centred unit states, zero where a state is masked or the mean itself: [batch, token, d]."""
    return prepare(vectors, mask, "wei")


_PATH = ("non_negative", "scale_free", "rotation_free", "padding_free", "batch_free")
LAWS = (
    Law(curvature, _PATH),
    Law(curvature, _PATH, {"mode": "folded"}),
    Law(curvature, _PATH, {"mode": "state_angle"}),
    Law(turns, ("non_negative", "scale_free", "rotation_free", "batch_free")),
    Law(mean_turn, ("batch_free",)),
    Law(cosine_anisotropy, ("bounded_by_one", "scale_free", "rotation_free")),
    Law(self_cluster, ("bounded_by_one", "scale_free", "rotation_free")),
    Law(uniformity, ("scale_free", "rotation_free")),
    Law(outlier_dimensions, ("scale_free",)),
    Law(anisotropy_from_sums, ("rotation_free", "permutation_free", "batch_free"), {"n": 9}),
)
