"""Scores against transformers used plainly, and judgements by hand."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch

from depthscope.advise.scoring import Scores, continuations, judged, score
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.materials.tasks import Item, Task
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

SHORT = Task("t", "short_answer", tuple(Item(str(k), "ab" * (1 + k) + "?", ("x",), "contains") for k in range(5)),
             length=4)  # fmt: skip


@pytest.fixture(scope="module")
def llama() -> Model:
    return tiny("llama")


def choice(*options: str, answer: str = "Bern") -> Item:
    return Item("1", "Capital?", (answer,), "letter", options)


@pytest.mark.parametrize(
    ("item", "text", "right"),
    [
        (Item("1", "p", ("Paris",), "exact"), " paris. ", True),
        (Item("1", "p", ("Paris",), "exact"), "it is Paris", False),
        (Item("1", "p", ("Paris",), "contains"), "it is Paris!", True),
        (Item("1", "p", ("Paris",), "contains"), "it is Parisian", False),
        (Item("1", "p", ("Rome", "Roma"), "contains"), "in Roma", True),
        (Item("1", "p", ("42",), "number"), "41, no: 42.0", True),
        (Item("1", "p", ("42",), "number"), "42 or 43", False),
        (Item("1", "p", ("42",), "number"), "unknown", False),
        (choice("Bern", "Basel"), "(A)", True),
        (choice("Bern", "Basel"), "The answer is B", False),
        (choice("Bern", "Basel"), "Bern it is", True),
        (choice("Bern", "Basel"), "Bernard", False),
        (choice("Bern", "Basel"), "", False),
    ],
)
def test_answers_are_judged_as_their_scorer_says(item: Item, text: str, right: bool):
    assert judged(item, text) is right


@torch.no_grad()
def greedy(model: Model, prompt: str, length: int) -> str:
    """One row, no cache, by hand."""
    ids = model.tokenizer.encode(prompt)
    written: list[int] = []
    for _ in range(length):
        token = int(cast(Any, model.net)(input_ids=torch.tensor([ids + written])).logits[0, -1].argmax())
        if token in (0, 2):
            break
        written.append(token)
    return model.tokenizer.decode(written)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_rows_written_together_with_the_cache_are_those_written_alone_without(family: str):
    model = tiny(family)  # gpt2 may not be padded on the left, llama may
    found = score(model, SHORT, batch=3)
    alone = [greedy(model, item.prompt, SHORT.length).strip() for item in SHORT.items]
    assert list(found.said) == alone
    assert found.ids == tuple("01234")


def test_an_answer_ends_at_its_stop_text(llama: Model):
    prompt = llama.tokenizer.encode("abab?")
    (whole,) = continuations(llama, [prompt], 6)
    (cut,) = continuations(llama, [prompt], 6, stop=whole[2])
    assert cut == whole.partition(whole[2])[0]


def test_the_likeliest_option_is_that_of_plain_log_probabilities(llama: Model):
    items = tuple(Item(str(k), f"{k} or", ("b",), "letter", ("abcdef", "b", "cde")) for k in range(4))
    task = Task("t", "choice", items)
    for by, per in (("likelihood", lambda _: 1), ("normalised", len)):
        found = score(llama, task, cast(Any, by))
        for item, said in zip(items, found.said, strict=True):
            totals = []
            for option in item.options:
                ids = llama.tokenizer.encode(f"{item.prompt} {option}")
                with torch.no_grad():
                    logits = cast(Any, llama.net)(input_ids=torch.tensor([ids])).logits[0]
                picked = torch.log_softmax(logits, -1)[range(len(ids) - 1), ids[1:]]
                totals.append(float(picked[-len(option) :].sum()) / per(option))
            assert said == item.options[int(np.argmax(totals))]
    assert score(llama, task, "likelihood").said != score(llama, task, "normalised").said


def test_scores_survive_json_and_keep_what_was_said(llama: Model):
    found = score(llama, SHORT)
    assert Scores.of(found.as_dict()) == found
    assert found.only(["3"]).said == (found.said[3],)
    assert Scores("t", "generation", ("a", "b"), (True, False), ("", "")).accuracy == 0.5


def test_what_cannot_be_scored_is_refused(llama: Model):
    with pytest.raises(BadInput, match="'t' is short_answer and has no options"):
        score(llama, SHORT, "likelihood")
    with pytest.raises(UnknownName, match="did you mean 'generation'"):
        score(llama, SHORT, cast(Any, "generaton"))
    with pytest.raises(Refused, match="no causal language model"):
        score(tiny("bert"), SHORT)
    with pytest.raises(Refused, match="has no chat template"):
        score(llama, SHORT, chat=True)
