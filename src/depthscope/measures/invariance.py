"""Invariance: whether a vector stays with its text when the text is disturbed.

Several disturbed copies (views) of each of n texts are pooled to one vector each. InfoNCE asks whether a view finds its
partner among the views of all texts; DiME what the two views' similarities share beyond what randomly paired views
share. Sources: van den Oord et al. 2018 (InfoNCE); Chen et al. 2020 (NT-Xent); Skean et al. 2023, arXiv 2301.08164
(DiME).
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
from depthscope.threads import one_thread

LOSSES = ("symmetric", "one_way", "nt_xent")
TEMPERATURE = 0.1


class Cosines(NamedTuple):
    """Mean cosines of each text: with its partner (`positive`), and with the other texts' views (`negative`)."""

    positive: Tensor
    negative: Tensor


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
    Law(orders, ("non_negative",), {"texts": 5}),
    Law(dime, _PAIR),
    Law(dime_2, ("symmetric", *_PAIR)),
)
