"""What will be read is planned before anything runs: the same every time, each window once, positions evenly."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthscope.engine.needs import Needs, SweepNeed
from depthscope.engine.shard import capture_shards, hashed, rows_that_fit, sampled, sweep_shards
from depthscope.errors import BadInput, UnknownName
from depthscope.materials.window import Window, Windows
from depthscope.runtime.head import Decode
from depthscope.runtime.tiny import tiny

LENS = Needs(frozenset({"L*.resid_post"}), Decode(top_k=1), 100)


def windows_of(lengths: list[int], documents: int = 5) -> Windows:
    items = tuple(Window(k, f"d{k % documents}", tuple(range(n))) for k, n in enumerate(lengths))
    return Windows(items, "made up", "none", 0)


def pairs(chosen: dict[int, np.ndarray]) -> set[tuple[int, int]]:
    return {(w, int(p)) for w, positions in chosen.items() for p in positions}


lengths = st.lists(st.sampled_from([2, 3, 17, 40]), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(lengths, st.integers(1, 8), st.integers(0, 3))
def test_every_window_is_captured_exactly_once_in_batches_of_one_length(
    given_lengths: list[int], rows: int, seed: int
):
    windows = windows_of(given_lengths)
    shards = capture_shards(windows, LENS, rows, seed)
    assert sorted(w for s in shards for w in s.windows) == list(range(len(given_lengths)))
    for shard in shards:
        assert 1 <= len(shard.windows) <= rows
        assert {len(windows.items[w].ids) for w in shard.windows} == {shard.length}
    assert len({s.name for s in shards}) == len(shards)
    assert shards == capture_shards(windows, LENS, rows, seed)


def test_batches_are_full_but_for_the_last_of_a_length():
    shards = capture_shards(windows_of([40] * 19 + [20] * 3), LENS, 8, 0)
    assert [(s.length, len(s.windows)) for s in shards] == [(40, 8), (40, 8), (40, 3), (20, 3)]


@settings(max_examples=40, deadline=None)
@given(lengths, st.integers(1, 300), st.integers(0, 3))
def test_sampled_positions_are_exactly_n_never_the_first_and_always_have_a_next_token(
    given_lengths: list[int], n: int, seed: int
):
    found = pairs(sampled(windows_of(given_lengths), n, seed))
    there = sum(max(0, length - 2) for length in given_lengths)
    assert len(found) == min(n, there)
    for window, position in found:
        assert 1 <= position <= given_lengths[window] - 2


def test_fewer_positions_are_among_more():
    windows = windows_of([64] * 20)
    few, many = (pairs(sampled(windows, n, 0)) for n in (100, 200))
    assert len(few) == 100
    assert len(many) == 200
    assert few < many


def test_positions_spread_evenly_over_windows_and_places():
    windows = windows_of([102] * 50)
    found = pairs(sampled(windows, 2500, 0))
    by_window = Counter(w for w, _ in found)
    by_place = Counter((p - 1) // 10 for _, p in found)
    # 100 positions a window, half of them drawn: 50 each with a standard deviation of 5
    assert set(by_window) == set(range(50))
    assert 30 <= min(by_window.values()) <= max(by_window.values()) <= 70
    assert 190 <= min(by_place.values()) <= max(by_place.values()) <= 310


def test_another_seed_samples_other_positions():
    windows = windows_of([64] * 20)
    one, other = (pairs(sampled(windows, 200, seed)) for seed in (0, 1))
    assert len(one & other) < 100


def test_keys_are_distinct_and_depend_on_window_position_and_seed():
    window, position = np.divmod(np.arange(100_000), 500)
    keys = hashed(window, position, 0)
    assert keys.dtype == np.uint64
    assert len(np.unique(keys)) == 100_000
    assert not (keys == hashed(window, position, 1)).any()


def test_decode_positions_of_a_shard_are_those_of_its_windows():
    windows = windows_of([20, 40] * 6)
    chosen = pairs(sampled(windows, 100, 3))
    shards = capture_shards(windows, LENS, 4, 3)
    assert {(s.windows[row], p) for s in shards for row, p in s.positions} == chosen
    assert not any(s.positions for s in capture_shards(windows, Needs(LENS.sites), 4, 3))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 10), st.integers(0, 3))
def test_a_sweep_reads_one_window_of_each_document_first(documents: int, count: int, wanted: int, seed: int):
    windows = windows_of([32] * count, documents)
    need = SweepNeed(("block",), (), 16 * wanted, wanted)
    shards = sweep_shards(windows, need, seed, 0)
    chosen = [w for s in shards for w in s.windows]
    assert len(chosen) == len(set(chosen)) == min(wanted, count)
    used = {windows.items[w].document for w in chosen}
    assert len(used) == min(wanted, len(windows.documents))
    assert all(s.length == 16 and s.sweep == need and not s.positions for s in shards)
    assert shards == sweep_shards(windows, need, seed, 0)


def test_a_sweep_takes_long_windows_before_short_ones_and_never_pads():
    windows = windows_of([40, 8, 40, 8, 40, 8], documents=6)
    shards = sweep_shards(windows, SweepNeed(("block",), (), 4 * 32, 4), 0, 0)
    assert [(s.length, len(s.windows)) for s in shards] == [(32, 3), (8, 1)]
    assert {w for s in shards if s.length == 32 for w in s.windows} == {0, 2, 4}


def test_a_sweep_of_no_stated_tokens_reads_every_window_whole():
    windows = windows_of([40, 8, 300, 8], documents=2)
    shards = sweep_shards(windows, SweepNeed(tokens=0), 0, 0)
    assert [(s.length, s.windows) for s in shards] == [(300, (2,)), (40, (0,)), (8, (1, 3))]


def test_a_sweep_of_too_few_tokens_a_window_or_of_an_unknown_protection_is_refused():
    with pytest.raises(BadInput, match="fewer than 4 tokens"):
        SweepNeed(("block",), (), 24, 8)
    with pytest.raises(UnknownName, match="unknown value of protect 'everything'; known: first, none, sinks"):
        SweepNeed(("block",), protect="everything")


def test_rows_shrink_with_the_budget_and_never_vanish():
    anatomy = tiny("llama").anatomy
    one_row = 5 * 32 * 40 * 8  # states x width x tokens x bytes
    found = [
        rows_that_fit(anatomy, LENS, 40, 8, budget) for budget in (0, one_row, 3 * one_row, 100 * one_row)
    ]
    assert found == [1, 1, 3, 8]
    assert all(a <= b for a, b in pairwise(found))
