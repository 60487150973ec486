"""Task scores: a label that stands at one state only is read there only; draws are shared; gaps are counted."""

from __future__ import annotations

import numpy as np
import pytest

from depthscope.engine.task_scores import METRICS, Scored, scored
from depthscope.errors import BadInput, UnknownName
from depthscope.materials.labelled import Labelled, labelled


def classes(n: int = 60, k: int = 3) -> Labelled:
    return labelled("task", [{"text": f"text {i}", "label": i % k} for i in range(n)])


def told_at(task: Labelled, state: int, states: int = 3, d: int = 6) -> np.ndarray:
    """Noise, with the label as a direction at one state."""
    vectors = np.random.default_rng(0).normal(size=(states, len(task.texts), d)).astype(np.float32)
    for item in task.items:
        vectors[state, item.texts[0], int(item.gold)] += 6
    return vectors


def by_name(found: tuple[Scored, ...]) -> dict[str, Scored]:
    return {each.metric: each for each in found}


def test_a_label_is_read_at_the_state_that_holds_it_and_at_no_other() -> None:
    task = classes()
    found = by_name(scored(task, told_at(task, 1), draws=3))
    assert tuple(found) == METRICS["classification"]
    for metric in ("few_shot", "ridge", "knn"):
        score = found[metric].score()
        assert score[1] > 0.95, metric
        assert max(score[0], score[2]) < 0.55, metric
    agreement = found["v_measure"].score()
    assert agreement[1] > 0.8 > 0.3 > max(agreement[0], agreement[2])


def test_all_states_see_the_same_examples_and_the_same_draws_of_items() -> None:
    task = classes(24)
    vectors = told_at(task, 0, states=2)
    vectors[1] = vectors[0]
    for each in scored(task, vectors, draws=3):
        drawn = each.drawn(50, 1)
        np.testing.assert_array_equal(drawn[:, 0], drawn[:, 1])
        np.testing.assert_allclose(drawn.mean(0), each.score())


def test_an_item_counts_only_in_the_draws_in_which_it_was_no_example() -> None:
    task = classes(12, 2)
    (found,) = scored(task, told_at(task, 0, 1), ["few_shot"], shots=5, draws=2)
    # 10 of 12 items are examples in each of two draws: 2 to 4 items are ever tested
    assert 2 <= np.isfinite(found.values).sum() <= 4


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error_says() -> None:
    values = (np.arange(400) % 4 == 0).astype(float)[None]
    drawn = Scored("knn", values, np.zeros(400)).drawn(2000, 0)
    assert drawn.std() == pytest.approx(np.sqrt(0.25 * 0.75 / 400), rel=0.06)


def test_the_interval_of_cluster_agreement_holds_the_score_it_belongs_to() -> None:
    draw = np.random.default_rng(0)
    found = Scored("v_measure", draw.integers(0, 20, (1, 100)).astype(float), draw.integers(0, 20, 100))
    low, high = np.quantile(found.drawn(300, 0), [0.025, 0.975])
    assert low < found.score()[0] < high


def test_pairs_are_scored_by_their_cosines() -> None:
    rows = [
        {"text_a": "a", "text_b": name, "score": s} for name, s in (("b", 5), ("c", 3), ("d", 1), ("e", 0))
    ]
    task = labelled("sts", rows)
    angles = np.radians([0, 10, 40, 70, 90])
    near = np.stack([np.cos(angles), np.sin(angles)], 1)
    mixed = near[[0, 4, 3, 2, 1]]
    (found,) = scored(task, np.stack([near, mixed, 7 * near]).astype(np.float32))
    np.testing.assert_allclose(found.score(), [1, -1, 1])
    pairs = labelled(
        "pair", [{"text_a": "a", "text_b": r["text_b"], "label": int(float(r["score"]) > 2)} for r in rows]
    )
    (found,) = scored(pairs, np.stack([near, mixed]).astype(np.float32))
    np.testing.assert_allclose(found.score(), [1, (1 / 3 + 2 / 4) / 2])


def test_queries_are_scored_over_all_candidates_and_over_their_own() -> None:
    rows = [
        {"query": "q", "positives": ["p"], "negatives": ["n"]},
        {"query": "r", "positives": ["s"], "negatives": ["n"]},
    ]
    task = labelled("find", rows)
    degrees = {"q": 0, "p": 20, "n": 50, "r": 30, "s": 45}
    angles = np.radians([degrees[text] for text in task.texts])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)[None]
    found = by_name(scored(task, vectors))
    # q finds p first; r (at 30) finds p (20) before s (45), and s before n (50)
    np.testing.assert_allclose(found["ndcg"].values[0], [1, 1 / np.log2(3)])
    np.testing.assert_allclose(found["map"].values[0], [1, 1])
    np.testing.assert_allclose(found["mrr"].values[0], [1, 1])


def test_a_state_that_is_not_finite_has_no_score_and_the_others_keep_theirs() -> None:
    task = classes(24)
    vectors = told_at(task, 1)
    whole = {each.metric: each.score() for each in scored(task, vectors, draws=2)}
    vectors[2, 5, 0] = np.nan
    for each in scored(task, vectors, draws=2):
        np.testing.assert_array_equal(np.isnan(each.score()), [False, False, True])
        np.testing.assert_allclose(each.score()[:2], whole[each.metric][:2])


def test_zero_vectors_of_empty_texts_have_defined_scores() -> None:
    task = classes(24)
    for each in scored(task, np.zeros((1, 24, 4), np.float32), draws=2):
        assert np.isfinite(each.score()).all(), each.metric
    sts = labelled(
        "sts", [{"text_a": "", "text_b": "b", "score": 1}, {"text_a": "", "text_b": "c", "score": 2}]
    )
    (found,) = scored(sts, np.zeros((1, 3, 4), np.float32))
    assert np.isnan(found.score()).all()  # all cosines are 0: there is no order to compare


def test_what_cannot_be_scored_is_refused_with_what_was_found() -> None:
    task = classes(24)
    with pytest.raises(BadInput, match="24 texts, but 5 vectors"):
        scored(task, np.zeros((1, 5, 4), np.float32))
    with pytest.raises(UnknownName, match="few_shot"):
        scored(task, np.zeros((1, 24, 4), np.float32), ["fewshot"])
    single = labelled("rare", [{"text": f"{k}", "label": "b" if k else "lonely"} for k in range(9)])
    with pytest.raises(BadInput, match=r"1 of 2 labels have a single item \(lonely\)"):
        scored(single, np.zeros((1, 9, 4), np.float32))
