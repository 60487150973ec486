"""Without its planted pair of heads the model forgets what it has seen; without others it does not."""

from __future__ import annotations

import numpy as np
import pytest
from wired_heads import planted_heads

from depthscope.analyses.induction_ablation import InductionAblation, context_windows
from depthscope.analyses.induction_heads import InductionHeads
from depthscope.engine.audit import audit
from depthscope.engine.chosen_heads import drawn, matched, possible, top
from depthscope.errors import BadInput, Refused
from depthscope.results.result import Result
from depthscope.runtime.tiny import tiny

TEXTS = [f"text number {k} of as many tokens" for k in range(9)]
ABLATION = InductionAblation((1,), draws=2, length=12, examples=3, texts=1, text_length=16)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    model = planted_heads({(0, 0): "previous", (1, 0): "induction"})
    out = tmp_path_factory.mktemp("pair") / "run"
    asked = [InductionHeads(12, 6, 3), ABLATION]
    return audit(model, asked, out=out, text=TEXTS, tokens=10**6, window=24, force=True)["induction_ablation"]


def rise(result: Result, which: str, mode: str, group: str) -> float:
    return result[f"{which}_copy_loss_increase"].at(mode=mode, criterion=group, k=1)


def test_the_second_copy_needs_the_induction_head_and_the_head_that_feeds_it(result: Result) -> None:
    assert result["intact_second_copy_loss"].scalar() < 0.01
    assert result["intact_second_copy_accuracy"].scalar() == 1
    for group in ("induction", "previous"):
        assert rise(result, "second", "zero", group) > 3
        assert rise(result, "second", "mean", group) > 1
    for mode in ("zero", "mean", "pattern_preserving"):
        assert rise(result, "second", mode, "random") == pytest.approx(0, abs=1e-9)


def test_the_first_copy_loses_nothing_by_it(result: Result) -> None:
    # what the induction head says there (the first token) is wrong: without it the loss falls
    for group in ("induction", "previous", "random"):
        assert rise(result, "first", "zero", group) < 1e-6


def test_a_head_that_only_feeds_another_ones_attention_costs_nothing_where_patterns_are_kept(
    result: Result,
) -> None:
    assert rise(result, "second", "pattern_preserving", "previous") == pytest.approx(0, abs=1e-9)
    assert rise(result, "second", "pattern_preserving", "induction") > 3


def test_running_text_is_ablated_too_and_counts_are_those_of_windows(result: Result) -> None:
    assert result["text_loss_increase"].axes.keys() == {"criterion", "k"}
    assert np.isfinite(result["in_context_score"].value).all()
    counted = result["second_copy_loss_increase"]
    assert counted.n is not None
    assert counted.n_items is not None
    assert counted.n[0, :, 0].tolist() == [3, 3, 3]
    assert counted.n_items[0, :, 0].tolist() == [3, 3, 6]  # two draws of random heads


def test_windows_of_context_are_those_of_the_paper_where_texts_are_long_enough() -> None:
    # losses start with that of token 1
    assert context_windows(512) == (slice(39, 59), slice(489, 509))
    early, late = context_windows(41)
    losses = np.arange(40)
    assert (losses[early].tolist(), losses[late].tolist()) == ([0, 1, 2, 3], [36, 37, 38, 39])


def test_heads_are_chosen_by_score_and_controls_are_other_heads() -> None:
    score = np.array([[0.1, np.nan, 0.9], [0.5, 0.5, 0.2]])
    assert top(score, 3) == ((0, 2), (1, 0), (1, 1))
    assert top(score, 9) == ((0, 2), (1, 0), (1, 1), (1, 2), (0, 0))
    others = drawn(score, 2, top(score, 2), (0, 1))
    assert len(others) == 2
    assert not set(others) & set(top(score, 2))
    assert others == drawn(score, 2, top(score, 2), (0, 1))
    assert len(drawn(score, 9, top(score, 4), (0,))) == 1
    assert possible((1, 3, 5), 10, 0.3) == (1, 3)
    assert possible((1, 3), 2, 0.1) == (1,)


def test_matched_heads_lie_in_the_same_layer_and_are_the_nearest_in_size() -> None:
    size = np.array([[1.0, 1.1, 5.0, 9.0], [1.0, 2.0, 3.0, 4.0]])
    allowed = np.ones((2, 4), bool)
    assert matched(((0, 0), (1, 3)), allowed, size, near=1) == ((0, 1), (1, 2))
    allowed[1] = False
    assert matched(((1, 0),), allowed, size, near=1) == ((0, 0),)
    with pytest.raises(BadInput, match="2 heads are to be matched, 1 others are allowed"):
        matched(((0, 0), (0, 1)), np.eye(2, 4, 3, dtype=bool), size)


def test_what_cannot_be_ablated_is_refused() -> None:
    with pytest.raises(Refused, match="no causal language model"):
        InductionAblation().needs(tiny("bert").anatomy)
    with pytest.raises(BadInput, match="modes=\\('erase',\\)"):
        InductionAblation(modes=("erase",)).needs(tiny("llama").anatomy)
