"""Halving and the one-standard-error rule on tables whose right answer is plain, and on curves of real models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from depthscope.advise.layer_search import Found, Seen, cheapest, grid, losers, search, sizes, within
from depthscope.errors import BadInput, NonFinite

PYTHIA_410M = """45.0 44.9 46.1 46.2 48.6 46.9 49.0 49.7 49.3 48.7 48.7 50.3 50.1 50.5 50.8 50.9 50.7 51.9 51.7
51.7 51.0 50.2 49.8 49.2 46.8"""
"""Mean MTEB score after each block of Pythia-410M (Skean et al. 2025, arXiv 2502.02013, result files), in points."""


def table(
    *scores: float, noise: float = 0.0, seed: int = 0
) -> tuple[list[tuple[tuple[int, ...], int]], object]:
    """What was asked, and a `Look` on fixed scores, which vary over draws with `noise` / sqrt(items)."""
    asked: list[tuple[tuple[int, ...], int]] = []
    values = np.asarray(scores)

    def look(states: Sequence[int], items: int) -> Seen:
        asked.append((tuple(states), items))
        random = np.random.default_rng(seed)
        shaken = values + noise / np.sqrt(items) * random.standard_normal(len(values))
        drawn = shaken + noise / np.sqrt(items) * random.standard_normal((200, len(values)))
        return Seen(tuple(states), shaken[list(states)], drawn[:, list(states)])

    return asked, look


def found(*scores: float, items: int = 512, noise: float = 0.0, seed: int = 0, **settings: float) -> Found:
    look = table(*scores, noise=noise, seed=seed)[1]
    return search(len(scores) - 1, look, items=items, **settings)  # pyright: ignore[reportArgumentType]


def test_the_grid_has_every_fourth_state_and_both_ends():
    assert grid(30) == (0, 4, 8, 12, 16, 20, 24, 28, 30)
    assert grid(4) == (0, 4)
    assert grid(3, 1) == (0, 1, 2, 3)
    assert sizes(1000) == (128, 256, 512, 1000)
    assert sizes(100) == (100,)
    assert sizes(256) == (128, 256)
    with pytest.raises(BadInput, match="stride 0"):
        grid(4, 0)


def test_a_noiseless_peak_between_grid_points_is_found_by_climbing():
    hill = [-abs(k - 7) for k in range(25)]
    seen = found(*hill)
    assert (seen.best, seen.cheapest) == (7, 7)
    assert len(seen.looked) <= 15
    # 7 grid points; the better half (8, 4, 12, 0) stays, then (4, 8), then 8 and 4 tie-broken by score
    assert [r.items for r in seen.rounds] == [128, 256]
    assert seen.rounds[0].dropped == (16, 20, 24)
    assert seen.rounds[1].dropped == (0, 12)


def test_states_that_cannot_be_told_from_the_leader_stay():
    flat = Seen((0, 4, 8, 12), np.asarray([1.0, 0.99, 0.98, 0.2]), np.empty((0, 4)))
    noise = np.random.default_rng(0).standard_normal((1000, 4)) * [0.2, 0.2, 0.2, 0.01]
    seen = Seen(flat.states, flat.score, flat.score + noise)
    assert losers(seen) == (12,)


def test_the_leader_and_the_better_half_never_go():
    seen = Seen((0, 4, 8), np.asarray([0.1, 0.2, 0.9]), np.tile([0.1, 0.2, 0.9], (10, 1)))
    assert losers(seen) == (0,)


def test_one_standard_error_takes_the_earliest_that_is_near_by_the_paired_error():
    shared = np.random.default_rng(1).standard_normal((4000, 1))
    own = np.random.default_rng(2).standard_normal((4000, 3))
    score = np.asarray([0.700, 0.770, 0.790])
    # each score has a standard error of 0.1, yet nearly all of it is shared: differences have 0.014
    seen = Seen((3, 9, 12), score, score + 0.1 * shared + 0.01 * own)
    assert within(seen) == (12,)
    # the same spread, nothing shared: differences have 0.14
    assert within(Seen((3, 9, 12), score, score + 0.1 * own)) == (3, 9, 12)
    assert cheapest(Seen((3, 9, 12), score, score + 0.02 * own)) == 9


def test_a_state_without_a_score_goes_first_and_is_never_chosen():
    hill = [-abs(k - 7.0) for k in range(25)]
    hill[8] = np.nan
    seen = found(*hill)
    assert 8 in seen.rounds[0].dropped
    assert seen.best in (6, 7)
    with pytest.raises(NonFinite, match="no state has a score"):
        found(*[np.nan] * 9, items=100)


def test_few_items_are_one_round_and_a_share_bounds_what_is_scored():
    hill = [-abs(k - 6) for k in range(13)]
    seen = found(*hill, items=100, share=0.6)
    assert seen.rounds == ()
    assert len(seen.looked) == int(0.6 * 13)
    assert seen.best in (5, 6)
    with pytest.raises(BadInput, match=r"share 0\.0"):
        found(*hill, share=0.0)


def test_equal_calls_ask_the_same_and_every_round_asks_all_states_the_same_items():
    asked, look = table(*[-abs(k - 11) for k in range(31)], noise=2.0)
    first = search(30, look, items=400)  # pyright: ignore[reportArgumentType]
    again = search(30, look, items=400)  # pyright: ignore[reportArgumentType]
    assert asked[: len(asked) // 2] == asked[len(asked) // 2 :]
    assert (first.best, first.looked) == (again.best, again.looked)
    assert [n for _, n in asked[:2]] == [128, 256]


def curves() -> dict[str, list[float]]:
    """A measured curve, and straight lines through the known ends and peaks of others (same source)."""

    def through(points: dict[float, float], depth: int) -> list[float]:
        return np.interp(np.arange(depth + 1), [p * depth for p in points], list(points.values())).tolist()

    return {
        "Pythia-410M": [float(x) for x in PYTHIA_410M.split()],
        "Pythia-160M": through({0.0: 44.5, 8 / 12: 47.1, 1.0: 43.5}, 12),
        "Pythia-70M": through({0.0: 44.4, 1.0: 40.4}, 6),
        "Mamba-370M": through({0.0: 40.4, 17 / 48: 50.7, 0.9: 46.0, 1.0: 34.2}, 48),
        "BERT-base": through({0.0: 51.8, 5 / 12: 54.9, 1.0: 52.5}, 12),
        "RoBERTa-base": through({0.0: 51.8, 7 / 12: 55.3, 1.0: 53.4}, 12),
        "LLM2Vec-8B": through({0.0: 49.0, 27 / 32: 67.5, 1.0: 66.0}, 32),
    }


def regret(truth: list[float], noise: float, seeds: int, **settings: float) -> float:
    """Points that are lost by taking the state a search calls best."""
    runs = [found(*truth, noise=noise, seed=seed, **settings) for seed in range(seeds)]
    assert max(len(r.looked) / len(truth) for r in runs) <= settings.get("share", 0.6)
    return float(np.mean([max(truth) - truth[r.best] for r in runs]))


def test_on_curves_of_real_models_the_search_loses_little_and_scores_six_tenths_of_the_states_or_fewer():
    quiet = {name: regret(truth, 0.0, 1) for name, truth in curves().items()}
    assert np.mean(list(quiet.values())) <= 0.02, quiet
    # a standard error of one point of every score at all 512 items
    noisy = {name: regret(truth, np.sqrt(512), 12) for name, truth in curves().items()}
    whole = {name: regret(truth, np.sqrt(512), 12, stride=1, share=1.0) for name, truth in curves().items()}
    assert np.mean(list(noisy.values())) <= 0.6, noisy
    assert np.mean(list(noisy.values())) <= np.mean(list(whole.values())) + 0.15, (noisy, whole)
