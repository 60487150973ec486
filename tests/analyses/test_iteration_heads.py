"""Iteration heads: wired by hand their stripes, accuracies and losses are known; plain rows give the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import look, rising, value
from wired_heads import SHARP, planted_heads

from depthscope.analyses.iteration_heads import IterationHeads
from depthscope.errors import BadInput, Refused
from depthscope.materials.iteration import IterationPrompts
from depthscope.results.result import Result
from depthscope.runtime.load import load
from depthscope.runtime.model import Model
from depthscope.runtime.positions import moved_position, position_table
from depthscope.runtime.tiny import tiny

LENGTH, SIZE = 4, 64
ASKED = IterationHeads(lengths=(LENGTH,), sequences=6)


def copying() -> Model:
    """Head (0, 1) rests on the end word, head (1, 2) looks LENGTH places back and says what it sees."""
    model = planted_heads({})
    model.config.iteration = {"task": "copy"}
    one, width = torch.eye(SIZE, dtype=torch.float64), 4 * SIZE
    token, position, said = (slice(k * SIZE, (k + 1) * SIZE) for k in range(3))
    end = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    end[:, LENGTH + 1] = 1
    with torch.no_grad():
        for layer, head, where in ((0, 1, end), (1, 2, one.roll(-LENGTH, 1))):
            attn = model.net.transformer.h[layer].attn  # type: ignore[union-attr, index]
            mine = slice(head * SIZE, (head + 1) * SIZE)
            weight = attn.c_attn.weight
            weight[:, :width][:, mine][position] = SHARP * SIZE**0.5 * where
            weight[:, width : 2 * width][:, mine][position] = one
            if layer:
                weight[:, 2 * width :][:, mine][token] = one
                attn.c_proj.weight[mine][:, said] = 10 * one
    return model


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return look(copying(), ASKED, tmp_path_factory.mktemp("copy"), rising())


def test_the_wired_heads_have_full_stripes_and_no_other_head_has_one(found: Result):
    for name, place in (("input_share", (1, 2)), ("end_share", (0, 1))):
        share = value(found, name).copy()
        assert share[place] == 1
        share[place] = 0
        if name == "end_share":
            # LENGTH places before the last step stands the end word
            assert share[1, 2] == 1 / LENGTH
            share[1, 2] = 0
        np.testing.assert_array_equal(share, 0)
    assert value(found, "input_weight")[1, 2] == pytest.approx(1)
    assert value(found, "input_same")[1, 2] == pytest.approx(1)
    # a head that attends to all alike gives the row of step t, at position L + t, a weight of 1 / (L + t + 1)
    uniform = np.mean([1 / (LENGTH + t + 1) for t in range(1, LENGTH + 1)])
    assert value(found, "input_weight")[0, 0] == pytest.approx(uniform)


def test_sequences_are_right_with_the_head_and_wrong_without_it_and_no_other_matters(found: Result):
    assert value(found, "accuracy") == value(found, "step_accuracy") == 1
    without = value(found, "ablated_accuracy").copy()
    assert without[1, 2, 0] == 0
    without[1, 2] = 1
    np.testing.assert_array_equal(without, 1)
    np.testing.assert_array_equal(value(found, "mlp_ablated_accuracy"), 1)


def test_a_head_that_goes_by_its_own_position_does_not_follow_a_moved_end_word(found: Result):
    np.testing.assert_allclose(value(found, "shifted_weight")[1, 2], [1, 0, 0], atol=1e-9)


def test_the_number_of_a_step_is_read_where_positions_are_in_the_stream(found: Result):
    # one length only, so the position alone is the number of the step
    assert value(found, "position_r2")[0] > 0.7


def test_the_packaged_network_has_an_iteration_head_and_needs_it(tmp_path: Path):
    result = look(
        load("iteration-polynomial"), IterationHeads(lengths=(4,), sequences=16), tmp_path, ["3 4 = " * 6] * 9
    )
    share = value(result, "input_share")
    place = np.unravel_index(share.argmax(), share.shape)
    assert place[0] == 1
    assert share[place] > 0.9
    assert value(result, "accuracy") > 0.8
    assert value(result, "ablated_accuracy")[(*place, 0)] < 0.2


def test_weights_of_text_are_those_of_rows_that_the_library_returns(tmp_path: Path):
    model = tiny("llama")
    asked = IterationHeads("copy", (3,), 2, shots=1)
    result = look(model, asked, tmp_path, rising())
    model.net.set_attn_implementation("eager")
    expected = []
    for window in IterationPrompts("copy", (3,), 2, 1).windows(model, 0).items:
        first, end = window.about["first"], window.about["end"]
        rows = model.net(torch.tensor([window.ids]), output_attentions=True).attentions
        expected.append(
            [
                [[float(layer[0, h, end + t, first + t].detach()) for t in range(3)] for h in range(4)]
                for layer in rows
            ]
        )
    np.testing.assert_allclose(value(result, "input_weight"), np.mean(expected, axis=(0, 3)), rtol=1e-6)
    assert "ablated one by one only where there are few" in result["ablated_accuracy"].missing
    assert "only where a table of positions is learned" in result["shifted_weight"].missing


def test_models_without_heads_or_steps_and_positions_without_a_table_are_refused():
    with pytest.raises(Refused, match="no layer has softmax attention heads"):
        ASKED.needs(tiny("mamba").anatomy)
    with pytest.raises(Refused, match="writes no steps"):
        ASKED.needs(tiny("bert").anatomy)
    with pytest.raises(BadInput, match="few=-1"):
        IterationHeads(few=-1)
    assert position_table(tiny("llama")) is None
    with pytest.raises(BadInput, match="position 3 cannot be moved by 200"):
        moved_position(tiny("gpt2"), 3, 200, 5)
