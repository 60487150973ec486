"""Integrated gradients on a model that moves the answer at one layer, and against a path walked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from formulas import Plain, sinks_of
from planted import SAID, TOKEN, look, planted, rising, value
from torch import Tensor, nn

from depthscope.analyses.integrated_gradients import IntegratedGradients
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.runtime.tiny import tiny


class Copying(nn.Module):
    """In attention's place: every later position says what stands at one place."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place

    def forward(self, hidden_states: Tensor, **_: object) -> tuple[Tensor, None]:
        written = torch.zeros_like(hidden_states)
        written[:, self.place + 1 :, SAID] = 3.0 * hidden_states[:, self.place, None, TOKEN]
        return written, None


def asked(folder: Path, *rows: tuple[str, str]) -> str:
    path = folder / "asked.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "answer": a}) + "\n" for p, a in rows))
    return str(path)


def test_the_question_hands_over_at_the_layer_that_copies_the_answer(tmp_path: Path) -> None:
    model = planted({})
    model.net.model.layers[2].self_attn = Copying(1)  # type: ignore[union-attr, operator]
    source = asked(tmp_path, ("aK M bcd", "K"), ("eN I fgh", "N"))
    result = look(model, IntegratedGradients(source, sublayers=("block",)), tmp_path, rising())
    assert value(result, "handover")[0] == 2
    maps = result.findings.examples["maps"].to_dataframe()
    block = maps[maps.sublayer == "block"].groupby(["layer", "position"]).attribution.mean().unstack()
    assert (block.loc[:1, 1] > 0.05).all()
    np.testing.assert_allclose(block.loc[2:].drop(columns=8), 0, atol=1e-12)
    assert (result["incomplete"].select(sublayer="block").value == 0).all()
    sums, whole = (result[name].select(sublayer="block").value for name in ("attribution", "difference"))
    np.testing.assert_allclose(sums.sum(-1), whole, rtol=0.021, atol=1e-3)


@pytest.mark.parametrize("mode", ["robust", "paper"])
def test_attributions_are_those_of_a_path_walked_by_hand(tmp_path: Path, mode: str) -> None:
    model = tiny("llama", num_hidden_layers=2)
    ids = model.tokenizer.encode("ab cd ef")
    source = asked(tmp_path, ("ab cd", "ef"))
    result = look(model, IntegratedGradients(source, mode=mode, steps=6, cap=6), tmp_path, rising())
    maps = (
        result.findings.examples["maps"]
        .to_dataframe()
        .set_index(["layer", "sublayer", "position"])
        .sort_index()
    )
    plain = Plain(model.net, "llama")
    seen = plain.run(ids[:-1])
    still = torch.tensor(sinks_of(seen)) if mode == "robust" else torch.zeros(len(ids) - 1, dtype=torch.bool)
    places = (torch.arange(6) + (0.5 if mode == "robust" else 0)) / 6

    def target(stream: Tensor, layer: int) -> Tensor:
        for k in range(layer + 1, 2):
            stream = stream + plain.attend(k, stream)[0]
            stream = stream + plain.mlp(k, stream)
        normed = plain.base.norm(stream) @ model.net.lm_head.weight.T  # type: ignore[union-attr, operator]
        return torch.softmax(normed, -1)[[-2, -1], ids[-2:]].sum()

    def through(layer: int, sublayer: str, moved: Tensor) -> Tensor:
        start = seen.states[layer]
        if sublayer == "attention":
            return target(start + moved + plain.mlp(layer, start + moved), layer)
        mixed = start + plain.attend(layer, start)[0]
        return target(moved if sublayer == "block" else mixed + moved, layer)

    for layer in range(2):
        values = {"attention": seen.attention[layer], "block": seen.states[layer + 1], "mlp": seen.mlp[layer]}
        for sublayer, end in values.items():
            start = torch.where(still[:, None], end, end[~still].mean(0))
            slopes = torch.zeros_like(end)
            for at in places:
                point = (start + at * (end - start)).detach().requires_grad_()
                slopes += torch.autograd.grad(through(layer, sublayer, point), point)[0]
            expected = (slopes / 6 * (end - start)).sum(-1)
            found = maps.loc[(layer, sublayer), "attribution"]
            np.testing.assert_allclose(found, expected.detach(), rtol=1e-5, atol=1e-9)
            with torch.no_grad():
                difference = float(through(layer, sublayer, end) - through(layer, sublayer, start))
            assert result["difference"].at(layer=layer, sublayer=sublayer) == pytest.approx(
                difference, rel=1e-5
            )


