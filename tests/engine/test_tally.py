"""Tallies add up: in any grouping, in any order of what is exact, and through the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from depthscope.engine.tally import (
    PARTS,
    Counts,
    Extremes,
    Gram,
    Histogram,
    Moments,
    Part,
    PerDocument,
    Rows,
    Sum,
    Tally,
    Vectors,
    fold,
)
from depthscope.errors import BadInput

KINDS = sorted(PARTS)
few = settings(max_examples=25, deadline=None)


def part_of(kind: str, seed: int) -> Part:
    """A part with random content; every shard of a kind has the same cells."""
    r = np.random.default_rng(seed)
    n = int(r.integers(0, 6))
    match kind:
        case "sum":
            return Sum(r.normal(size=(3, 2)), r.integers(0, 9, (3, 2)))
        case "per_document":
            return PerDocument.of([f"document {k}" for k in r.integers(0, 5, n)], r.normal(size=(n, 3)))
        case "histogram":
            return Histogram(r.integers(0, 99, (2, 7)))
        case "counts":
            return Counts.of(r.integers(0, 12, (n, 2)))
        case "moments":
            x = r.normal(size=(n, 4)) * 1e3
            return Moments(np.asarray(n), x.sum(0), (x**2).sum(0))
        case "gram":
            x = r.normal(size=(n, 4))
            return Gram(np.asarray(n), x.sum(0), x.T @ x)
        case "extremes":
            return Extremes(r.integers(0, 4, 5).astype(float), r.integers(0, 9, (5, 2)))
        case "vectors":
            key = r.choice(2**40, n, replace=False).astype(np.uint64) * np.uint64(1000) + np.uint64(
                seed % 1000
            )
            return Vectors.of(key, [f"d{k % 3}" for k in key], r.normal(size=(n, 2, 3)))
        case _:
            key = r.choice(2**40, n, replace=False).astype(np.uint64) * np.uint64(1000) + np.uint64(
                seed % 1000
            )
            return Rows(
                key,
                {"x": r.normal(size=(n, 2)), "unit": np.asarray([f"d{k % 3}" for k in key], dtype=str)},
                4,
            )


def assert_same(a: Part, b: Part, rtol: float = 1e-12) -> None:
    left, right = a.arrays(), b.arrays()
    assert left.keys() == right.keys()
    for name, values in left.items():
        if values.dtype.kind == "f" and not isinstance(a, Rows):
            np.testing.assert_allclose(values, right[name], rtol=rtol, atol=1e-9, err_msg=name)
        else:
            np.testing.assert_array_equal(values, right[name], err_msg=name)


seeds = st.lists(st.integers(0, 10**6), min_size=3, max_size=3, unique_by=lambda s: s % 1000)


@pytest.mark.parametrize("kind", KINDS)
@few
@given(seeds)
def test_regrouping_agrees_and_counts_and_rows_agree_exactly(kind: str, three: list[int]):
    a, b, c = (part_of(kind, s) for s in three)
    assert_same(a.add(b).add(c), a.add(b.add(c)))


@pytest.mark.parametrize("kind", KINDS)
@few
@given(seeds)
def test_order_does_not_matter(kind: str, three: list[int]):
    a, b, _ = (part_of(kind, s) for s in three)
    assert_same(a.add(b), b.add(a), rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_adding_leaves_both_operands_as_they_were(kind: str):
    a, b = part_of(kind, 1), part_of(kind, 2)
    before = [{k: v.copy() for k, v in p.arrays().items()} for p in (a, b)]
    a.add(b)
    for part, kept in zip((a, b), before, strict=True):
        for name, values in part.arrays().items():
            np.testing.assert_array_equal(values, kept[name])


def tally_of(seed: int) -> Tally:
    return Tally({kind: part_of(kind, seed) for kind in KINDS})


def test_the_empty_tally_adds_nothing_on_either_side():
    one = tally_of(3)
    for total in (Tally({}).add(one), one.add(Tally({})), fold([Tally({}), one, Tally({})])):
        assert list(total) == list(one)
        for name, part in one.items():
            assert_same(total[name], part, rtol=0)


def test_a_part_that_only_one_side_has_is_kept():
    left, right = Tally({"a": part_of("sum", 1)}), Tally({"b": part_of("gram", 2)})
    assert list(left.add(right)) == ["a", "b"]


def test_saved_and_loaded_is_the_same_and_saved_again_gives_the_same_bytes(tmp_path: Path):
    one = tally_of(5)
    one.save(tmp_path / "a.npz")
    loaded = Tally.load(tmp_path / "a.npz")
    loaded.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert list(loaded) == list(one)
    for name, part in one.items():
        assert type(loaded[name]) is type(part)
        assert_same(loaded[name], part, rtol=0)


def test_an_empty_tally_survives_the_disk(tmp_path: Path):
    Tally({}).save(tmp_path / "a.npz")
    assert dict(Tally.load(tmp_path / "a.npz")) == {}


def test_a_fold_of_loaded_tallies_has_the_bytes_of_a_fold_in_memory(tmp_path: Path):
    shards = [tally_of(s) for s in (1, 2, 3)]
    for k, shard in enumerate(shards):
        shard.save(tmp_path / f"{k}.npz")
    fold(shards).save(tmp_path / "memory.npz")
    fold([Tally.load(tmp_path / f"{k}.npz") for k in range(3)]).save(tmp_path / "disk.npz")
    assert (tmp_path / "memory.npz").read_bytes() == (tmp_path / "disk.npz").read_bytes()


@few
@given(st.permutations(range(12)), st.integers(1, 11))
def test_rows_keep_exactly_the_smallest_keys_in_any_order_of_merging(order: list[int], cut: int):
    keys = np.asarray([907, 13, 451, 88, 230, 671, 5, 344, 129, 760, 502, 61], np.uint64)
    one = [Rows(keys[[k]], {"x": np.asarray([float(k)])}, 5) for k in order]
    left, right = one[0], one[cut]
    for row in one[1:cut]:
        left = left.add(row)
    for row in one[cut + 1 :]:
        right = right.add(row)
    total = left.add(right)
    np.testing.assert_array_equal(total.key, [5, 13, 61, 88, 129])
    np.testing.assert_array_equal(total.columns["x"], [6, 1, 11, 3, 8])


def test_extremes_of_equal_value_are_the_earlier_ones():
    late = Extremes(np.asarray([1.0, 2.0]), np.asarray([[3, 0], [0, 1]]))
    early = Extremes(np.asarray([1.0, 1.0]), np.asarray([[2, 9], [0, 0]]))
    for total in (late.add(early), early.add(late)):
        np.testing.assert_array_equal(total.value, [1, 2])
        np.testing.assert_array_equal(total.place, [[2, 9], [0, 1]])


def test_counts_of_equal_ids_add_up_by_hand():
    total = Counts.of(np.asarray([[7, 3], [7, 7]])).add(Counts.of(np.asarray([3, 99])))
    np.testing.assert_array_equal(total.ids, [3, 7, 99])
    np.testing.assert_array_equal(total.counts, [2, 3, 1])


def test_per_document_sums_by_unit_by_hand():
    found = PerDocument.of(["b", "a", "b"], np.asarray([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]]))
    assert found.units == ("a", "b")
    np.testing.assert_array_equal(found.sums, [[2, 20], [5, 50]])
    np.testing.assert_array_equal(found.counts, [[1, 1], [2, 2]])
    more = found.add(PerDocument.of(["c", "a"], np.asarray([[7.0, 0.0], [1.0, 1.0]])))
    assert more.units == ("a", "b", "c")
    np.testing.assert_array_equal(more.sums, [[3, 21], [5, 50], [7, 0]])
    np.testing.assert_array_equal(more.counts, [[2, 2], [2, 2], [1, 1]])


@few
@given(
    hnp.arrays(np.float64, (6, 2), elements=st.sampled_from([1.0, 2.0, np.nan, np.inf, -np.inf])),
    st.lists(st.sampled_from("abc"), min_size=6, max_size=6),
)
def test_per_document_leaves_out_and_counts_what_is_not_finite(values: np.ndarray, units: list[str]):
    found = PerDocument.of(units, values)
    for row, unit in enumerate(found.units):
        for cell in range(2):
            kept = [v for u, v in zip(units, values[:, cell], strict=True) if u == unit and np.isfinite(v)]
            assert found.sums[row, cell] == sum(kept)
            assert found.counts[row, cell] == len(kept)
    assert found.excluded == int((~np.isfinite(values)).sum())
    assert found.add(found).excluded == 2 * found.excluded


def test_sums_that_are_already_taken_join_by_unit():
    found = PerDocument.of_sums(
        ["b", "a", "b"], np.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.asarray([2, 3, 4])
    )
    np.testing.assert_array_equal(found.sums, [[3, 4], [6, 8]])
    np.testing.assert_array_equal(found.counts, [[3, 3], [6, 6]])


def test_a_unit_for_each_item_is_demanded():
    with pytest.raises(BadInput, match="2 units were given for 3 items"):
        PerDocument.of(["a", "b"], np.zeros(3))


def test_vectors_stand_in_the_order_of_their_keys_and_an_item_that_comes_again_changes_nothing():
    one = Vectors.of(np.asarray([9, 2], np.uint64), ["a", "bcd"], np.asarray([[9.0, 90.0], [2.0, 20.0]]))
    total = one.add(Vectors.of(np.asarray([5], np.uint64), ["e"], np.asarray([[5.0, 50.0]]))).add(one)
    np.testing.assert_array_equal(total.key, [2, 5, 9])
    np.testing.assert_array_equal(total.units, ["bcd", "e", "a"])
    np.testing.assert_array_equal(total.values, [[2, 20], [5, 50], [9, 90]])
    assert total.values.dtype == np.float32
    with pytest.raises(BadInput, match="2 keys and 1 units were given for 2 vectors"):
        Vectors.of(np.asarray([9, 2], np.uint64), ["a"], np.zeros((2, 3)))
