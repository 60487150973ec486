"""Analyses that read materials of their own, and runs through a lens: what is shared, stored, and told apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys import HOW

from depthscope.engine import execute
from depthscope.engine.audit import audit
from depthscope.engine.measured import mean, part
from depthscope.engine.needs import Facts, Needs, by_material, united
from depthscope.engine.plan import plan
from depthscope.engine.reading import Reading
from depthscope.engine.source import lenses_of
from depthscope.engine.tally import PerDocument, Tally
from depthscope.errors import BadInput, RunMismatch
from depthscope.materials.window import Window, Windows
from depthscope.results.result import Findings
from depthscope.runtime.head import Decode
from depthscope.runtime.lens import LOGIT, Lens
from depthscope.runtime.lens_folder import save_lens
from depthscope.runtime.model import Model
from depthscope.runtime.run import run as real_run

PROMPTS = ("two and two are four", "the sea is wide", "one and one are twos", "red is a colour", "abc")


@dataclass(frozen=True)
class Prompts:
    """Short prompts; the last two tokens are to be predicted."""

    times: int = 2
    label: str = "prompts"

    @property
    def name(self) -> str:
        return self.label

    def windows(self, model: Model, seed: int) -> Windows:
        texts = [f"{k}{text}" for k in range(self.times) for text in PROMPTS]
        ids = [tuple(model.tokenizer.encode(text)) for text in texts]
        items = tuple(
            Window(k, f"prompt-{k}", row, (len(row) - 3, len(row) - 2), {"text": texts[k], "seed": seed})
            for k, row in enumerate(ids)
        )
        return Windows(items, "toy prompts", "none", 0)


@dataclass(frozen=True)
class PromptLoss:
    """Prompt loss: how well the ends of prompts are predicted.

    Question: How well?

    Method: Cross-entropy at the marked positions.

    How to read: Lower is better.

    What misleads: Toys.

    Source: None.
    """

    times: int = 2
    label: str = "prompts"

    def needs(self, anatomy: Any) -> Needs:
        wanted = Decode(target=True)
        return Needs(frozenset({"L*.resid_post"}), wanted, material=Prompts(self.times, self.label))

    def observe(self, model: Any, batch: Any, seen: Any, given: Mapping[str, Any]) -> Tally:
        assert all(seen.windows[r].about["text"] for r in range(batch.rows))
        assert [w.index for w in seen.windows] == list(seen.shard.windows)
        decoded = seen.decoded
        assert decoded.has_target.all()
        loss = decoded.trace.cross_entropy
        return Tally({"loss": PerDocument.of(decoded.units, loss.T.double().numpy())})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        axes = {"state": np.arange(facts.n_layers + 1)}
        note = f"through the {facts.lens} lens"
        return Findings({"loss": mean(part(total, "loss", PerDocument), "loss", axes, "nats", facts, note)})


@dataclass(frozen=True)
class PromptLossAgain(PromptLoss):
    __doc__ = PromptLoss.__doc__


def expected(model: Model, times: int, lens: Lens = LOGIT) -> np.ndarray:
    """Mean cross-entropy of each state at the last two tokens of every prompt, one prompt at a time."""
    found: list[torch.Tensor] = []
    for window in Prompts(times).windows(model, 0).items:
        states = lens(
            real_run(model, torch.tensor([window.ids]), read=["L0.resid_pre", "L*.resid_post"]).states()[:, 0]
        )
        log_p = torch.log_softmax(model.head.logits(states), -1)
        found += [-log_p[:, p, window.ids[p + 1]] for p in window.marks]
    return torch.stack(found).double().mean(0).numpy()


def lens_of(model: Model, scale: float, name: str = "mine") -> Lens:
    n_layers, width = model.anatomy.n_layers, model.anatomy.d_model
    generator = torch.Generator().manual_seed(4)
    weight = scale * torch.randn(n_layers, width, width, generator=generator)
    return Lens("ridge", name, weight, scale * torch.randn(n_layers, width, generator=generator))


def test_marked_positions_of_prompts_are_decoded_and_nothing_else(llama64: Model, tmp_path: Path):
    run = audit(llama64, [PromptLoss()], out=tmp_path / "run", **HOW)
    found = run["prompt_loss"]["loss"]
    np.testing.assert_allclose(found.value, expected(llama64, 2), rtol=1e-9)
    assert found.n is not None
    assert found.n_items is not None
    assert set(found.n.tolist()) == {2 * len(PROMPTS)}
    assert set(found.n_items.tolist()) == {4 * len(PROMPTS)}


def test_text_and_prompts_are_read_side_by_side_and_both_are_stored(llama: Model, tmp_path: Path):
    run = audit(llama, [PromptLoss(), "residual_contribution"], out=tmp_path / "run", **HOW)
    alone = audit(llama, ["residual_contribution"], out=tmp_path / "alone", **HOW)
    found, kept = run["residual_contribution"]["block_cosine"], alone["residual_contribution"]["block_cosine"]
    np.testing.assert_array_equal(found.value, kept.value)
    assert {p.name for p in (tmp_path / "run/inputs").iterdir()} == {"text.parquet", "prompts.parquet"}
    about = run.manifest["materials"]["prompts"]
    assert about["windows"] == 2 * len(PROMPTS)
    assert about["source"] == "toy prompts"
    assert about["sample"] == {"decoded_positions": 4 * len(PROMPTS)}
    assert run["prompt_loss"].provenance["data"] == about["hash"]
    assert run["residual_contribution"].provenance["data"] == run.manifest["data"]["hash"]


def test_equal_materials_share_a_pass_and_others_do_not(
    llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    passes: list[int] = []

    def counted(model: Model, batch: Any, **how: Any) -> Any:
        passes.append(batch.rows)
        return real_run(model, batch, **how)

    monkeypatch.setattr(execute, "run", counted)
    audit(llama, [PromptLoss()], out=tmp_path / "one", **HOW)
    alone = len(passes)
    passes.clear()
    audit(llama, [PromptLoss(), PromptLossAgain()], out=tmp_path / "two", **HOW)
    assert len(passes) == alone
    assert sum(passes) == 2 * len(PROMPTS)
    passes.clear()
    run = audit(llama, [PromptLoss(), PromptLossAgain(1)], out=tmp_path / "three", **HOW)
    assert sum(passes) == 3 * len(PROMPTS)
    names = set(run.manifest["materials"])
    assert "prompts" in names
    assert len(names) == 2
    assert {p.stem for p in (tmp_path / "three/inputs").iterdir()} == {"text", *names}


def test_states_are_held_only_in_passes_where_something_reads_them(
    llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    held: list[int] = []

    def watched(model: Model, batch: Any, **how: Any) -> Any:
        seen = real_run(model, batch, **how)
        held.append(len(seen))
        return seen

    monkeypatch.setattr(execute, "run", watched)
    audit(llama, [PromptLoss(), "head_patterns"], out=tmp_path, **HOW)
    assert set(held) == {0, llama.anatomy.n_layers + 1}, "heads read no states, a decode reads them all"


def test_short_prompts_share_a_shard_beyond_eight_rows(llama: Model, tmp_path: Path):
    run = audit(llama, [PromptLoss(6)], out=tmp_path / "run", **HOW)
    lengths = {len(w.ids) for w in Prompts(6).windows(llama, 0).items}
    assert len(list((run.path / "parts").glob("prompt_loss-*/*.npz"))) == len(lengths)


def test_other_prompts_are_another_analysis_and_do_not_disturb_the_rest(llama: Model, tmp_path: Path):
    audit(llama, [PromptLoss(1), "residual_contribution"], out=tmp_path / "run", **HOW)
    run = audit(llama, [PromptLoss(2)], out=tmp_path / "run", **HOW)
    np.testing.assert_allclose(run["prompt_loss"]["loss"].value, expected(llama, 2), rtol=1e-5)
    assert "residual_contribution" in run


def test_one_pass_reads_one_material():
    needs = {
        "a": Needs(material=Prompts()),
        "b": Needs(),
        "c": Needs(material=Prompts(3)),
        "d": Needs(material=Prompts()),
    }
    assert by_material(needs) == [("b",), ("a", "d"), ("c",)]
    with pytest.raises(BadInput, match="one pass reads one material"):
        united([Needs(), Needs(material=Prompts())])


def test_a_plan_counts_every_material(llama: Model):
    reading = Reading(HOW["text"], tokens=HOW["tokens"], window=HOW["window"])
    found = plan(llama, [PromptLoss(), "residual_contribution"], reading=reading)
    tokens = sum(len(w.ids) for w in Prompts().windows(llama, 0).items)
    assert {w.analyses: w.capture_tokens for w in found.waves}["prompt_loss",] == tokens
    assert {w.analyses: w.decoded_positions for w in found.waves}["prompt_loss",] == 4 * len(PROMPTS)


def test_a_lens_translates_every_state_but_the_last(llama64: Model, tmp_path: Path):
    lens = lens_of(llama64, 0.1)
    run = audit(llama64, [PromptLoss()], out=tmp_path / "run", lens=lens, **HOW)
    found = run["prompt_loss"]["loss"]
    np.testing.assert_allclose(found.value, expected(llama64, 2, lens), rtol=1e-9)
    plain = expected(llama64, 2)
    assert abs(found.value[-1] - plain[-1]) < 1e-9
    assert (np.abs(found.value[:-1] - plain[:-1]) > 1e-4).all()
    assert found.note == "through the mine lens"
    assert run["prompt_loss"].provenance["lens"] == "mine"
    assert run.manifest["lenses"] == ["mine"]


def test_an_untrained_lens_gives_the_numbers_of_the_logit_lens(llama64: Model, tmp_path: Path):
    zero = audit(llama64, ["logit_lens"], out=tmp_path / "zero", lens=lens_of(llama64, 0.0), **HOW)[
        "logit_lens"
    ]
    plain = audit(llama64, ["logit_lens"], out=tmp_path / "plain", **HOW)["logit_lens"]
    for name, found in zero.findings.measurements.items():
        np.testing.assert_allclose(found.value, plain[name].value, rtol=1e-12, err_msg=name)


def test_a_run_is_of_one_lens(llama: Model, tmp_path: Path):
    audit(llama, [PromptLoss()], out=tmp_path / "run", lens=lens_of(llama, 0.1), **HOW)
    with pytest.raises(RunMismatch, match="lens is 'mine "):
        audit(llama, [PromptLoss()], out=tmp_path / "run", **HOW)
    with pytest.raises(RunMismatch, match="lens is 'mine "):
        audit(llama, [PromptLoss()], out=tmp_path / "run", lens=lens_of(llama, 0.2), **HOW)


def test_two_lenses_of_one_name_and_no_lens_are_refused(llama: Model, tmp_path: Path):
    for asked in ([lens_of(llama, 0.1), lens_of(llama, 0.2)], "logit,logit", ",", []):
        with pytest.raises(BadInput, match="give logit, a folder"):
            audit(llama, [PromptLoss()], out=tmp_path / "run", lens=asked, **HOW)
    assert not (tmp_path / "run").exists()


def test_two_workers_read_prompts_through_a_lens_as_one_does(llama: Model, tmp_path: Path):
    how: dict[str, Any] = {"lens": [lens_of(llama, 0.1), "logit"], **HOW}
    torch.set_num_threads(1)
    one = audit(llama, ["logit_lens"], out=tmp_path / "one", **how)["logit_lens"]
    two = audit(llama, ["logit_lens"], out=tmp_path / "two", workers=2, **how)["logit_lens"]
    for name, found in one.findings.measurements.items():
        np.testing.assert_array_equal(found.value, two[name].value, err_msg=name)


def test_two_folders_of_one_kind_are_told_apart_by_their_names(llama: Model, tmp_path: Path):
    for number, name in enumerate(("normal", "reduced")):
        save_lens(lens_of(llama, 0.1 * (number + 1), "ridge"), tmp_path / name)
    found = lenses_of(f"{tmp_path / 'normal'},{tmp_path / 'reduced'},logit", llama)
    assert [lens.name for lens in found] == ["normal", "reduced", "logit"]
    assert [lens.name for lens in lenses_of(str(tmp_path / "normal"), llama)] == ["ridge"]
    with pytest.raises(BadInput, match="of different names"):
        lenses_of(f"{tmp_path / 'normal'},{tmp_path / 'normal'}", llama)