def test_too_few_steps_are_told_cell_by_cell(tmp_path: Path) -> None:
    source = asked(tmp_path, ("ab cd", "ef"))
    analysis = IntegratedGradients(source, sublayers=("block",), steps=1, cap=1, mode="paper")
    result = look(tiny("llama"), analysis, tmp_path, rising())
    bad = result["incomplete"].select(sublayer="block").value
    assert bad.sum() > 0
    assert result.findings.notes[0].startswith(f"{int(bad.sum())} of 4 paths are incomplete")
    assert np.isnan(result["steps"].select(sublayer="mlp").value).all()
    maps = result.findings.examples["maps"].to_dataframe()
    np.testing.assert_array_equal(maps.groupby("layer").incomplete.first(), bad == 1)


def test_a_layer_by_itself_leaves_the_model_and_the_other_layers_as_they_were(tmp_path: Path) -> None:
    model = tiny("llama", num_hidden_layers=2)
    result = look(
        model,
        IntegratedGradients(asked(tmp_path, ("ab", "c")), layers=(1,), steps=2, cap=2),
        tmp_path,
        rising(),
    )
    assert all(p.requires_grad and p.grad is None for p in model.net.parameters())
    np.testing.assert_array_equal(np.isnan(value(result, "difference")).all(1), [True, False])
    assert value(result, "handover")[0] in (1, 2)


def test_wrong_parameters_and_encoders_are_refused() -> None:
    for wrong, said in (
        ({"mode": "fast"}, "unknown value of mode 'fast'; known: paper, robust"),
        ({"sublayers": ("heads",)}, "unknown value of sublayers 'heads'; known: attention, block, mlp"),
        ({"sublayers": ()}, "sublayers is empty; give one or more of attention, block, mlp"),
        ({"steps": 64, "cap": 32}, "cap=32 must be 64 or more"),
    ):
        with pytest.raises((BadInput, UnknownName), match=said):
            IntegratedGradients(**wrong)
    with pytest.raises(Refused, match=r"layers \[9\] do not exist, it has layers 0 to 3"):
        IntegratedGradients(layers=(2, 9)).needs(tiny("llama").anatomy)
    with pytest.raises(Refused, match="no answer follows a prompt"):
        IntegratedGradients().needs(tiny("bert").anatomy)


@pytest.mark.slow
def test_a_sink_held_still_makes_thirty_two_steps_complete_where_the_paper_recipe_is_not(
    tmp_path: Path,
) -> None:
    from depthscope.runtime.load import load

    model = load("smollm2-135m", dtype="float32")
    source, found = asked(tmp_path, ("5 + 7 + 5 + 3 + 1 + 7 =", "28")), {}
    for mode in ("robust", "paper"):
        analysis = IntegratedGradients(
            source, mode=mode, sublayers=("block",), layers=(27,), steps=32, cap=32
        )
        found[mode] = look(model, analysis, tmp_path / mode, rising())
    robust, paper = (found[m]["difference"].at(layer=27, sublayer="block") for m in ("robust", "paper"))
    assert (robust, paper) == pytest.approx((0.289, 0.522), rel=0.1)
    assert found["robust"]["gap"].at(layer=27, sublayer="block") < 0.02 * robust
    assert found["paper"]["gap"].at(layer=27, sublayer="block") > 0.5 * paper
