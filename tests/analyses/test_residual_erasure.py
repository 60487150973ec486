"""Erasure on models that read one position at one layer, and against blocks run by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from formulas import Plain, norms_of, sinks_of
from planted import SAID, TOKEN, look, planted, rising, value
from torch import Tensor, nn

from depthscope.analyses.residual_erasure import ResidualErasure, _order
from depthscope.errors import Refused, UnknownName
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

PROMPTS = ("aK M Q bcd", "eN I P fgh", "iO L K jab")
"""The plain tokenizer shows the letters I to R as digits: numbers stand at positions 1, 3 and 5."""


class Reading(nn.Module):
    """In attention's place: every later position says the token that stands at one place."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place

    def forward(self, hidden_states: Tensor, **_: object) -> tuple[Tensor, None]:
        written = torch.zeros_like(hidden_states)
        token = hidden_states[:, self.place, TOKEN].argmax(-1)
        for row, said in enumerate(token.tolist()):
            written[row, self.place + 1 :, SAID.start + said] = 8.0
        return written, None


def reading(**places: int) -> Model:
    """Layer k reads the position that is given for it."""
    model = planted({})
    for layer, place in places.items():
        model.net.model.layers[int(layer[1:])].self_attn = Reading(place)  # type: ignore[union-attr, operator]
    return model


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "answer": "xy"}) + "\n" for p in PROMPTS))
    return str(path)


def test_a_position_is_needed_until_the_layer_that_reads_it(tmp_path: Path, source: str) -> None:
    result = look(reading(L2=3), ResidualErasure(source), tmp_path, rising())
    maps = result.findings.examples["maps"].to_dataframe()
    at = maps[maps.part == "question"].groupby(["position", "state"]).effect.mean().unstack()
    assert (at.loc[3, :2] > 0.1).all()
    assert (at.loc[3, 3:] == 0).all()
    assert (at.drop(index=3) == 0).all(axis=None)
    assert value(result, "point_of_no_return")[0] == 2
    needed = result["last_needed"]
    assert needed.at(task="all", bucket="question") == 2
    assert needed.at(task="all", bucket="last") == 6
    assert result["point_of_no_return"].n[0] == 3


def test_numbers_that_are_read_one_layer_after_the_other_are_needed_ever_deeper(
    tmp_path: Path, source: str
) -> None:
    rising_depth = look(reading(L1=1, L3=3, L4=5), ResidualErasure(source), tmp_path / "a", rising())
    assert value(rising_depth, "operand_order")[0] == pytest.approx(1)
    falling = look(reading(L1=5, L3=3, L4=1), ResidualErasure(source), tmp_path / "b", rising())
    assert value(falling, "operand_order")[0] == pytest.approx(-1)


def test_without_a_layer_that_reads_them_question_tokens_are_never_needed(
    tmp_path: Path, source: str
) -> None:
    result = look(planted({}), ResidualErasure(source), tmp_path, rising())
    assert np.isnan(value(result, "point_of_no_return")).all()
    assert (result["effect"].select(bucket="question").value == 0).all()
    assert (result["effect"].select(bucket="last").value > 0).all()


@pytest.mark.parametrize("mode", ["robust", "paper"])
def test_effects_are_those_of_blocks_run_by_hand(tmp_path: Path, source: str, mode: str) -> None:
    model = tiny("llama", num_hidden_layers=2)
    result = look(model, ResidualErasure(source, mode=mode), tmp_path, rising())
    maps = result.findings.examples["maps"].to_dataframe().set_index(["window", "position", "state"])
    plain = Plain(model.net, "llama")
    ids = [model.tokenizer.encode(f"{p} xy")[:-1] for p in PROMPTS]
    passes = [plain.run(i) for i in ids]
    kept = [
        np.ones(len(i), bool) if mode == "paper" else ~sinks_of(p) for i, p in zip(ids, passes, strict=True)
    ]
    assert norms_of(passes[0]).shape == (3, len(ids[0]))
    for s in range(3):
        mean = torch.cat([p.states[s][torch.tensor(k)] for p, k in zip(passes, kept, strict=True)]).mean(0)
        for window, seen in enumerate(passes):
            p = torch.softmax(plain.logits(seen.states[-1]), -1)[-2:]
            for t in (0, 4, len(ids[window]) - 2, len(ids[window]) - 1):
                stream = seen.states[s].clone()
                stream[t] = mean
                for layer in range(s, 2):
                    with torch.no_grad():
                        stream = stream + plain.attend(layer, stream)[0]
                        stream = stream + plain.mlp(layer, stream)
                q = torch.softmax(plain.logits(stream), -1)[-2:]
                first = max(0, t - (len(ids[window]) - 2))
                apart, kl = (p - q).norm(dim=-1)[first:], (p * (p / q).log()).sum(-1)[first:]
                expected = [float(v.max() if mode == "paper" else v.mean()) for v in (apart, kl)]
                np.testing.assert_allclose(
                    maps.loc[(window, t, s), ["effect", "kl"]], expected, rtol=1e-6, atol=1e-9
                )


def test_the_answers_of_the_model_itself_are_counted(tmp_path: Path, source: str) -> None:
    model = tiny("llama", num_hidden_layers=2)
    result = look(model, ResidualErasure(source), tmp_path, rising())
    gold = []
    for prompt in PROMPTS:
        said = torch.tensor([model.tokenizer.encode(f"{prompt} xy")])
        log_p = torch.log_softmax(model.net(input_ids=said, use_cache=False).logits[0].detach(), -1)
        gold.append(float(log_p[[-3, -2], said[0, -2:]].exp().mean()))
    assert value(result, "gold_probability")[0] == pytest.approx(np.mean(gold))
    assert value(result, "accuracy")[0] == 0


def test_wrong_parameters_and_encoders_are_refused() -> None:
    with pytest.raises(UnknownName, match="unknown value of mode 'fast'; known: paper, robust"):
        ResidualErasure(mode="fast")
    with pytest.raises(Refused, match="no answer follows a prompt"):
        ResidualErasure().needs(tiny("bert").anatomy)


@pytest.mark.parametrize(
    ("needed", "order"), [([4.0, 4, 4, 4], 0.0), ([1.0, 2, 2, 4], 0.9487), ([4.0, 2, 4, 4], np.nan)]
)
def test_the_order_of_numbers_takes_the_deepest_token_of_each_and_no_sink(
    needed: list[float], order: float
) -> None:
    operand = np.array([0, 1, 2, 3] if np.isfinite(order) else [0, 1, 0, 1])
    c = {
        "window": np.zeros(4, int),
        "operand": operand,
        "group": np.zeros(4, int),
        "needed": np.array(needed),
    }
    np.testing.assert_allclose(_order(c, 0), order, atol=1e-4)
