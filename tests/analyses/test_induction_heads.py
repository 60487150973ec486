"""Induction scores of heads written by hand, by an independent computation, and on random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import look
from wired_heads import planted_heads

from depthscope.analyses.induction_heads import InductionHeads
from depthscope.errors import BadInput, Refused
from depthscope.materials.repeats import Repeats
from depthscope.results.result import Result
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

TEXTS = [f"text number {k} of as many tokens" for k in range(9)]
L, SHORT, N = 20, 10, 3
ANALYSIS = InductionHeads(L, SHORT, N)
INDUCTION, TWIN, COPY, UNIFORM = (1, 0), (0, 1), (1, 2), (1, 1)
PLANTED = {(0, 0): "previous", INDUCTION: "induction", TWIN: "duplicate"}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return look(planted_heads(PLANTED), ANALYSIS, tmp_path_factory.mktemp("pair"), TEXTS)


def score(result: Result, name: str, head: tuple[int, int]) -> float:
    return float(result[name].value[head])


def test_the_induction_head_is_found_by_every_score_and_no_other_head_is(result: Result) -> None:
    for name in ("prefix_matching", "induction", "induction_argmax"):
        # the wired head takes its own last number for no token, and one block holds that id
        assert score(result, name, INDUCTION) == pytest.approx(1, abs=0.02)
        others = result[name].value.copy()
        others[INDUCTION] = 0
        assert others.max() < 0.2
    for name in ("duplicate", "echo"):
        assert score(result, name, INDUCTION) == pytest.approx(0, abs=1e-6)


def test_a_head_on_equal_tokens_shares_its_mass_over_their_copies(result: Result) -> None:
    assert score(result, "duplicate", TWIN) == pytest.approx(1 / 2, abs=1e-6)
    assert score(result, "echo", TWIN) == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3, abs=1e-6)
    assert score(result, "induction", TWIN) == pytest.approx(0, abs=1e-6)


def test_uniform_attention_has_one_over_the_visible_keys(result: Result) -> None:
    # rows of the second copy but its last, behind one BOS token
    rows = np.arange(1 + L, 2 * L)
    assert score(result, "induction", UNIFORM) == pytest.approx((1 / (rows + 1)).mean())
    assert score(result, "induction_argmax", UNIFORM) <= 1 / 10


def test_heads_that_say_what_they_see_copy_and_silent_ones_have_no_score(tmp_path: Path) -> None:
    result = look(planted_heads({COPY: "copy"}), InductionHeads(6, 4, 1), tmp_path, TEXTS)
    for name in ("copying", "own_share", "ov_eigenvalue"):
        assert score(result, name, COPY) == pytest.approx(1, abs=1e-6)
        assert np.isnan(score(result, name, UNIFORM))
    assert score(result, "induction", COPY) == score(result, "induction", UNIFORM)


def test_the_pair_predicts_the_second_copy_and_nothing_of_the_first(result: Result) -> None:
    first, second = (result[f"{which}_copy_loss"].scalar() for which in ("first", "second"))
    assert second < 0.01 < 1 < first
    assert result["second_copy_accuracy"].scalar() == 1
    by_position = result["loss"]
    assert by_position.axes["position"].tolist() == list(range(2 * L))
    assert by_position.value[L + 1 :].mean() == pytest.approx(second)
    assert by_position.value[1:L].mean() == pytest.approx(first)
    assert by_position.n is not None
    assert by_position.n.tolist() == [N] * (2 * L)


def test_scores_are_those_of_the_models_own_attention_maps(tmp_path: Path) -> None:
    model = tiny("llama", torch.float64)
    asked = InductionHeads(6, 4, 2)
    result = look(model, asked, tmp_path, TEXTS)
    windows = Repeats(6, 4, 2).windows(model, 0).items
    maps: dict[str, list[np.ndarray]] = {"induction": [], "prefix_matching": []}
    for window in windows:
        model.net.set_attn_implementation("eager")  # type: ignore[operator]
        seen = model.net(torch.tensor([window.ids]), output_attentions=True).attentions
        attention = torch.stack(seen)[:, 0].detach().numpy()
        n, copies = window.about["length"], window.about["copies"]
        if copies == 2:
            rows = [attention[:, :, i, i - n + 1] for i in range(1 + n, 2 * n)]
            maps["induction"].append(np.mean(rows, 0))
        else:
            rows = [
                sum(attention[:, :, i, j + 1] for j in range(1, i) if window.ids[j] == window.ids[i])
                for i in range(1 + n, 1 + 4 * n)
            ]
            maps["prefix_matching"].append(np.mean(rows, 0))
    for name, expected in maps.items():
        np.testing.assert_allclose(result[name].value, np.mean(expected, 0), atol=1e-6)


def test_random_weights_have_no_induction_head(tmp_path: Path) -> None:
    result = look(tiny("gpt2", torch.float32), ANALYSIS, tmp_path, TEXTS)
    assert result["induction"].value.max() < 0.2
    assert abs(result["second_copy_loss"].scalar() - result["first_copy_loss"].scalar()) < 0.5


def test_a_window_shorter_than_the_block_leaves_scores_missing_not_zero(tmp_path: Path) -> None:
    model: Model = tiny("gemma2", torch.float32)
    result = look(model, ANALYSIS, tmp_path, TEXTS)
    local = [w is not None for w in model.anatomy.window_of_layer]
    np.testing.assert_array_equal(np.isnan(result["induction"].value).all(1), local)
    assert "window" in result["induction"].missing


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"no layer has softmax attention heads \(its layers are: ssm\)"):
        look(tiny("mamba"), ANALYSIS, tmp_path, TEXTS)
    with pytest.raises(Refused, match="no causal language model"):
        look(tiny("bert"), ANALYSIS, tmp_path, TEXTS)
    with pytest.raises(BadInput, match="both blocks are needed"):
        look(tiny("llama"), InductionHeads(length=0), tmp_path, TEXTS)
