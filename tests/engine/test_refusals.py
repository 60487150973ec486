"""What cannot be audited is refused before anything is written, with the reason and an exit code of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import HOW, NormAgainstMedian

from depthscope.analyses.fact_depth import FactDepth
from depthscope.analyses.logit_lens import LogitLens
from depthscope.engine.audit import audit
from depthscope.engine.choice import FIRST, chosen
from depthscope.errors import BadInput, EmptyMaterial, LawBroken, NonFinite, Refused, StoreError, UnknownName
from depthscope.registry import FAMILIES
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import assembled, tiny
from depthscope.store.run import open_run

CHEAP = ["residual_contribution"]


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ({"text": [""]}, EmptyMaterial, "no text in the given texts"),
        ({"text": [" \n\t "]}, EmptyMaterial, "no text in the given texts"),
        ({"text": ["fifteen letters"]}, EmptyMaterial, "none with 16"),
        ({"text": "nowhere.txt"}, BadInput, r"no text at nowhere\.txt"),
        ({"tokens": 8}, BadInput, "--tokens 8"),
        ({"window": 8}, BadInput, "--window 8"),
        ({"null": "upside down"}, BadInput, "null='upside down'; it is 'shuffled' or None"),
        ({"chat": True}, Refused, "no chat template"),
        ({"seed": -1}, BadInput, "seed=-1 must be 0 or more"),
        ({"workers": 0}, BadInput, "workers=0 must be 1 or more"),
    ],
    ids=["empty", "blank", "short", "missing", "tokens", "window", "null", "chat", "seed", "workers"],
)
def test_unusable_text_is_refused_and_nothing_is_written(
    llama: Model, tmp_path: Path, how: dict[str, Any], kind: type[Exception], said: str
):
    with pytest.raises(kind, match=said) as caught:
        audit(llama, CHEAP, out=tmp_path / "run", **{**HOW, **how})
    assert type(caught.value) is kind
    assert caught.value.exit_code == (4 if kind is Refused else 2)  # pyright: ignore[reportAttributeAccessIssue]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"caf\xe9 au lait, and more", "not UTF-8"),
        (b'{"text": "fine"}\n{"text": ', "line 2 is not JSON"),
        (b'{"words": "fine"}', "no text under 'text'"),
    ],
)
def test_an_unusable_file_is_refused_and_nothing_is_written(
    llama: Model, tmp_path: Path, content: bytes, said: str
):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(BadInput, match=said) as caught:
        audit(llama, CHEAP, out=tmp_path / "run", text=tmp_path / "a.jsonl")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_a_material_that_cannot_be_read_leaves_a_finished_run_as_it_was(llama: Model, tmp_path: Path):
    out = tmp_path / "run"
    audit(llama, CHEAP, out=out, **HOW)
    before = (out / "manifest.json").read_bytes()
    for place in (out, tmp_path / "other"):
        with pytest.raises(BadInput, match="no data at nowhere"):
            audit(llama, ["corpus_statistics", FactDepth(source="nowhere.jsonl")], out=place, **HOW)
    assert (out / "manifest.json").read_bytes() == before
    assert not (out / "results" / "corpus_statistics.json").exists()
    assert not (tmp_path / "other").exists()


def test_the_same_command_writes_damaged_and_missing_tables_again(llama: Model, tmp_path: Path):
    out = tmp_path / "run"
    audit(llama, CHEAP, out=out, **HOW)
    table = out / "measurements" / CHEAP[0] / "block_relative_norm.parquet"
    before = table.read_bytes()
    for harm in (table.unlink, lambda: table.write_bytes(before[:99])):
        harm()
        with pytest.raises(StoreError):
            open_run(out)[CHEAP[0]]
        audit(llama, CHEAP, out=out, **HOW)
        assert table.read_bytes() == before


def test_an_unknown_analysis_says_which_was_meant(llama: Model, tmp_path: Path):
    with pytest.raises(
        UnknownName, match="unknown analysis 'logit_lense'; did you mean 'logit_lens'"
    ) as caught:
        audit(llama, ["logit_lense"], out=tmp_path / "run", **HOW)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_what_is_no_list_of_analyses_is_refused(llama: Model):
    with pytest.raises(BadInput, match=r"give a list, as \['logit_lens'\]"):
        chosen("logit_lens", llama)


def test_no_analysis_at_all_is_refused(llama: Model):
    with pytest.raises(BadInput, match="no analysis to run"):
        chosen([], llama)


def test_one_analysis_with_two_sets_of_parameters_is_refused(llama: Model):
    with pytest.raises(BadInput, match="logit_lens was asked for twice"):
        chosen(["logit_lens", LogitLens(positions=7)], llama)
    assert list(chosen(["logit_lens", "logit_lens"], llama).analyses) == ["logit_lens"]


def test_an_analysis_whose_docstring_lacks_a_section_is_refused_before_it_runs(llama: Model, tmp_path: Path):
    @dataclasses.dataclass(frozen=True)
    class Silent(NormAgainstMedian):
        """Silent.

        Question: Why?
        """

    with pytest.raises(UnknownName, match="missing"):
        audit(llama, [Silent()], out=tmp_path / "run", **HOW)
    assert not (tmp_path / "run").exists()


def test_heads_asked_of_a_model_without_attention_are_refused_with_its_kinds(tmp_path: Path):
    with pytest.raises(
        Refused, match="head_patterns cannot run on tiny-mamba: no layer has softmax attention"
    ) as caught:
        audit(tiny("mamba"), ["head_patterns"], out=tmp_path / "run", **HOW)
    assert caught.value.exit_code == 4
    assert not (tmp_path / "run").exists()


def test_the_default_list_leaves_out_what_a_model_refuses_and_says_why(tmp_path: Path):
    model = tiny("mamba", torch.float32)
    assert set(chosen(None, model).analyses) == set(FIRST) - {"head_patterns"}
    run = audit(model, None, out=tmp_path, **{**HOW, "tokens": 320})
    assert set(run) == set(FIRST) - {"head_patterns"}
    assert list(run.manifest["refused"]) == ["head_patterns"]
    assert "no layer has softmax attention" in run.manifest["refused"]["head_patterns"]


@pytest.mark.parametrize("name", ["gpt2", "opt", "bert"])
def test_a_window_beyond_the_positions_a_model_has_learnt_is_refused(name: str, tmp_path: Path):
    how = {"text": ["a long text " * 40], "tokens": 400}
    with pytest.raises(BadInput, match=r"--window 129 is longer than the 128 positions that .* has learnt"):
        audit(tiny(name), CHEAP, out=tmp_path / "run", window=129, **how)
    assert not (tmp_path / "run").exists()
    assert "residual_contribution" in audit(tiny(name), CHEAP, out=tmp_path / "run", window=128, **how)


def test_a_model_with_computed_positions_reads_windows_of_any_length(llama: Model, tmp_path: Path):
    assert "residual_contribution" in audit(
        llama, CHEAP, out=tmp_path, text=["a long text " * 40], window=256
    )


def test_a_model_that_reads_images_is_refused(tmp_path: Path):
    with pytest.raises(Refused, match="tiny-vit reads image"):
        audit(tiny("vit"), CHEAP, out=tmp_path / "run", **HOW)


def test_nan_weights_are_refused_as_not_finite(tmp_path: Path):
    model = tiny("llama", torch.float32)
    with torch.no_grad():
        model.net.get_parameter("model.layers.1.mlp.down_proj.weight").fill_(torch.nan)
    with pytest.raises(NonFinite, match=r"NaN or infinite numbers .* check the weights") as caught:
        audit(model, CHEAP, out=tmp_path / "run", **HOW)
    assert caught.value.exit_code == 6
    assert not (tmp_path / "run").exists()
    with pytest.raises(NonFinite, match="every window that residual_contribution read has NaN"):
        audit(model, CHEAP, out=tmp_path / "run", force=True, **HOW)


@pytest.fixture(scope="module")
def sabotaged() -> Model:
    """A llama whose literal says that the up-projection writes to the stream."""
    family = dataclasses.replace(FAMILIES["llama"], mlp_write=("self_attn.o_proj",))
    return assembled(tiny("llama", torch.float32).net, family, "llama")


def test_a_broken_law_stops_the_run_and_leaves_nothing(sabotaged: Model, tmp_path: Path):
    with pytest.raises(
        LawBroken, match=r"breaks law 1, .*worst relative error .*--force runs all the same"
    ) as caught:
        audit(sabotaged, CHEAP, out=tmp_path / "run", **HOW)
    assert caught.value.exit_code == 4
    assert not (tmp_path / "run").exists()


def test_a_broken_law_is_recorded_when_the_run_is_forced(sabotaged: Model, tmp_path: Path):
    run = audit(sabotaged, CHEAP, out=tmp_path, force=True, **HOW)
    broken = [v for v in run.manifest["verification"] if v["status"] == "broken"]
    assert [v["law"] for v in broken] == [1]
    with pytest.raises(LawBroken):
        audit(sabotaged, ["representation_profile"], out=tmp_path, **HOW)


def test_laws_are_checked_once_for_a_folder(llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    audit(llama, CHEAP, out=tmp_path, **HOW)

    def again(*_: Any) -> Callable[..., Any]:
        raise AssertionError("the laws were checked again")

    monkeypatch.setattr("depthscope.engine.audit.verify", again)
    assert "representation_profile" in audit(llama, ["representation_profile"], out=tmp_path, **HOW)
