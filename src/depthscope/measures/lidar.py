"""LiDAR: over how many directions texts differ, in units of how their disturbed copies (views) differ.

Sources: Thilak et al. 2024, arXiv 2312.04000; Wachter 1980 (spectrum of one random scatter relative to another).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32
from depthscope.threads import one_thread


class Lidar(NamedTuple):
    """What a LiDAR spectrum says; numbers without axes, float64.

    Args:
        entropy: S1 of the eigenvalues, nats. rank: exp(S1). normalised: S1 / ln min(text, d).
        mean_eigenvalue: trace / d. above: eigenvalues above the noise.
        corrected: exp(S1) of what rises above the noise; 0 where nothing does.
    """

    entropy: Tensor
    rank: Tensor
    normalised: Tensor
    mean_eigenvalue: Tensor
    corrected: Tensor
    above: Tensor


def lidar_spectrum(
    views: Float[Tensor, "text view d"], delta_rel: float = 1e-4, delta_abs: float = 0.0
) -> Float[Tensor, " side"]:
    """Eigenvalues, largest first, of S_w^-1/2 S_b S_w^-1/2: the scatter of texts in units of that of their views.

    S_b = 1/n sum_i (mu_i - mu)(mu_i - mu)^T; S_w = 1/(nq) sum_ij (x_ij - mu_i)(x_ij - mu_i)^T + delta I, delta =
    delta_rel tr(S_w) / d + delta_abs. side = min(n, d): the others are zero. Exact and in float64, without a root of a
    matrix: S_w = R R^T, and the eigenvalues are those of the smaller of Y^T Y, Y Y^T, Y = R^-1 [mu_i - mu] / sqrt n;
    for d > n (q - 1) by Woodbury's identity on the nq x nq within-scatter, since S_w is delta outside its span. There
    the directions without within-scatter weigh 1 / delta and dominate: take more texts or views. NaN where views of a
    text do not differ and delta_abs is 0.

    Raises:
        BadInput: for one view a text, or a singular S_w with delta 0.
    """
    x = at_least_float32(views).double()
    n, q, d = x.shape
    if q < 2:
        raise BadInput(f"LiDAR compares the views of a text: it needs at least 2 of each, found {q}")
    means = x.mean(1)
    between = (means - means.mean(0)) / math.sqrt(n)
    within = ((x - means[:, None]) / math.sqrt(n * q)).flatten(0, 1)
    delta = float(delta_abs + delta_rel * within.square().sum() / d)
    if not delta > 0 and not bool(within.any()):
        return torch.full((min(n, d),), math.nan, dtype=torch.float64, device=x.device)
    scatter = _primal(between, within, delta) if d <= n * (q - 1) else _dual(between, within, delta)
    with one_thread():
        return torch.linalg.eigvalsh(scatter).flip(-1).clamp_min(0)[: min(n, d)]


def noise_mean(texts: int, views: int, d: int) -> float:
    """Mean eigenvalue, trace / d, that `lidar_spectrum` has on average where texts do not differ: Gaussian, delta = 0.

    (n - 1) / (n (q - 1) - d - 1), which is 1 / (q - 1) for many texts; NaN where d is n (q - 1) - 1 or more.
    """
    free = texts * (views - 1) - d - 1
    return (texts - 1) / free if free > 0 else math.nan


def noise_edge(texts: int, views: int, d: int) -> float:
    """The eigenvalue above which a direction carries more than noise: upper edge of Wachter's law.

    With m = n - 1, w = n (q - 1), a = d / m, b = d / w: (m / w) ((1 + sqrt(a + b - ab)) / (1 - b))^2. It falls to
    1 / (q - 1) for many texts; NaN where d is n (q - 1) or more.
    """
    m, w = texts - 1, texts * (views - 1)
    if d >= w or m < 1:
        return math.nan
    a, b = d / m, d / w
    return m / w * ((1 + math.sqrt(a + b - a * b)) / (1 - b)) ** 2


def lidar(
    views: Float[Tensor, "text view d"],
    delta_rel: float = 1e-4,
    delta_abs: float = 0.0,
    noise: float | None = None,
) -> Lidar:
    """LiDAR of some views: over how many directions texts differ, in units of how their views differ.

    exp(S1) of `lidar_spectrum` knows no scale: texts that do not differ at all give nearly the same. `corrected` takes
    the noise off every eigenvalue first. n and q must be equal where LiDARs are compared.

    Args:
        noise: what is taken off; None: `noise_edge`. 1/q is what the spectrum of unbiased scatters tends to.

    Raises:
        BadInput: as `lidar_spectrum`.
    """
    values = lidar_spectrum(views, delta_rel, delta_abs)
    n, q, d = views.shape
    edge = noise_edge(n, q, d) if noise is None else noise
    entropy = _entropy(values)
    rise = (values - edge).clamp_min(0)
    above = (rise > 0).sum() if math.isfinite(edge) else values.new_tensor(math.nan)
    corrected = torch.where(rise.sum() > 0, _entropy(rise).exp(), rise.sum())
    return Lidar(
        entropy,
        entropy.exp(),
        entropy / math.log(min(n, d)) if min(n, d) > 1 else values.new_tensor(math.nan),
        values.sum() / d,
        corrected,
        above.double(),
    )


def _primal(between: Tensor, within: Tensor, delta: float) -> Tensor:
    """Y^T Y or Y Y^T, whichever is smaller, by a Cholesky factor of the d x d within-scatter."""
    scatter = within.mT @ within
    scatter.diagonal().add_(delta)
    root, failed = torch.linalg.cholesky_ex(scatter)
    if int(failed):
        raise BadInput("the within-scatter of LiDAR is singular and delta is 0; give delta_rel or delta_abs")
    y = torch.linalg.solve_triangular(root, between.mT, upper=False)
    return y.mT @ y if y.shape[1] <= y.shape[0] else y @ y.mT


def _dual(between: Tensor, within: Tensor, delta: float) -> Tensor:
    """B S_w^-1 B^T by Woodbury: (B B^T - C^T (delta I + W W^T)^-1 C) / delta with C = W B^T."""
    if not delta > 0:
        raise BadInput(
            f"{within.shape[1]} dimensions are more than the views can fill, and delta is 0: S_w is singular; "
            "give delta_rel or delta_abs, or more texts or views"
        )
    gram = within @ within.mT
    gram.diagonal().add_(delta)
    cross = within @ between.mT
    root = torch.linalg.cholesky(gram)
    y = torch.linalg.solve_triangular(root, cross, upper=False)
    return (between @ between.mT - y.mT @ y) / delta


def _entropy(values: Tensor) -> Tensor:
    return torch.special.entr(values / values.sum()).sum()


LAWS = (
    Law(lidar_spectrum, ("non_negative", "scale_free", "shift_free", "rotation_free")),
    Law(noise_mean, (), {"texts": 9, "views": 4, "d": 5}),
    Law(noise_edge, (), {"texts": 9, "views": 4, "d": 5}),
    Law(lidar, ("scale_free", "shift_free", "rotation_free")),
)
