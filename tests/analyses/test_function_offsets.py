"""Function offsets: words that lie so that an offset does one task, and no offset the way there and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import SAID, SLOT, axis, following
from planted_tasks import DO, PICK, asked, observed, vectors_of, written
from torch import Tensor

from depthscope.analyses.function_offsets import FunctionOffsets
from depthscope.errors import BadInput, Refused
from depthscope.results.result import Findings
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

A = 39
"""The id of the letter a; letters up to y follow."""
PAIRS = [(chr(k), chr(k + 1)) for k in range(ord("a"), ord("a") + 12, 2)]
TASKS = {"after": PAIRS, "swap": PAIRS + [(y, x) for x, y in PAIRS], "few": PAIRS[:3]}
VECTORS = {"after": axis(PICK), "swap": axis(PICK, -1), "few": axis(DO)}


def answering(x: Tensor) -> Tensor:
    """Says the next letter, or the partner in the pair, of the letter four tokens back."""
    held = x[..., SLOT].clone()
    pick = held[..., :1].clone()
    letter = ((held > 0.5) & (held < 1.5)).to(x)
    letter[..., :3] = 0
    partner = letter.clone()
    partner[..., A : A + 12] = letter[..., A : A + 12].unflatten(-1, (6, 2)).flip(-1).flatten(-2)
    added = torch.zeros_like(x)
    added[..., SAID] = 40 * torch.where(pick > 0.5, following(letter), partner) * (pick.abs() > 0.5)
    return added


def placed() -> Model:
    """First letters lie around one point and second letters around another, each pair's in its own direction."""
    model = asked(answering)
    with torch.no_grad():
        rows = model.net.model.embed_tokens.weight  # type: ignore[union-attr]
        for k in range(12):
            rows[A + k, SLOT.start + 20 + k % 2] = 40
            rows[A + k, SLOT.start + 30 + k // 2] = 20
    return model


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    source = written(tmp_path_factory.mktemp("words"), TASKS)
    return observed(placed(), FunctionOffsets(source, fewest=4), vectors_of(source, TASKS, VECTORS))


def test_an_offset_does_the_one_way_task_and_not_the_round_trip(found: Findings):
    accuracy = found.measurements["accuracy"]
    for where in ("embedding", "state"):
        assert accuracy.at(task="after", variant=where) == 1
        assert accuracy.at(task="swap", variant=where) == 0
    # no other token lies where the words lie
    assert accuracy.at(task="after", variant="embedding, all tokens") == 1
    assert accuracy.at(task="swap", variant="embedding, all tokens") == 0
    assert found.measurements["closed"].value.tolist() == [0, 1, 0]


def test_the_vector_does_both_on_the_same_words_and_nothing_does_none(found: Findings):
    for name in ("accuracy", "group_accuracy"):
        each = found.measurements[name]
        assert [each.at(task=task, variant="vector") for task in ("after", "swap")] == [1, 1]
        assert [each.at(task=task, variant="nothing") for task in ("after", "swap")] == [0, 0]
    ahead = found.measurements["vector_ahead"]
    assert (ahead.at(task="after", variant="embedding"), ahead.at(task="swap", variant="embedding")) == (0, 1)
    assert found.measurements["accuracy"].select(task="swap", variant="vector").n == 6, (
        "pairs that share words"
    )


def test_the_vector_asked_for_its_own_answer_leads_back_only_in_the_round_trip(found: Findings):
    assert found.measurements["involution"].value.tolist()[:2] == [0, 1]


def test_offsets_of_a_round_trip_cancel_and_those_of_one_way_are_alike(found: Findings):
    length = found.measurements["offset_length"]
    assert length.at(task="swap", variant="embedding") == pytest.approx(0, abs=1e-6)
    # y - x has 40 out of one direction, 40 into another, and four ones that differ from pair to pair
    mean = np.sqrt(2 * 40**2 + 4 * 6 / 36)
    assert length.at(task="after", variant="embedding") == pytest.approx(
        mean / np.sqrt(2 * 40**2 + 4), rel=1e-6
    )


def test_too_few_words_and_tasks_without_a_vector_say_so(found: Findings, tmp_path: Path):
    said = found.examples["tasks"].columns
    assert said["result"].tolist() == ["a vector", "a vector", "too few words of one token"]
    assert "few" in found.notes[0]
    pairs = {"after": PAIRS}
    source = written(tmp_path, pairs)
    bare = observed(placed(), FunctionOffsets(source, fewest=4), vectors_of(source, pairs, {}))
    assert bare.measurements["accuracy"].at(task="after", variant="vector") != 1
    assert "not solved in context" in bare.measurements["accuracy"].missing
    assert bare.measurements["accuracy"].at(task="after", variant="embedding") == 1


def test_no_more_pairs_are_compared_than_asked_for(tmp_path: Path):
    pairs = {"swap": TASKS["swap"]}
    source = written(tmp_path, pairs)
    few = observed(placed(), FunctionOffsets(source, pairs=5, fewest=4), vectors_of(source, pairs, {}))
    assert few.examples["tasks"].columns["pairs"].tolist() == [4], "groups stay whole"


def test_wrong_parameters_and_models_are_refused():
    with pytest.raises(BadInput, match=r"fewest=8 \(no more than pairs\) must be from 1 to 2"):
        FunctionOffsets(pairs=2)
    with pytest.raises(Refused, match="no answer follows a prompt"):
        FunctionOffsets().needs(tiny("bert").anatomy)
