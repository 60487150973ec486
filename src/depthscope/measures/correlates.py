"""Correlates: whether one curve over states goes with another, though neighbouring states are not independent."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from depthscope.measures.laws import Law


class Correlate(NamedTuple):
    """How two curves go together.

    Args:
        spearman: rank correlation, whose sign is the direction. partial: the same with the rank of a third curve
            taken out of both. distance: distance correlation, 0..1, 0 only where independent. p: of the distance
            correlation, under random order. NaN where a curve does not vary or has fewer than 4 points.
    """

    spearman: float
    partial: float
    distance: float
    p: float


def correlate(
    x: Num[np.ndarray, " n"],
    y: Num[np.ndarray, " n"],
    given: Num[np.ndarray, " n"],
    draws: int = 999,
    seed: int = 0,
) -> Correlate:
    """Rank, partial rank and distance correlation of two curves; points with a NaN in either are left out.

    partial = (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2)) with rank correlations r and z = `given`, say the
    depth: curves that both rise with it go together without it only by what is left. p = (1 + draws with a distance
    correlation at least as large) / (1 + draws); smooth curves make it too small, so it is a screen and no proof.
    """
    fine = np.isfinite(x) & np.isfinite(y)
    x, y, z = (np.asarray(v, np.float64)[fine] for v in (x, y, given))
    if len(x) < 4 or len(set(x.tolist())) < 2 or len(set(y.tolist())) < 2:
        return Correlate(*[float("nan")] * 4)
    xy, xz, yz = _ranks(x, y), _ranks(x, z), _ranks(y, z)
    left = np.sqrt(max((1 - xz**2) * (1 - yz**2), 0.0))
    partial = float(np.clip((xy - xz * yz) / left, -1, 1)) if left > 1e-9 else float("nan")
    generator = np.random.default_rng(seed)
    orders = np.stack([np.arange(len(y)), *(generator.permutation(len(y)) for _ in range(draws))])
    distance, *mixed = _in_orders(x, y, orders)
    above = int((np.asarray(mixed) >= distance - 1e-12).sum())
    return Correlate(xy, partial, float(distance), (1 + above) / (1 + draws))


def distance_correlation(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """DCor = sqrt(<A, B> / sqrt(<A, A> <B, B>)), A and B the doubly centred distances; 0..1 (Szekely et al. 2007).

    1 for straight lines, of either sign. 0 where a curve does not vary.
    """
    return float(_in_orders(x, y, np.arange(len(y))[None])[0])


def _in_orders(x: np.ndarray, y: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Distance correlation of x with y in each order [draw, n]: the centred distances of y are only reordered."""
    a, b = (_centred(np.abs(v[:, None] - v[None])) for v in (x, y))
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    shared = (a * b[orders[:, :, None], orders[:, None, :]]).sum((1, 2))
    return np.sqrt(np.maximum(shared, 0.0) / norm) if norm > 0 else np.zeros(len(orders))


def _centred(d: np.ndarray) -> np.ndarray:
    return d - d.mean(0) - d.mean(1)[:, None] + d.mean()


def _ranks(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's correlation with mid-ranks."""
    a, b = (_midrank(v) for v in (x, y))
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 0 else 0.0


def _midrank(v: np.ndarray) -> np.ndarray:
    _, group, counts = np.unique(v, return_inverse=True, return_counts=True)
    return (counts.cumsum() - counts / 2)[group]


LAWS = (
    Law(correlate, ("bounded_by_one", "scale_free", "shift_free"), {"draws": 9}),
    Law(
        distance_correlation,
        ("non_negative", "bounded_by_one", "symmetric", "scale_free", "shift_free", "one_on_equal"),
    ),
)
