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


def test_depths_of_convergence_are_told_once_and_for_good(tmp_path: Path) -> None:
    # the answer at layer 1, taken back at layer 3, said again at layer 5 of 7
    writes = {1: the_answer(10.0), 3: the_answer(-10.0), 5: the_answer(10.0)}
    result = look(planted(writes, 7), "logit_lens", tmp_path, rising())
    depth = result["convergence_depth"]
    for variant in depth.axes["variant"]:
        held = depth.select(variant=variant)
        assert held.select(mode="maximum").value.tolist() == [2, 6]
        # at state 2 the answer is there already, so nothing but the final prediction is at half of that
        assert held.select(mode="state_2", definition="stable").value == pytest.approx(6, abs=1)
        assert held.select(mode="maximum").low.tolist() == [2, 6]  # type: ignore[union-attr]
    assert result["overlap_depth"].value.tolist() == [0, 0]
    np.testing.assert_array_equal(result["overlap_censored"].value, 0)
    jsd, shared = value(result, "jsd_to_final"), value(result, "shared_mass")
    early = chance({3: logit(1, np.sqrt(2))})
    late = chance({3: logit(1, np.sqrt(102)), 4: logit(10, np.sqrt(102))})
    p, q = np.exp(late), np.exp(early)
    expected = ((p * np.log(2 * p / (p + q))).sum() + (q * np.log(2 * q / (p + q))).sum()) / 2
    np.testing.assert_allclose(jsd, [*[expected] * 2, 0, 0, *[expected] * 2, 0, 0], rtol=EXACT, atol=1e-12)
    np.testing.assert_allclose(shared[0], np.minimum(p, q).sum(), rtol=EXACT)


def test_a_prediction_of_the_last_layer_is_censored(tmp_path: Path) -> None:
    result = look(planted({5: the_answer(10.0)}), "logit_lens", tmp_path, rising())
    assert (result["convergence_depth"].value == 6).all()
    assert (result["convergence_censored"].value == 1).all()


def test_without_positions_for_it_there_is_no_jensen_shannon_divergence(tmp_path: Path) -> None:
    result = look(planted({2: the_answer(10.0)}), LogitLens(jsd_positions=0), tmp_path, rising())
    assert np.isnan(value(result, "jsd_to_final")).all()
    assert result["shared_mass"].missing == "jsd_positions is 0"
    assert np.isnan(result["convergence_depth"].select(variant="jsd_to_final").value).all()
    assert np.isfinite(result["convergence_depth"].select(variant="kl_to_final").value).all()
