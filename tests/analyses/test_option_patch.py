"""Option patch on a model whose last position asks the first one at known layers, and against blocks run by hand."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from formulas import Plain
from planted import SAID, TOKEN, look, planted, rising, value
from torch import Tensor, nn

from depthscope.analyses.option_patch import OptionPatch
from depthscope.errors import Refused
from depthscope.results.result import Result
from depthscope.runtime import patch
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

Q, R, LETTER_A, NEGATIVE = 23, 24, 7, 52
"""Ids of the characters that questions and reviews begin with, and of an answer to each, under the plain tokenizer."""


class Asking(nn.Module):
    """In attention's place: the last position says the answer of the prompt that the first position begins."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, hidden_states: Tensor, **_: object) -> tuple[Tensor, None]:
        first = hidden_states[:, 0, TOKEN].argmax(-1)
        answer = torch.where(first == Q, LETTER_A, NEGATIVE)
        written = torch.zeros_like(hidden_states)
        written[torch.arange(len(first)), -1, SAID.start + answer] = self.strength
        return written, None


def asking(**strength: float) -> Model:
    model = planted({})
    for layer, size in strength.items():
        model.net.model.layers[int(layer[1:])].self_attn = Asking(size)  # type: ignore[union-attr, operator]
    return model


def looked(model: Model, folder: Path) -> Result:
    # such attention keeps no keys and values, so whole prompts are run
    with mock.patch.object(patch, "_from_cache", patch._from_stairs):
        return look(model, OptionPatch(pairs=9, shots=0), folder, rising())


def test_the_output_changes_over_behind_the_layer_that_gathers_the_answer(tmp_path: Path) -> None:
    result = looked(asking(L2=10.0), tmp_path)
    share = value(result, "output_share")
    np.testing.assert_array_equal(share[:, 0], np.arange(7) <= 2)
    np.testing.assert_array_equal(share[:, 1], np.arange(7) >= 3)
    np.testing.assert_array_equal(share[:, 2], 0)
    assert value(result, "donor_answers") == value(result, "target_answers") == 1
    for name in ("transition", "transition_median", "lens_transition", "lens_transition_median"):
        assert value(result, name) == 3
    assert value(result, "lens_later") == 0
    assert result["transition"].n == 9


def test_a_layer_that_repairs_the_patch_delays_the_transition_but_not_the_lens(tmp_path: Path) -> None:
    result = looked(asking(L1=10.0, L4=20.0), tmp_path)
    assert value(result, "transition") == 5
    assert value(result, "lens_transition") == 2
    assert value(result, "lens_later") == -3
    mass = value(result, "output_mass")
    np.testing.assert_allclose(mass.sum(1), 1)
    assert (np.diff(mass[:, 1]) >= -1e-12).all()


def test_without_an_answer_of_the_donor_there_is_no_transition(tmp_path: Path) -> None:
    result = looked(planted({}), tmp_path)
    assert value(result, "donor_answers") == 0
    assert np.isnan(value(result, "transition"))
    assert result["transition"].missing == "insufficient: 0 pairs where 8 are needed"
    np.testing.assert_array_equal(value(result, "output_share")[:, 2], 1)


def test_outputs_are_those_of_blocks_run_by_hand(tmp_path: Path) -> None:
    model = tiny("llama", max_position_embeddings=512)
    analysis = OptionPatch(pairs=3, shots=0)
    result = look(model, analysis, tmp_path, rising())
    plain = Plain(model.net, "llama")
    masses = []
    for window in analysis.needs(model.anatomy).material.windows(model, 0).items:  # type: ignore[union-attr]
        target, donor = plain.run(window.ids).states, plain.run(window.about["donor"]).states
        for s in range(5):
            stream = target[s].clone()
            stream[-1] = donor[s][-1]
            for layer in range(s, 4):
                with torch.no_grad():
                    stream = stream + plain.attend(layer, stream)[0]
                    stream = stream + plain.mlp(layer, stream)
            p = torch.softmax(plain.logits(stream[-1]), -1)
            sets = window.about["target_options"], window.about["donor_options"]
            masses.append([float(p[ids].sum()) for ids in sets])
    expected = np.array(masses).reshape(3, 5, 2).mean(0)
    np.testing.assert_allclose(value(result, "output_mass")[:, :2], expected, rtol=1e-6)


def test_encoders_are_refused() -> None:
    with pytest.raises(Refused, match="a patched last position changes all others too"):
        OptionPatch().needs(tiny("bert").anatomy)
