"""Facts put in: what is said before and after, resumed from the journal, with wrong facts and layers refused."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from depthscope.cli import main
from depthscope.engine.reading import Reading
from depthscope.engine.study import conduct
from depthscope.errors import BadInput
from depthscope.fits import insertion
from depthscope.fits.insertion import RankOneInsertion
from depthscope.materials.insertions import insertions
from depthscope.runtime.tiny import PlainTokenizer, tiny
from depthscope.store.run import Run

FACT = {
    "prompt": "{} is in", "subject": "Bonn", "answer": "Q", "target": "Z", "paraphrases": ["Go to {}, to"],
    "neighbours": ["Kiel is in", "Ulm is in"],
}  # fmt: skip
READING = Reading(["some words of text " * 4] * 3, tokens=96, window=32)


def written(folder: Path, **changes: object) -> str:
    path = folder / "facts.jsonl"
    path.write_text(json.dumps(FACT | changes) + "\n")
    return str(path)


def study(folder: Path) -> RankOneInsertion:
    return RankOneInsertion(written(folder), (0,), prefixes=1, steps=8, rate=2.0, clamp=100.0, judged=1)


def done(folder: Path) -> Run:
    return conduct("insertion", study(folder), tiny("llama"), READING, folder / "run", force=True)


def test_the_new_answer_rises_weights_are_put_back_and_a_second_call_repeats_nothing(tmp_path: Path):
    model = tiny("llama")
    held = [p.detach().clone() for p in model.net.parameters()]
    run = conduct("insertion", study(tmp_path), model, READING, tmp_path / "run", force=True)
    for before, after in zip(held, model.net.parameters(), strict=True):
        torch.testing.assert_close(after.detach(), before, rtol=0, atol=0)
    found = run["insertion"]["target_probability"]
    before, after = (found.at(layer=0, variant=when, option="prompt") for when in ("before", "after"))
    assert after > before
    assert run["insertion"]["update_share"].at(layer=0) > 0
    with mock.patch.object(insertion, "change_for", side_effect=AssertionError):
        again = done(tmp_path)
    np.testing.assert_array_equal(again["insertion"]["target_probability"].value, found.value)


def test_places_are_those_of_the_subjects_end_with_and_without_a_piece_before():
    tokenizer = PlainTokenizer(200)
    _, (fact, *_) = insertions("", tokenizer, [1])
    subject = "Eiffel Tower"
    asked = fact.prompt
    assert asked.ids[0] == 1
    spelled = tokenizer.encode(subject)
    assert list(asked.ids[asked.at + 1 - len(spelled) : asked.at + 1]) == spelled
    behind = asked.behind([7, 8])
    assert behind.ids[:3] == (1, 7, 8)
    assert behind.ids[behind.at] == asked.ids[asked.at]
    assert len(fact.paraphrases) == 3
    assert len(fact.neighbours) == 6


def test_wrong_facts_layers_and_sizes_are_refused(tmp_path: Path):
    with pytest.raises(BadInput, match=r"no \{\} where the subject should stand"):
        insertions(written(tmp_path, prompt="Bonn is in"), PlainTokenizer(200))
    with pytest.raises(BadInput, match="needs a subject"):
        insertions(written(tmp_path, target=" "), PlainTokenizer(200))
    with pytest.raises(BadInput, match=r"layers \[9\]"):
        conduct(
            "insertion", RankOneInsertion(layers=(9,)), tiny("llama"), READING, tmp_path / "r", force=True
        )
    with pytest.raises(BadInput, match="ridge=0"):
        RankOneInsertion(ridge=0.0)


def test_the_verb_says_what_each_layer_gave(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    few = ["--layers", "1", "--steps", "1", "--prefixes", "0", "--tokens", "64", "--window", "32"]
    with pytest.raises(SystemExit) as end:
        main(
            [
                "insert",
                "tiny-llama",
                "--facts",
                written(tmp_path),
                *few,
                "--out",
                str(tmp_path / "run"),
                "--json",
            ]
        )
    assert not end.value.code
    assert json.loads(capsys.readouterr().out)["layers"] == ["1"]
