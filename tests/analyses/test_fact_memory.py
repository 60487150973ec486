"""Fact memory: planted memories are hit where they fire, their loss costs the answer, and plain sums agree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import look, silent_gpt2

from depthscope.analyses.fact_memory import FactMemory
from depthscope.errors import BadInput, EmptyMaterial, Refused
from depthscope.materials.fact_memories import FactMemories, invented
from depthscope.registry import FAMILIES
from depthscope.results.result import Result
from depthscope.runtime.memories import answer_directions, stream_size
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import assembled, tiny

TEXTS = ["some words that nobody reads here"] * 9
V = 64
KEY, ANSWER, KNOWN = (3 + ord(letter) % (V - 3) for letter in "7QZ")
TENTH, PLACE = 9, 1
"""A position, and the id of no letter whose channels it raises."""


def remembering() -> Model:
    """A gpt2 whose neuron 2 waits for the tenth position and says Z, neuron 5 for a "7" and says Q; else silent."""
    net = silent_gpt2(32)
    with torch.no_grad():
        net.transformer.wpe.weight[TENTH, PLACE], net.transformer.wpe.weight[TENTH, V + PLACE] = 1.0, -1.0
        mlp = net.transformer.h[1].mlp
        for neuron, waits, says in ((5, KEY, ANSWER), (2, PLACE, KNOWN)):
            mlp.c_fc.weight[waits, neuron] = 1.0
            mlp.c_proj.weight[neuron, says], mlp.c_proj.weight[neuron, V + says] = 9.0, -9.0
    return assembled(net, FAMILIES["gpt2"], "gpt2")


FACTS = [
    *({"subject": f"mo{k}7", "cloze": f"of mo{k}7", "answer": "Qu"} for k in "aeiou"),
    *({"subject": f"n{k}yyyy", "cloze": f"of n{k}yyyy", "answer": "Ze"} for k in "aeiou"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Five facts of each memory, and running text with neither a space nor a 7."""
    folder = tmp_path_factory.mktemp("facts")
    (folder / "facts.jsonl").write_text("\n".join(json.dumps(row) for row in FACTS))
    (folder / "text.txt").write_text("abcdefgh" * 20)
    return {"source": str(folder / "facts.jsonl"), "text": str(folder / "text.txt")}


