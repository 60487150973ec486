"""The lens on models that say the answer at a known layer, and on one that says nothing new."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import LENGTH, chance, logit, look, planted, rising, text_of, the_answer, value

from depthscope.analyses.logit_lens import LogitLens
from depthscope.runtime.tiny import tiny

EXACT = 1e-6
"""The final norm of a llama computes in float32."""


def test_where_no_layer_writes_every_state_predicts_the_same(tmp_path: Path) -> None:
    result = look(planted({}), "logit_lens", tmp_path, rising())
    np.testing.assert_allclose(value(result, "kl_to_final"), 0, atol=1e-12)
    np.testing.assert_allclose(value(result, "reverse_kl_to_final"), 0, atol=1e-12)
    for name in ("top1_agreement", "top5_overlap", "median_rank"):
        np.testing.assert_array_equal(value(result, name), 1)


@pytest.mark.parametrize("writer", [0, 2, 5])
def test_the_divergence_ends_with_the_layer_that_writes_the_answer(writer: int, tmp_path: Path) -> None:
    result = look(planted({writer: the_answer(10.0)}), "logit_lens", tmp_path, rising())
    before, after = slice(0, writer + 1), slice(writer + 1, None)
    early = chance({3: logit(1, np.sqrt(2))})
    late = chance({3: logit(1, np.sqrt(102)), 4: logit(10, np.sqrt(102))})
    expected = (np.exp(late) * (late - early)).sum()
    reverse = (np.exp(early) * (early - late)).sum()
    np.testing.assert_allclose(value(result, "kl_to_final")[before], expected, rtol=EXACT)
    np.testing.assert_allclose(value(result, "reverse_kl_to_final")[before], reverse, rtol=EXACT)
    np.testing.assert_allclose(value(result, "kl_to_final")[after], 0, atol=1e-12)
    np.testing.assert_allclose(value(result, "cross_entropy")[before], -early[4], rtol=EXACT)
    np.testing.assert_allclose(value(result, "cross_entropy")[after], -late[4], rtol=EXACT)
    np.testing.assert_allclose(value(result, "entropy")[after], -(np.exp(late) * late).sum(), rtol=EXACT)
    np.testing.assert_array_equal(value(result, "top1_agreement")[before], 0)
    np.testing.assert_array_equal(value(result, "top1_agreement")[after], 1)
    np.testing.assert_array_equal(value(result, "median_rank")[after], 1)


def test_a_token_that_no_one_has_said_yet_shares_the_second_rank(tmp_path: Path) -> None:
    result = look(planted({3: the_answer(10.0)}), "logit_lens", tmp_path, rising())
    # only the current token stands above it; the other V - 2 are its equals, and ties favour it
    np.testing.assert_array_equal(value(result, "median_rank"), [2, 2, 2, 2, 1, 1, 1])


def test_the_top_five_share_what_both_states_rank_highest(tmp_path: Path) -> None:
    result = look(planted({3: the_answer(10.0)}), "logit_lens", tmp_path, [text_of([60, 61] * 12)] * 10)
    # before: the token and ids 0 to 3; after: the answer, the token and ids 0 to 2
    np.testing.assert_allclose(value(result, "top5_overlap"), [0.8, 0.8, 0.8, 0.8, 1, 1, 1])


def test_strips_show_the_five_likeliest_tokens_of_every_state(tmp_path: Path) -> None:
    model = planted({3: the_answer(10.0)})
    result = look(model, LogitLens(strips=2, strip_tokens=5), tmp_path, rising())
    table = result.findings.examples["strips"].columns
    assert len(table["k"]) == 2 * 5 * 7 * 5
    best = (table["k"] == 1) & (table["state"] == 6)
    assert (table["prediction"][best] == table["target"][best]).all()
    first = (table["k"] == 1) & (table["state"] == 0)
    assert (table["prediction"][first] == table["token"][first]).all()
    late = np.exp(chance({3: logit(1, np.sqrt(102)), 4: logit(10, np.sqrt(102))}))
    np.testing.assert_allclose(table["probability"][best], late[4], rtol=1e-5)
    assert set(table["position"]) == {1, 2, 3, 4, 5}


def test_position_zero_and_the_last_one_are_left_out(tmp_path: Path) -> None:
    result = look(planted({}), LogitLens(positions=10**6), tmp_path, rising())
    assert result["kl_to_final"].n_items is not None
    assert result["kl_to_final"].n_items.tolist() == [10 * (LENGTH - 2)] * 7
    assert result["kl_to_final"].n is not None
    assert result["kl_to_final"].n.tolist() == [10] * 7


def test_random_weights_are_far_from_final_until_the_end(tmp_path: Path) -> None:
    model = tiny("llama", torch.float32)
    result = look(
        model, "logit_lens", tmp_path, [f"text number {k} of the negative control" for k in range(9)]
    )
    kl = value(result, "kl_to_final")
    assert (kl[:-1] > 0.01).all()
    assert abs(kl[-1]) < 1e-6
    assert value(result, "top1_agreement")[0] < 0.5
