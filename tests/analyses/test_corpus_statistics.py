"""Sinks, their writers and massive channels where they were put, and nowhere in random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import SLOT, Write, at_token, axis, constant, look, planted, rising, text_of, value

from depthscope.analyses.corpus_statistics import CorpusStatistics
from depthscope.runtime.tiny import tiny

FIRST = range(3, 13)
LATER = 60
TEXTS = [text_of([3 + k, *range(20, 31), LATER, *range(31, 42)]) for k in range(10)]


def at_first(size: float) -> Write:
    """A write of that size at the first token of each text."""
    return lambda x: sum(
        (at_token(t, constant(axis(SLOT.start, size)))(x) for t in FIRST), torch.zeros_like(x)
    )


@pytest.mark.parametrize("layer", [0, 2, 5])
def test_the_layer_that_makes_the_first_token_massive_is_the_writer_and_no_other(
    layer: int, tmp_path: Path
) -> None:
    result = look(planted({layer: at_first(1000.0)}), "corpus_statistics", tmp_path, TEXTS)
    np.testing.assert_array_equal(value(result, "sink_writer"), np.arange(6) == layer)
    after = np.arange(7) > layer
    size, plain = np.sqrt(2 + 1000.0**2), np.sqrt(2)
    np.testing.assert_allclose(value(result, "peak_ratio"), np.where(after, size / plain, 1))
    np.testing.assert_allclose(value(result, "norm_max"), np.where(after, size, plain))
    np.testing.assert_array_equal(value(result, "norm_max_position"), 0)
    # position 0 counts for the largest norm only
    np.testing.assert_allclose(value(result, "norm_median"), plain)
    np.testing.assert_allclose(value(result, "norm_p99"), plain)
    np.testing.assert_array_equal(value(result, "sink_share"), 0)


def test_a_massive_token_in_the_middle_is_found_where_it_stands(tmp_path: Path) -> None:
    write = at_token(LATER, constant(axis(SLOT.start, 100.0)))
    result = look(planted({1: write}), "corpus_statistics", tmp_path, TEXTS)
    after = np.arange(7) > 1
    np.testing.assert_array_equal(value(result, "norm_max_position"), np.where(after, 12, 0))
    np.testing.assert_allclose(value(result, "sink_share"), np.where(after, 1 / 23, 0))
    np.testing.assert_array_equal(value(result, "sink_writer"), np.arange(6) == 1)


@pytest.mark.parametrize(("size", "writer"), [(10.0, 0), (20.0, 1)])
def test_a_peak_below_ten_medians_makes_no_writer(size: float, writer: int, tmp_path: Path) -> None:
    # 10 / sqrt 2 is above 4 medians and below 10, 20 / sqrt 2 is above both
    result = look(planted({3: at_first(size)}), "corpus_statistics", tmp_path, TEXTS)
    assert value(result, "sink_writer").tolist() == [0, 0, 0, writer, 0, 0]


def test_a_sink_that_only_grows_a_little_is_not_written_again(tmp_path: Path) -> None:
    result = look(planted({1: at_first(100.0), 3: at_first(150.0)}), "corpus_statistics", tmp_path, TEXTS)
    assert value(result, "sink_writer").tolist() == [0, 1, 0, 0, 0, 0]
    result = look(
        planted({1: at_first(100.0), 3: at_first(900.0)}), "corpus_statistics", tmp_path / "b", TEXTS
    )
    assert value(result, "sink_writer").tolist() == [0, 1, 0, 1, 0, 0]


def test_the_massive_channel_is_the_one_that_was_written_with_its_share(tmp_path: Path) -> None:
    writes = {2: constant(axis(SLOT.start + 7, 50.0))}
    result = look(planted(writes), "corpus_statistics", tmp_path, rising())
    np.testing.assert_array_equal(value(result, "massive_channel")[3:], SLOT.start + 7)
    np.testing.assert_allclose(value(result, "massive_channel_share")[3:], 2500 / 2502)
    # a channel that is massive at every position makes no position a sink
    np.testing.assert_array_equal(value(result, "sink_share"), 0)


def test_the_energy_of_sinks_is_in_no_channel(tmp_path: Path) -> None:
    result = look(planted({2: at_first(1000.0)}), "corpus_statistics", tmp_path, TEXTS)
    assert (value(result, "massive_channel") != SLOT.start).all()


def test_a_bounded_sample_keeps_the_median_of_what_it_kept(tmp_path: Path) -> None:
    few = look(planted({}), CorpusStatistics(sample=7), tmp_path, rising())
    assert few["norm_median"].n_items is not None
    assert few["norm_median"].n_items.tolist() == [7] * 7
    np.testing.assert_allclose(value(few, "norm_median"), np.sqrt(2))


def test_random_weights_have_no_sink_writer(tmp_path: Path) -> None:
    texts = [f"text number {k} of the negative control" for k in range(9)]
    result = look(tiny("llama", torch.float32), "corpus_statistics", tmp_path, texts)
    assert value(result, "sink_writer").max() == 0
    assert value(result, "sink_share").max() == 0
    assert value(result, "peak_ratio").max() < 4
