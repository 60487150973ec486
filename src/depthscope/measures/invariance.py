"""Invariance: whether a vector stays with its text when the text is disturbed.

Several disturbed copies (views) of each of n texts are pooled to one vector each. InfoNCE asks whether a view finds its
partner among the views of all texts; LiDAR over how many directions texts differ more than their views do; DiME what
the two views' similarities share beyond what randomly paired views share. Sources: van den Oord et al. 2018 (InfoNCE);
Chen et al. 2020 (NT-Xent); Thilak et al. 2024, arXiv 2312.04000 (LiDAR); Skean et al. 2023, arXiv 2301.08164 (DiME);
Wachter 1980 (spectrum of one random scatter relative to another).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.errors import BadInput, UnknownName
from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32
from depthscope.measures.spectrum import prepare
from depthscope.measures.threads import one_thread

LOSSES = ("symmetric", "one_way", "nt_xent")
TEMPERATURE = 0.1


class Cosines(NamedTuple):
    """Mean cosines of each text: with its partner (`positive`), and with the other texts' views (`negative`)."""

    positive: Tensor
    negative: Tensor


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


def unit_views(views: Float[Tensor, "text view d"]) -> Float[Tensor, "text view d"]:
    """Views minus the mean over all texts and views, scaled to length 1, in float64.

    One mean is shared by all views: a mean of each view would take away what tells views apart. A row that vanishes
    (shorter after centring than 1e-4 of the RMS norm before) becomes zero.
    """
    rows = at_least_float32(views).double().flatten(0, 1)[None]
    mask = torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device)
    return prepare(rows, mask, "wei")[0].unflatten(0, views.shape[:2])


def chance_loss(texts: int, mode: str = "symmetric") -> float:
    """InfoNCE of a model that knows nothing, nats: ln n, or ln(2n - 1) for nt_xent.

    Raises:
        UnknownName: for an unknown mode.
    """
    _known(mode)
    return math.log(2 * texts - 1 if mode == "nt_xent" else texts)


def infonce(
    first: Float[Tensor, "text d"],
    second: Float[Tensor, "text d"],
    mode: str = "symmetric",
    temperature: float = TEMPERATURE,
) -> Float[Tensor, " text"]:
    """Loss of finding each text's second view by its first one, -ln softmax_j(cos(a_i, b_j) / temperature) at j = i.

    one_way: as above. symmetric: the mean with the same from second to first. nt_xent: all other 2n - 1 views are
    candidates for either view of a text. Rows are scaled to length 1, not centred (`unit_views` does). Nats, 0 or more;
    the mean over texts is the loss, ln n minus it a lower bound on the views' mutual information (van den Oord 2018).
    NaN for texts with a zero view, which are no candidates either, and with fewer than 2 others. float64.

    Raises:
        UnknownName: for an unknown mode. BadInput: for a temperature that is not positive.
    """
    _known(mode)
    if not temperature > 0:
        raise BadInput(f"InfoNCE needs a temperature above 0, found {temperature}")
    a, b, live = _paired(first, second)
    found = torch.full((len(live),), math.nan, dtype=torch.float64, device=a.device)
    if len(a) > 1:
        found[live] = _losses(a, b, mode, temperature)
    return found


def partner_top1(first: Float[Tensor, "text d"], second: Float[Tensor, "text d"]) -> Float[Tensor, " text"]:
    """How often a view's nearest view of the other kind is its partner, 0 to 1, the mean of both directions.

    Of m equally near ones the partner counts 1/m, so that equal vectors give chance, 1/n. NaN as in `infonce`.
    """
    a, b, live = _paired(first, second)
    found = torch.full((len(live),), math.nan, dtype=torch.float64, device=a.device)
    if len(a) > 1:
        cosine = a @ b.mT
        found[live] = (_hit(cosine) + _hit(cosine.mT)) / 2
    return found


def cosines(first: Float[Tensor, "text d"], second: Float[Tensor, "text d"]) -> Cosines:
    """Cosine of each text's two views, and mean cosine of its views with the other texts' views of the other kind.

    [text] each, -1 to 1; NaN as in `infonce`.
    """
    a, b, live = _paired(first, second)
    positive, negative = (
        torch.full((len(live),), math.nan, dtype=torch.float64, device=a.device) for _ in "ab"
    )
    if len(a) > 1:
        own = (a * b).sum(-1)
        across = (a @ b.sum(0) + b @ a.sum(0)) / 2
        positive[live], negative[live] = own, (across - own) / (len(a) - 1)
    return Cosines(positive, negative)


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


