"""Offsets between words: circles, groups and nearest words by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from depthscope.measures import word_offsets
from depthscope.measures.word_offsets import circles, grouped, held_out_offsets, nearest, shared_length


def test_circles_are_chains_that_return_to_their_start():
    pairs = [("a", "b"), ("b", "a"), ("c", "d"), ("d", "e"), ("x", "y"), ("y", "z"), ("z", "x"), ("q", "a")]
    assert circles(pairs) == [0, 0, -1, -1, 1, 1, 1, -1]
    assert circles([("a", "a")]) == [0]


def test_pairs_that_share_a_word_are_one_group():
    assert grouped([("a", "b"), ("c", "d"), ("b", "e"), ("d", "c"), ("f", "g")]) == [0, 1, 0, 1, 2]


def test_an_offset_is_the_mean_of_all_other_groups():
    x, y = torch.zeros(3, 1), torch.tensor([[1.0], [3.0], [8.0]])
    found = held_out_offsets(x, y, torch.tensor([0, 0, 1]))
    assert_close(found, torch.tensor([[8.0], [8.0], [2.0]]))
    assert_close(held_out_offsets(x, y, torch.tensor([0, 0, 0])), torch.zeros(3, 1))


def test_offsets_of_circles_cancel():
    points = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    order = torch.tensor([1, 0, 3, 2, 5, 4])
    assert_close(
        held_out_offsets(points, points[order], torch.tensor([0, 0, 1, 1, 2, 2])), torch.zeros_like(points)
    )
    assert shared_length(points, points[order]) == pytest.approx(0, abs=1e-12)


def test_the_nearest_word_is_by_angle_and_never_the_own_one():
    words = torch.tensor([[1.0, 0.0], [9.0, 1.0], [0.0, 1.0]])
    assert nearest(words, words, torch.arange(3)).tolist() == [1, 0, 1]


def test_the_nearest_of_many_words_is_found_across_parts(monkeypatch: pytest.MonkeyPatch):
    points = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = nearest(points, points, torch.arange(7))
    monkeypatch.setattr(word_offsets, "CHUNK", 2)
    assert nearest(points, points, torch.arange(7)).tolist() == whole.tolist()


def test_equal_offsets_share_all_of_their_length():
    x = torch.randn(5, 3)
    assert shared_length(x, x + torch.tensor([3.0, 0.0, 4.0])) == pytest.approx(1, rel=1e-6)
    one = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    assert shared_length(one, torch.tensor([[3.0, 0.0], [0.0, 4.0]])) == pytest.approx(2.5 / 3.5)
    assert math.isnan(shared_length(one, one))
    assert math.isnan(shared_length(one[:0], one[:0]))
