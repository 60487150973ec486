"""Flips on a model whose predictions at every state are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from planted import LENGTH, SAID, V, a_mistake, axis, constant, look, planted, rising, the_answer, value

from depthscope.analyses.decision_flips import OUTCOMES, DecisionFlips
from depthscope.analyses.settle_depth import SettleDepth
from depthscope.engine.audit import audit
from depthscope.materials.frequency import FrequencyTable, vocabulary
from depthscope.results.result import Result
from depthscope.runtime.tiny import PlainTokenizer, tiny

FREQUENT, FAVOURITE, EDGES = 3, 31, (4, 20)
TOKENS = np.concatenate([np.arange(4 + 3 * k, 4 + 3 * k + LENGTH - 2) for k in range(10)])
"""The current tokens of all positions that are decoded in ten rising texts."""
TEXTS = [
    f"{n} herons flew over the {what}, then {n * n} more."
    for n, what in enumerate(["sea", "fen", "hill"] * 4)
]


def table(path: Path) -> str:
    """The favourite is most frequent, then ids in their order."""
    counts = np.arange(V, 0, -1, dtype=np.int64)
    counts[FAVOURITE] = 1000
    FrequencyTable(counts, vocabulary(PlainTokenizer(V))[0], "a planted corpus").save(path)
    return str(path)


def bucket(ids: np.ndarray) -> np.ndarray:
    """By rank: the favourite 1, smaller ids one more than they had, larger ones as they were."""
    ranks = np.where(ids == FAVOURITE, 1, np.where(ids < FAVOURITE, ids + 2, ids + 1))
    return np.digitize(ranks, (4.5, 20.5))


def revised(tmp_path: Path) -> Result:
    """State 0: the current token; 1, 2: one rare-or-not constant; 3, 4: the answer; 5, 6: a mistake."""
    writes = {0: constant(axis(SAID.start + FREQUENT, 5.0)), 2: the_answer(20.0), 4: a_mistake(60.0)}
    asked = DecisionFlips(positions=10**6, table=table(tmp_path / "t.npz"), edges=EDGES)
    return look(planted(writes), asked, tmp_path, rising())


def test_flips_are_sorted_by_the_bucket_of_the_early_guess(tmp_path: Path) -> None:
    found = revised(tmp_path)["flip_rate"]
    assert found.axes["bucket"].tolist() == ["1-4", "5-20", "rest", "all"]
    # the constant has rank 5; nothing else is said at states 1 and 2
    np.testing.assert_array_equal(found.value[1:3], [[np.nan, 1, np.nan, 1]] * 2)
    np.testing.assert_array_equal(found.n_items[1], [0, len(TOKENS), 0, len(TOKENS)])
    np.testing.assert_array_equal(found.n[1], [0, 10, 0, 10])
    assert "no guess" in found.missing
    np.testing.assert_array_equal(found.value[[0, 3, 4], -1], 1)
    np.testing.assert_array_equal(found.value[5:, -1], 0)
    np.testing.assert_array_equal(found.n_items[:, :-1].sum(1), found.n_items[:, -1])


def test_transitions_say_where_guesses_of_a_bucket_end(tmp_path: Path) -> None:
    found = revised(tmp_path)["bucket_transition"]
    assert found.axes["transition"].tolist() == ["to 1-4", "to 5-20", "to rest"]
    final = np.bincount(bucket(TOKENS + 2), minlength=3) / len(TOKENS)
    np.testing.assert_allclose(found.value[1, 1], final)
    np.testing.assert_array_equal(found.value[1, [0, 2]], np.nan)
    np.testing.assert_allclose(found.value[5], np.eye(3))
    for k in range(3):
        ends = bucket(TOKENS[bucket(TOKENS + 1) == k] + 2)
        np.testing.assert_allclose(found.value[3, k], np.bincount(ends, minlength=3) / len(ends))


def test_outcomes_split_all_positions_by_who_was_right(tmp_path: Path) -> None:
    found = revised(tmp_path / "spoiled")
    kinds = dict(zip(OUTCOMES, value(found, "outcome").T, strict=True))
    np.testing.assert_array_equal(kinds["wrong_to_other_wrong"], [1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(kinds["right_to_wrong"], [0, 0, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(kinds["wrong_to_same_wrong"], [0, 0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(kinds["wrong_to_right"] + kinds["right_to_right"], 0)
    asked = DecisionFlips(positions=10**6)
    refined = look(planted({2: the_answer(10.0)}), asked, tmp_path / "refined", rising())
    kinds = dict(zip(OUTCOMES, value(refined, "outcome").T, strict=True))
    np.testing.assert_array_equal(kinds["wrong_to_right"], [1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(kinds["right_to_right"], [0, 0, 0, 1, 1, 1, 1])


def test_changes_and_distinct_tokens_are_counted_along_depth(tmp_path: Path) -> None:
    found = revised(tmp_path)
    assert (value(found, "changes"), value(found, "distinct_tokens")) == (3, 4)
    assert value(found, "reentry_rate") == 0
    lost = {0: the_answer(2.0), 2: a_mistake(5.0), 4: the_answer(20.0)}
    again = look(planted(lost), DecisionFlips(positions=10**6), tmp_path / "again", rising())
    assert (value(again, "changes"), value(again, "distinct_tokens")) == (3, 3)
    assert value(again, "reentry_rate") == 1


def test_chance_is_the_final_token_of_another_position(tmp_path: Path) -> None:
    found = revised(tmp_path)
    chance, n = value(found, "chance_flip_rate"), len(TOKENS)
    np.testing.assert_array_equal(chance[1, [1, 3]], 1)  # the constant is never a final token
    counts = np.bincount(TOKENS + 2)
    np.testing.assert_allclose(chance[6, -1], 1 - (counts * (counts - 1)).sum() / (n * (n - 1)))
    late = np.bincount(TOKENS + 1, minlength=len(counts))
    # at state 3 no position agrees with itself, so no pair is taken out
    np.testing.assert_allclose(chance[3, -1], 1 - (counts * late).sum() / (n * (n - 1)))
    never = value(found, "constant_flip_rate")
    np.testing.assert_allclose(never, (TOKENS + 2 != FAVOURITE).mean())


def test_all_buckets_together_flip_as_often_as_settle_depth_says(tmp_path: Path) -> None:
    asked = [SettleDepth(positions=80), DecisionFlips(positions=80, edges=(2, 8))]
    run = audit(tiny("gpt2"), asked, out=tmp_path / "run", text=TEXTS, tokens=400, window=24)
    flips = run["decision_flips"]["flip_rate"]
    for part in ("value", "low", "high", "n", "n_items"):
        found = getattr(flips.select(bucket="all"), part)
        np.testing.assert_allclose(found, getattr(run["settle_depth"]["flip_rate"], part), atol=1e-12)
    outcome = run["decision_flips"]["outcome"].value
    np.testing.assert_allclose(outcome.sum(1), 1)
    np.testing.assert_allclose(outcome[:, :3].sum(1), flips.select(bucket="all").value)
