"""Function vectors: one planted head carries a task; plain passes under hooks give the same effects and vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from planted import SAID, SLOT, TOKEN, V, following, look, planted, rising, value
from torch import Tensor, nn

from depthscope.analyses.function_vectors import FunctionVectors
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.materials.icl_tasks import IclPrompts
from depthscope.results.result import Result
from depthscope.runtime import injection, last_token
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

LAYER, HEAD, BLOCK, FLAG = 1, 2, 11, SLOT.start
"""The planted head; tokens of one example `Q: x\\nA: y\\n\\n`; where the head says that examples are right."""
FEW = {"shots": 2, "taken": 4, "corrupted": 3, "queries": 3, "heads": 1}


class Judging(nn.Module):
    """In attention's place: one head says at the last token whether all examples are right; or tokens are handed on."""

    def __init__(self, proj: nn.Linear, judge: bool) -> None:
        super().__init__()
        self.o_proj, self.judge = proj, judge

    def forward(self, hidden_states: Tensor, **_: object) -> tuple[Tensor, None]:
        z = torch.zeros(*hidden_states.shape[:2], self.o_proj.in_features, dtype=hidden_states.dtype)
        passed = torch.zeros_like(hidden_states)
        if self.judge:
            ids = hidden_states[..., TOKEN].argmax(-1)
            z[:, -1, HEAD * z.shape[-1] // 4] = torch.tensor([float(right(row)) for row in ids.tolist()])
        else:
            # the token four back, which is the query's input, is handed to the last position
            passed[:, 4:, SLOT] = hidden_states[:, :-4, TOKEN]
        return self.o_proj(z) + passed, None


def right(ids: list[int]) -> bool:
    shots = len(ids) // BLOCK
    return shots > 0 and all(ids[BLOCK * k + 8] == ids[BLOCK * k + 3] + 1 for k in range(shots))


def answering(x: Tensor) -> Tensor:
    """Says the token after the query's input where the flag is up."""
    given = x[..., SLOT].clone()
    given[..., 0] = 0
    added = torch.zeros_like(x)
    added[..., SAID] = 40 * (x[..., FLAG, None] > 0.5) * following(given)
    return added


def tasked() -> Model:
    model = planted({2: answering}, n_layers=4)
    for k in (0, LAYER):
        layer = model.net.model.layers[k]  # type: ignore[union-attr, index]
        proj = layer.self_attn.o_proj
        layer.self_attn = Judging(proj, k == LAYER)
        layer.input_layernorm = nn.Identity()
        if k == LAYER:
            with torch.no_grad():
                proj.weight[FLAG, HEAD * proj.in_features // 4] = 1.0
    return model


def letters(folder: Path) -> str:
    """A task whose output is the letter after the input."""
    path = folder / "after.jsonl"
    rows = [{"input": chr(k), "output": chr(k + 1)} for k in range(ord("a"), ord("t"))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    # such attention keeps no keys and values, so whole prompts are run
    folder = tmp_path_factory.mktemp("after")
    with (
        mock.patch.object(injection, "goes_by_cache", return_value=False),
        mock.patch.object(last_token, "goes_by_cache", return_value=False),
    ):
        yield look(tasked(), FunctionVectors(letters(folder), **FEW), folder, rising())


def test_the_one_head_that_carries_the_task_has_the_only_effect(found: Result):
    effect = value(found, "indirect_effect")
    assert np.unravel_index(effect.argmax(), effect.shape) == (LAYER, HEAD)
    assert effect[LAYER, HEAD] > 0.9
    effect[LAYER, HEAD] = 0
    np.testing.assert_allclose(effect, 0, atol=1e-9)


def test_the_vector_is_what_that_head_writes_and_nothing_else(found: Result):
    flag = np.zeros(3 * V)
    flag[FLAG] = 1
    np.testing.assert_allclose(value(found, "vector")[0], flag, atol=1e-9)
    assert value(found, "norm")[0] == pytest.approx(1)


def test_the_vector_does_the_task_without_examples_below_the_layer_that_reads_it_and_not_above(found: Result):
    swept = found["zero_shot"]
    np.testing.assert_array_equal(swept.select(variant="vector").value[0], [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(swept.select(variant="random heads").value[0], 0)
    ends = dict(zip(found["accuracy"].axes["variant"].tolist(), value(found, "accuracy")[0], strict=True))
    assert (ends["vector"], ends["nothing"], ends["random heads"], ends["wrong examples"]) == (1, 0, 0, 0)
    assert value(found, "chosen_state")[0, 0] in (0, 1, 2)


def test_the_vector_repairs_prompts_whose_examples_are_wrong(found: Result):
    np.testing.assert_array_equal(found["shuffled"].select(variant="nothing").value, 0)
    np.testing.assert_array_equal(found["shuffled"].select(variant="vector").value, 1)
    assert value(found, "in_context") == 1
    assert value(found, "intact") == value(found, "dropped") == value(found, "shared_first") == 0
    assert found.findings.examples["tasks"].columns["result"].tolist() == ["a vector"]


def test_a_task_that_is_not_solved_in_context_gets_no_vector_and_says_so(tmp_path: Path):
    found = look(planted({}, n_layers=2), FunctionVectors(letters(tmp_path), **FEW), tmp_path, rising())
    assert np.isnan(value(found, "vector")).all()
    assert "not solved in context" in found["vector"].missing
    assert found.findings.examples["tasks"].columns["result"].tolist() == ["task not solved in context"]
    assert "Not solved in context, so without a vector: after." in found.findings.notes


def test_effects_and_vector_are_those_of_whole_passes_under_plain_hooks(tmp_path: Path):
    model = tiny("gpt2")
    asked = FunctionVectors(letters(tmp_path), (), 1, 2, 2, 2, 2, solved=0.0)
    found = look(model, asked, tmp_path, rising())
    net, blocks = model.net, model.net.transformer.h  # type: ignore[union-attr]
    about = IclPrompts(asked.source, (), 1, 2, 2, 2).windows(model, 0).items[0].about["prompts"]
    shape = (len(blocks), 4, 8)
    mean = torch.stack([heads_at_the_end(net, blocks, ids).reshape(shape) for ids, _ in about["taken"]]).mean(
        0
    )
    expected = np.zeros((2, 4, 4))
    for k, (ids, answer) in enumerate(about["corrupted"]):
        clean = probability(net, ids, answer)
        for layer, head in np.ndindex(4, 4):
            hook = partial(replaced, head, mean[layer, head])
            handle = blocks[layer].attn.c_proj.register_forward_pre_hook(hook)
            expected[k, layer, head] = probability(net, ids, answer) - clean
            handle.remove()
    np.testing.assert_allclose(value(found, "indirect_effect"), expected.mean(0), atol=1e-9)
    top = np.argsort(-expected.mean(0).ravel())[:2]
    parts = [
        mean[k // 4, k % 4] @ blocks[k // 4].attn.c_proj.weight.detach()[8 * (k % 4) :][:8]
        for k in top.tolist()
    ]
    np.testing.assert_allclose(value(found, "vector")[0], sum(parts).numpy(), atol=1e-9)


def heads_at_the_end(net: nn.Module, blocks: nn.ModuleList, ids: list[int]) -> Tensor:
    kept: list[Tensor] = []
    handles = [
        b.attn.c_proj.register_forward_pre_hook(lambda _, args: kept.append(args[0][0, -1])) for b in blocks
    ]
    with torch.no_grad():
        net(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return torch.stack(kept)


def replaced(head: int, z: Tensor, _: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    changed = args[0].clone()
    changed[:, -1, 8 * head : 8 * head + 8] = z
    return (changed,)


@torch.no_grad()
def probability(net: nn.Module, ids: list[int], answer: int) -> float:
    return float(torch.softmax(net(torch.tensor([ids])).logits[0, -1], -1)[answer])


def test_wrong_parameters_names_and_models_are_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="heads=0"):
        FunctionVectors(heads=0)
    with pytest.raises(BadInput, match="shots=0"):
        FunctionVectors(shots=0)
    with pytest.raises(Refused, match="no answer follows a prompt"):
        FunctionVectors().needs(tiny("bert").anatomy)
    with pytest.raises(UnknownName, match="antonym"):
        IclPrompts(tasks=("antonyms",)).windows(tiny("llama"), 0)