@pytest.fixture(scope="module")
def found(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Result:
    asked = FactMemory(**files, others=1, texts=1, length=64, fewest=5)
    return look(remembering(), asked, tmp_path_factory.mktemp("run"), TEXTS)


def test_facts_are_hit_where_their_memory_fires_and_nowhere_else(found: Result) -> None:
    assert found["accuracy"].scalar() == 0.5  # those whose prompts have ten tokens
    hits = found["hit_share"]
    assert hits.at(token="end", option="answer", bucket="right") == 1
    assert hits.at(token="subject", option="answer", bucket="right") == 0
    assert (
        hits.at(token="subject", option="answer", bucket="wrong") == 1
    )  # it says Q at the 7, where nobody asks
    assert hits.at(token="end", option="answer", bucket="wrong") == 0
    assert hits.at(token="end", option="said", bucket="right") == 1
    assert hits.at(token="end", option="said", bucket="invented") == 0
    assert found["right_minus_wrong"].at(token="end", option="answer") == pytest.approx(1)
    assert found["fact_minus_invented"].at(token="subject", option="answer") == pytest.approx(0.5)
    assert found["hit_by_layer"].select(token="end", bucket="right").value.tolist() == [0, 1]
    assert found["auc"].at(score="addition", token="end") == 1


def test_the_answer_is_lost_with_its_memory_and_not_with_others(found: Result) -> None:
    assert found["answer_drop"].at(token="end", variant="largest") > 0.5
    assert found["answer_drop"].at(token="end", variant="random") == pytest.approx(0)
    assert found["drop_beyond_random"].at(token="subject") == pytest.approx(0)
    table = found.findings.examples["hits"].columns
    assert {(int(k), str(p)) for k, p in zip(table["neuron"], table["place"], strict=True)} >= {
        (5, "subject"),
        (2, "end"),
    }


def test_a_memory_that_answers_every_prompt_alike_is_none_of_the_fact(
    files: dict[str, str], tmp_path: Path
) -> None:
    model = remembering()
    with torch.no_grad():
        model.net.transformer.wpe.weight[:] = model.net.transformer.wpe.weight[TENTH]  # type: ignore[union-attr, index]
    asked = FactMemory(**files, others=1, texts=1, length=64, fewest=5)
    found = look(model, asked, tmp_path, TEXTS)
    assert found["accuracy"].scalar() == 0.5
    assert found["hit_share"].at(token="end", option="answer", bucket="right") == 0


def test_cells_with_few_prompts_are_insufficient(files: dict[str, str], tmp_path: Path) -> None:
    asked = FactMemory(**files, others=1, texts=1, length=64, fewest=6)
    found = look(remembering(), asked, tmp_path, TEXTS)
    assert np.isnan(found["hit_share"].at(token="end", option="answer", bucket="right"))
    assert np.isfinite(found["hit_share"].at(token="end", option="answer", bucket="invented"))
    assert "insufficient: 5 prompts where 6 are needed" in found["hit_share"].missing
    assert "insufficient" in found["auc"].missing


def test_additions_are_what_neurons_put_into_the_logit(files: dict[str, str], tmp_path: Path) -> None:
    model = tiny("llama")
    asked = FactMemory(**files, others=1, texts=1, length=64, fewest=1)
    share = look(model, asked, tmp_path, TEXTS)["ten_share"]
    net, project = model.net, model.net.model.layers[1].mlp.down_proj  # type: ignore[union-attr, index]
    kept: list[torch.Tensor] = []
    handle = project.register_forward_pre_hook(lambda _, args: kept.append(args[0][0]))  # type: ignore[operator]
    expected = []
    for row in FACTS:
        with torch.no_grad():
            net(torch.tensor([model.tokenizer.encode(f"{row['cloze']} ")]))
            read = net.model.norm.weight * net.lm_head.weight[model.tokenizer.encode(row["answer"])[0]]  # type: ignore[union-attr, operator, index]
            adds = kept[-1][-1] * (project.weight.T @ read)  # the size of the last stream cancels
        expected.append(float(adds.sort(descending=True).values[:10].sum() / adds.abs().sum()))
    handle.remove()
    assert share.at(token="end", layer=1) == pytest.approx(np.mean(expected), rel=1e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_logit_is_the_stream_along_its_direction(family: str) -> None:
    model = tiny(family)
    state = 3 * torch.randn(5, model.anatomy.d_model, dtype=torch.float64)
    ids = torch.tensor([4, 9, 11])
    logits = model.head.logits(state).double()
    made = state @ answer_directions(model, ids).double().T / stream_size(model, state).double()[:, None]
    apart = logits[:, ids] - made  # a norm's bias gives each token a constant
    torch.testing.assert_close(apart, apart[:1].expand_as(apart), atol=1e-4, rtol=0)


def test_invented_names_are_made_of_syllables_and_of_the_seed() -> None:
    assert len(invented(3, 0).split()) == 2
    assert invented(3, 0) != invented(4, 0)
    assert invented(3, 0) == invented(3, 0)


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no answer follows a prompt"):
        FactMemory().needs(tiny("bert").anatomy)
    with pytest.raises(Refused, match="no one last projection"):
        FactMemory().needs(tiny("mixtral").anatomy)
    with pytest.raises(BadInput, match="others=0"):
        FactMemory(others=0)
    (tmp_path / "facts.jsonl").write_text(json.dumps({"cloze": "the sky is", "answer": "blue"}))
    with pytest.raises(EmptyMaterial, match="0 facts"):
        FactMemories(str(tmp_path / "facts.jsonl")).windows(tiny("llama"), 0)


def test_a_limit_takes_the_relations_in_turn(tmp_path: Path) -> None:
    rows = [
        {"subject": f"{r}x{k}", "cloze": f"of {r}x{k}", "answer": f"{k}{r}", "relation": r}
        for r in "abc"
        for k in "12345"
    ]
    (tmp_path / "facts.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    windows = FactMemories(str(tmp_path / "facts.jsonl"), limit=6, others=1, texts=1, length=8).windows(
        tiny("llama"), 0
    )
    kinds = [w.about["kind"] for w in windows.items]
    assert kinds == ["fact", "invented"] * 6 + ["text"]
    taken = [w.about["relation"] for w in windows.items if w.about["kind"] == "fact"]
    assert sorted(taken) == ["a", "a", "b", "b", "c", "c"]


def test_answers_that_all_begin_alike_are_refused(tmp_path: Path) -> None:
    rows = [{"subject": f"x{k}", "cloze": f"of x{k}", "answer": f"Q{k}"} for k in "123"]
    (tmp_path / "facts.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(EmptyMaterial, match="all begin with one token"):
        FactMemories(str(tmp_path / "facts.jsonl"), texts=1, length=8).windows(tiny("llama"), 0)
