"""The verify verb: a table or JSON, and an exit code that is 0 only where nothing is broken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from depthscope.cli import main
from depthscope.errors import LawBroken
from depthscope.registry import FAMILIES
from depthscope.runtime import load as loading
from depthscope.runtime.tiny import assembled, tiny


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["verify", *arguments])
    return int(end.value.code or 0)


@pytest.fixture
def _broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model that is loaded is a Llama whose attention write is looked for in the wrong place."""
    import dataclasses

    wrong = dataclasses.replace(FAMILIES["llama"], attn_write=("input_layernorm",))
    monkeypatch.setattr(loading, "load", lambda *_, **__: assembled(tiny("llama").net, wrong, "llama"))


def test_a_table_names_each_law_with_its_worst_error(capsys: pytest.CaptureFixture[str]):
    assert ended("tiny-llama") == 0
    said, progress = capsys.readouterr()
    lines = said.splitlines()
    assert lines[0].startswith("tiny-llama in float64: loaded in ")
    assert lines[1].split() == ["law", "says", "status", "worst", "error", "tolerance", "reason"]
    assert [line.split()[0] for line in lines[2:]] == ["1", "2", "3", "4", "5", "6"]
    assert all("holds" in line for line in lines[2:])
    assert progress == ""


def test_json_holds_every_verdict(capsys: pytest.CaptureFixture[str]):
    assert ended("--tiny", "llama", "--dtype", "float32", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["models"]
    assert (found["model"], found["dtype"], found["holds"]) == ("tiny-llama", "float32", True)
    assert [law["law"] for law in found["laws"]] == [1, 2, 3, 4, 5, 6]
    assert all(law["worst"] <= law["tolerance"] == 5e-5 for law in found["laws"])
    assert len(found["weights_hash"]) == 64


@pytest.mark.filterwarnings("ignore::UserWarning")  # the mixer's reference kernel announces itself
def test_all_means_every_family_and_reasons_follow_the_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("depthscope.cli.verify.FAMILIES", ("gpt2", "mamba"))
    assert ended("--tiny", "all") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["model", "tiny-gpt2", "tiny-mamba"]
    assert lines[3] == (
        "tiny-mamba, law 3 (attention rows are the kernel's rows) not applicable: no layer has softmax attention"
    )


@pytest.mark.usefixtures("_broken")
def test_a_broken_law_decides_the_exit_code_and_is_named(capsys: pytest.CaptureFixture[str]):
    assert ended("anything") == LawBroken.exit_code
    said, error = capsys.readouterr()
    assert "broken" in said
    assert error.startswith("depthscope: broken: law 1 of tiny-llama")


@pytest.mark.usefixtures("_broken")
def test_a_broken_law_in_json_is_one_document(capsys: pytest.CaptureFixture[str]):
    assert ended("anything", "--json") == LawBroken.exit_code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["models"][0]["holds"] is False
    assert found["models"][0]["laws"][0]["status"] == "broken"


@pytest.mark.parametrize("arguments", [(), ("tiny-llama", "--tiny", "llama")], ids=["none", "both"])
def test_exactly_one_of_model_and_tiny_is_asked_for(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
):
    assert ended(*arguments) == 2
    assert "name one model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("someone/unknown",), 3, "someone/unknown"),
        (("smollm-135m",), 3, "did you mean 'smollm2-135m'"),
        (("--tiny", "lama"), 2, "did you mean 'llama'"),
        (("tiny-llama", "--dtype", "float7"), 2, "unknown dtype 'float7'"),
        (("tiny-llama", "--dtype", "float16"), 4, "65,504"),
    ],
)
def test_what_cannot_be_loaded_is_one_line_and_a_code(
    arguments: tuple[str, ...], code: int, says: str, capsys: pytest.CaptureFixture[str]
):
    assert ended(*arguments) == code
    said, error = capsys.readouterr()
    assert said == ""
    assert says in error
    assert error.count("\n") == 1
