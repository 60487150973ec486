"""Onsets and flips on models that say, take back and say again at known layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import LENGTH, TOKEN, V, a_mistake, look, planted, rising, says, the_answer, value
from torch import Tensor

from depthscope.analyses.settle_depth import SettleDepth
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

EVERYWHERE = SettleDepth(positions=10**6)


def depths(model: Model, out: Path) -> dict[str, float]:
    result = look(model, EVERYWHERE, out, rising())
    return {name: float(value(result, name)) for name in ("first", "stable", "persistent")}


@pytest.mark.parametrize("writer", [0, 2, 4])
def test_a_prediction_settles_at_the_state_after_the_layer_that_writes_it(
    writer: int, tmp_path: Path
) -> None:
    result = look(planted({writer: the_answer(10.0)}), EVERYWHERE, tmp_path, rising())
    for name in ("first", "stable", "persistent"):
        assert value(result, name) == writer + 1
        assert value(result, f"{name}_median") == writer + 1
        assert value(result, f"{name}_censored") == 0
        np.testing.assert_array_equal(value(result, f"{name}_histogram"), np.arange(7) == writer + 1)
    np.testing.assert_array_equal(value(result, "flip_rate"), np.arange(7) <= writer)


def test_what_is_never_overturned_settles_at_state_zero(tmp_path: Path) -> None:
    assert depths(planted({}), tmp_path) == {"first": 0, "stable": 0, "persistent": 0}


def test_what_comes_with_the_last_layer_is_counted_as_censored(tmp_path: Path) -> None:
    result = look(planted({5: the_answer(10.0)}), EVERYWHERE, tmp_path, rising())
    for name in ("first", "stable", "persistent"):
        assert value(result, name) == 6
        assert value(result, f"{name}_censored") == 1


def test_a_right_guess_that_is_lost_and_regained_is_first_early_and_stable_late(tmp_path: Path) -> None:
    # right at states 1 and 2, overturned at 3 and 4, right again from 5 on
    lost = {0: the_answer(2.0), 2: a_mistake(5.0), 4: the_answer(20.0)}
    result = look(planted(lost), EVERYWHERE, tmp_path, rising())
    assert (value(result, "first"), value(result, "persistent"), value(result, "stable")) == (1, 1, 5)
    np.testing.assert_array_equal(value(result, "flip_rate"), [1, 0, 0, 1, 1, 0, 0])


def test_a_single_hit_is_first_but_not_persistent(tmp_path: Path) -> None:
    once = {0: the_answer(2.0), 1: a_mistake(5.0), 3: the_answer(20.0)}
    assert depths(planted(once), tmp_path) == {"first": 1, "persistent": 4, "stable": 4}


def test_a_mixture_of_two_depths_is_a_histogram_with_two_bars(tmp_path: Path) -> None:
    even = torch.zeros(V, dtype=torch.float64)
    even[::2] = 1

    def early(x: Tensor) -> Tensor:
        return the_answer(10.0)(x) * (x[..., TOKEN] * even).sum(-1, keepdim=True)

    result = look(planted({0: early, 3: the_answer(10.0)}), EVERYWHERE, tmp_path, rising(step=2))
    ids = np.concatenate([np.arange(4 + 2 * k, 4 + 2 * k + LENGTH - 2) for k in range(10)])
    share = float((ids % 2 == 0).mean())
    np.testing.assert_allclose(value(result, "stable_histogram"), [0, share, 0, 0, 1 - share, 0, 0])
    np.testing.assert_allclose(value(result, "stable"), share + 4 * (1 - share))
    np.testing.assert_allclose(value(result, "stable_median"), np.median(np.where(ids % 2 == 0, 1, 4)))


def test_what_all_layers_repeat_settles_where_it_was_first_said(tmp_path: Path) -> None:
    assert depths(planted({k: the_answer(3.0) for k in range(1, 6)}), tmp_path)["stable"] == 2
    backwards = planted({3: says(lambda t: t, 50.0)})
    assert depths(backwards, tmp_path / "same")["first"] == 0


def test_random_weights_do_not_settle_early(tmp_path: Path) -> None:
    texts = [f"text number {k} of the negative control" for k in range(9)]
    result = look(tiny("llama", torch.float32), EVERYWHERE, tmp_path, texts)
    assert float(value(result, "stable")) > 2
    assert (
        float(value(result, "first")) <= float(value(result, "persistent")) <= float(value(result, "stable"))
    )