def orders(texts: int, draws: int = 10, seed: int = 0) -> Int[Tensor, "draw text"]:
    """Random orders of the texts; equal for equal seeds, so that all states are compared under the same ones."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(texts, generator=generator) for _ in range(draws)])


def dime(
    first: Float[Tensor, "text d"], second: Float[Tensor, "text d"], shuffles: Int[Tensor, "draw text"]
) -> Float[Tensor, ""]:
    """Difference of matrix-based entropies: mean over orders P of S1(A o P B P^T), minus S1(A o B), nats.

    A and B are the n x n matrices of cosines of either view, o the entry-wise product, S1 the entropy of the spectrum
    over n. About 0 where views are paired at random; more where paired views share more. Texts with a zero view are
    left out; NaN with fewer than 2 others. float64.
    """
    a, b, live = _paired(first, second)
    if len(a) < 2:
        return a.new_tensor(math.nan)
    place = live.cumsum(0) - 1
    kept = torch.stack([place[row[live[row]]] for row in shuffles.to(live.device)])
    joint, other = a @ a.mT, b @ b.mT
    mixed = torch.stack([joint * other[row][:, row] for row in kept])
    return _gram_entropy(mixed).mean() - _gram_entropy((joint * other)[None])[0]


def dime_2(first: Float[Tensor, "text d"], second: Float[Tensor, "text d"]) -> Float[Tensor, ""]:
    """DiME of order 2, without any order drawn: -ln of the mean information potential minus S2(A o B), nats.

    With m(K) the mean of K_ij^2 over i != j: -ln[(n + n (n - 1) m(A) m(B)) / n^2] + ln[||A o B||_F^2 / n^2]. The mean
    over all orders is exact, the logarithm outside it a plug-in (Jensen's gap is negligible). NaN as in `dime`.
    """
    a, b, _ = _paired(first, second)
    n = len(a)
    if n < 2:
        return a.new_tensor(math.nan)
    left, right = (a @ a.mT).square(), (b @ b.mT).square()
    apart = [(k.sum() - k.diagonal().sum()) / (n * (n - 1)) for k in (left, right)]
    mixed = n + n * (n - 1) * apart[0] * apart[1]
    return ((left * right).sum() / mixed).log()


def _known(mode: str) -> None:
    if mode not in LOSSES:
        raise UnknownName("InfoNCE mode", mode, LOSSES)


def _paired(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unit rows of the texts with two views that are not zero, in float64, and which texts those are."""
    a, b = (torch.nn.functional.normalize(at_least_float32(v).double(), dim=-1) for v in (first, second))
    live = (a != 0).any(-1) & (b != 0).any(-1)
    return a[live], b[live], live


def _losses(a: Tensor, b: Tensor, mode: str, temperature: float) -> Tensor:
    own = (a * b).sum(-1) / temperature
    if mode == "nt_xent":
        rows = torch.cat([a, b])
        logits = (rows @ rows.mT / temperature).fill_diagonal_(-math.inf)
        return logits.logsumexp(-1).unflatten(0, (2, -1)).mean(0) - own
    logits = a @ b.mT / temperature
    there = logits.logsumexp(-1)
    return (there if mode == "one_way" else (there + logits.logsumexp(0)) / 2) - own


def _hit(cosine: Tensor) -> Tensor:
    """Share of each row's nearest that falls to the diagonal."""
    own = cosine.diagonal()[:, None]
    # the same two vectors can differ by rounding from place to place
    same = (cosine - own).abs() <= 1e-12
    beaten = ((cosine > own) & ~same).any(-1)
    return torch.where(beaten, 0.0, 1 / same.sum(-1).double())


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


def _gram_entropy(grams: Tensor) -> Tensor:
    """S1 of matrices with ones on the diagonal, [draw]."""
    with one_thread():
        p = torch.linalg.eigvalsh(grams).clamp_min(0) / grams.shape[-1]
    return torch.special.entr(p).sum(-1)


_PAIR = ("scale_free", "rotation_free")
LAWS = (
    Law(unit_views, ("bounded_by_one", "scale_free", "shift_free")),
    Law(chance_loss, (), {"texts": 7}),
    Law(infonce, ("non_negative", "symmetric", *_PAIR)),
    Law(infonce, ("non_negative", *_PAIR), {"mode": "one_way"}),
    Law(infonce, ("non_negative", "symmetric", *_PAIR), {"mode": "nt_xent"}),
    Law(partner_top1, ("non_negative", "bounded_by_one", "symmetric", *_PAIR)),
    Law(cosines, ("bounded_by_one", "symmetric", *_PAIR)),
    Law(lidar_spectrum, ("non_negative", "scale_free", "shift_free", "rotation_free")),
    Law(noise_mean, (), {"texts": 9, "views": 4, "d": 5}),
    Law(noise_edge, (), {"texts": 9, "views": 4, "d": 5}),
    Law(lidar, ("scale_free", "shift_free", "rotation_free")),
    Law(orders, ("non_negative",), {"texts": 5}),
    Law(dime, _PAIR),
    Law(dime_2, ("symmetric", *_PAIR)),
)
