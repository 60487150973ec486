"""Attention between words, by hand: mean over the tokens that ask, sum over those that are looked at."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from depthscope.errors import BadInput
from depthscope.measures.dependency import at_offsets, picked, spanning_trees, word_attention

ROWS = torch.tensor(
    [[[[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.1, 0.2, 0.7, 0.0], [0.4, 0.3, 0.2, 0.1]]]],
    dtype=torch.float64,
)
WORDS = torch.tensor([[0, -1, 1, 1]])


def test_the_mean_asks_and_the_sum_is_looked_at():
    found = word_attention(ROWS, WORDS, WORDS, 3)
    expected = torch.tensor([[1.0, 0, 0], [0.25, (0.7 + 0.3) / 2, 0], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(found[0, 0], expected)


def test_only_the_last_token_of_a_word_may_ask():
    found = word_attention(ROWS, WORDS, WORDS, 2, last=True)
    torch.testing.assert_close(found[0, 0], torch.tensor([[1.0, 0], [0.4, 0.3]], dtype=torch.float64))


def test_queries_that_are_not_all_positions_are_named_by_their_words():
    found = word_attention(ROWS[:, :, 2:3], WORDS[:, 2:3], WORDS, 2)
    torch.testing.assert_close(found[0, 0], torch.tensor([[0.0, 0], [0.1, 0.7]], dtype=torch.float64))


def test_the_first_of_equals_is_picked_among_the_allowed_ones():
    attention = torch.tensor([[[[0.9, 0.2, 0.2], [0.0, 0.0, 0.0], [0.3, 0.1, 0.6]]]])
    allowed = torch.tensor([[[False, True, True], [False, False, False], [True, True, False]]])
    assert picked(attention, allowed).tolist() == [[[1, -1, 0]]]


def test_an_offset_that_leads_outside_or_to_a_forbidden_word_picks_none():
    allowed = torch.tensor([[[False, True, True], [True, False, True], [False, True, False]]])
    assert at_offsets(allowed, torch.tensor([-2, -1, 1])).tolist() == [[[-1, -1, -1], [-1, 0, 1], [1, 2, -1]]]


def test_words_beyond_the_last_are_refused():
    with pytest.raises(BadInput, match=r"numbered -1 \.\. 1, got -1 \.\. 2"):
        word_attention(ROWS, WORDS, torch.tensor([[0, -1, 1, 2]]), 2)


def test_a_tree_by_hand_grows_from_its_root_over_the_larger_of_both_directions():
    scores = torch.zeros(1, 1, 5, 5)
    scores[0, 0, 0, 1] = 5.0
    scores[0, 0, 3, 1] = 4.0
    scores[0, 0, 0, 3] = 3.0  # closes a circle
    scores[0, 0, 2, 3] = 1.0
    scores[0, 0, 4, 0] = 9.0  # of a word that does not belong
    there = torch.tensor([[True, True, True, True, False]])
    assert spanning_trees(scores, there, torch.tensor([2])).tolist() == [[[1, 3, -1, 2, -1]]]
    assert spanning_trees(scores, there, torch.tensor([0])).tolist() == [[[-1, 0, 3, 1, -1]]]


def test_no_other_tree_weighs_more():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(2, 3, 5, 5, generator=generator)
    there = torch.tensor([[True] * 5, [True, False, True, True, True]])
    root = torch.tensor([3, 0])
    found = spanning_trees(scores, there, root)
    for row, head in product(range(2), range(3)):
        words = [w for w in range(5) if there[row, w]]
        weight = torch.maximum(scores[row, head], scores[row, head].T)
        best = max(
            (sum(float(weight[w, p]) for w, p in tree.items()), tree)
            for tree in _trees(words, int(root[row]))
        )[1]
        assert {w: int(found[row, head, w]) for w in words if w != int(root[row])} == best


def _trees(words: list[int], root: int) -> list[dict[int, int]]:
    """All trees from a root, by trying every choice of parents."""
    others = [w for w in words if w != root]
    kept = []
    for parents in product(words, repeat=len(others)):
        tree = dict(zip(others, parents, strict=True))
        if all(_reaches(word, root, tree) for word in others):
            kept.append(tree)
    return kept


def _reaches(word: int, root: int, tree: dict[int, int]) -> bool:
    for _ in tree:
        word = tree.get(word, root)
        if word == root:
            return True
    return False
