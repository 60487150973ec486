"""Retrieval scores on planted rows; overlaps of words by hand; cache sizes by hand."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from depthscope.errors import BadInput
from depthscope.measures.cache import cache_bytes, full_heads
from depthscope.measures.retrieval import kind_of_answer, retrieval_scores, unigram_recall

IDS = torch.tensor([0, 7, 8, 7, 9, 7, 8, 7])
START, STOP = 1, 4  # the answer 7 8 7 stands at 1, 2, 3


def scored(best: list[int], said: list[int]) -> dict[str, float]:
    rows = torch.full((1, len(best), len(IDS)), 0.0)
    rows[0, torch.arange(len(best)), torch.tensor(best)] = 0.6
    rows[0, :, 4] += 0.4
    found = retrieval_scores(rows, torch.tensor(said), IDS, START, STOP)
    return {name: float(value[0]) for name, value in found.items()}


def test_each_position_of_the_span_that_was_copied_counts_once() -> None:
    assert scored([1, 2, 3], [7, 8, 7])["retrieval"] == 1
    # the same position looked at twice is one position of three, however often its token is said
    assert scored([1, 1, 1], [7, 7, 7])["retrieval"] == pytest.approx(1 / 3)


def test_looking_at_another_token_or_outside_the_span_copies_nothing() -> None:
    assert scored([1, 2, 3], [8, 7, 8])["retrieval"] == 0
    outside = scored([5, 6, 7], [7, 8, 7])
    assert (outside["retrieval"], outside["activation"], outside["needle_mass"]) == (0, 0, 0)


def test_mass_activation_and_sink_are_means_over_rows() -> None:
    found = scored([0, 2, 0], [7, 8, 7])
    assert found["needle_mass"] == pytest.approx(0.6 / 3)
    assert found["activation"] == 1
    assert found["sink_argmax"] == pytest.approx(2 / 3)


def test_a_row_without_mass_copies_nothing() -> None:
    found = retrieval_scores(torch.zeros(1, 1, 8), torch.tensor([0]), torch.zeros(8, dtype=torch.long), 0, 1)
    assert_close(found["retrieval"], torch.zeros(1))


def test_recall_counts_words_as_often_as_they_stand() -> None:
    assert unigram_recall(["a", "b", "a"], ["a", "c", "a", "a"]) == pytest.approx(2 / 3)
    assert math.isnan(unigram_recall([], ["a"]))


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("cold plum dumplings", "right"),
        ("cold dumplings", "incomplete"),
        ("the tide came in", "wrong_extraction"),
        ("green cheese is nice", "hallucinated"),
        ("", "incomplete"),
    ],
)
def test_answers_fail_in_ways_that_words_tell_apart(written: str, kind: str) -> None:
    hay = ["then", "the", "tide", "came", "in", "and", "cold", "plum", "dumplings", "were", "served"]
    assert kind_of_answer(["cold", "plum", "dumplings"], written.split(), hay) == kind


def test_groups_with_the_highest_scores_keep_their_cache() -> None:
    induction = np.array([[0.0, 0.9, 0.1, 0.2], [0.3, 0.0, np.nan, np.nan]])
    echo = np.array([[0.0, 0.0, 0.0, 0.0], [0.8, 0.0, np.nan, np.nan]])
    # pairs share keys; of 3 groups a share of 0.3 is one by induction (0.9) and one by echo (0.8)
    kept = full_heads(induction, echo, 2, 0.3, 0.3)
    np.testing.assert_array_equal(kept, [[1, 1, 0, 0], [1, 1, np.nan, np.nan]])
    with pytest.raises(BadInput, match="4 heads in 3 groups"):
        full_heads(induction, echo, 3)


def test_cache_sizes_by_hand() -> None:
    # SmolLM2-135M in 16 bits: 30 layers of 3 heads of 64 numbers, 23,040 bytes a token
    smollm = np.full(30, 2 * 64 * 2), np.zeros(30, int)
    every = np.ones((30, 3), bool)
    assert cache_bytes(8192, every, smollm[1], smollm[0]) == 8192 * 23_040
    half = np.zeros((30, 2), bool)
    half[:, 0] = True
    assert cache_bytes(8192, half, smollm[1], smollm[0]) / (8192 * 2 * 30 * 256) == pytest.approx(
        0.5 + 160 / 8192
    )
    # Gemma-3-270M: 3 global layers, 15 with a window of 512, one head of 256
    window = np.array([0 if k in (5, 11, 17) else 512 for k in range(18)])
    found = cache_bytes(4096, np.ones((18, 1), bool), window, np.full(18, 2 * 256 * 2))
    assert found == 4096 * 3072 + 7.5 * 2**20
