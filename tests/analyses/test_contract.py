"""The contract: one audit a tiny family with every analysis of the registry, against the tables of contract_tables.py.

A new analysis file is met here at once: give it its rows in contract_tables.py.
A new family that reads tokens is audited without a change here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from contract_tables import BY_DATA, MEASUREMENTS, OWN_LABELS, PAIRS, PARAMETERS, REFUSALS, UNTRUE

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.audit import audit
from depthscope.engine.choice import FIRST
from depthscope.engine.needs import Analysis
from depthscope.errors import Refused
from depthscope.registry import ANALYSES, FAMILIES
from depthscope.results.measurement import Measurement
from depthscope.results.result import Text
from depthscope.runtime.model import Model
from depthscope.runtime.predictor import Design, Predictor, Predictors, save_predictors
from depthscope.runtime.tiny import assembled, tiny
from depthscope.store.run import Run

SIZES = {"state": lambda a: a.n_layers + 1, "layer": lambda a: a.n_layers, "head": lambda a: a.n_heads}
READERS = [name for name in FAMILIES.names if FAMILIES[name].reads == "tokens"]
TYPED = ("llama", "mamba", "bert")
"""Families whose runs check the shapes in signatures too: what is called is the same in all, and checks cost half."""
ALIKE = (
    "gemma3_text", "gpt_neox", "jamba", "lfm2", "mamba2", "mixtral", "olmo2", "opt", "phi3", "qwen3", "qwen3_moe",
    "qwen3_next", "recurrent_gemma", "xlstm", "zamba2",
)  # fmt: skip
"""Families that meet the first analyses here and all in the slow set; the rest stand for every kind of layer."""
OTHERS = [name for name in FAMILIES.names if FAMILIES[name].reads != "tokens"]
TEXTS = [f"{number} boats, then {number * number} more: row {chr(97 + number)}!" for number in range(10)]


def made(name: str, predictor: str = "") -> Analysis:
    asked = ANALYSES[name]
    given = {"predictor": predictor} if "predictor" in {f.name for f in fields(asked)} else {}
    return asked(**PARAMETERS.get(name, {}), **given)


def guessing(model: Model, folder: Path) -> str:
    """A folder of random predictors of all layers; "" for a model whose states cannot be predicted."""
    if not model.anatomy.family.causal:
        return ""
    design, width = Design(heads=1, head_dim=4), model.anatomy.d_model
    found = {state: Predictor(design, width) for state in range(1, model.anatomy.n_layers + 1)}
    return str(save_predictors(folder, Predictors(found)))


def missing_cells(analysis: str, name: str, anatomy: Anatomy) -> np.ndarray | bool:
    """Where a measurement has no value by the nature of the model."""
    causal, post_norm = anatomy.family.causal, anatomy.family.post_norm
    layers = anatomy.layers
    if analysis == "minimal_pairs":  # masked models guess every token of a sentence too
        return False
    if (
        "cross_entropy" in name or name in ("perplexity", "outcome", "loss_increase", *UNTRUE)
    ) and not causal:
        return True
    if name.startswith("gate"):  # these runs have no other lens than the logit lens
        return True
    if analysis == "layer_skip":
        return missing_skips(name, anatomy)
    if name == "write_cosine":  # a layer is compared with later ones
        return np.tril(np.ones((len(layers), len(layers)), bool))
    if name == "repeat_cosine":  # no block of these models runs twice
        return np.array([True, False])
    if analysis == "residual_contribution":
        none = np.array([[post_norm or not x.mixers(), post_norm or x.mlp is None, False] for x in layers])
        writer = name.partition("_")[0]
        if "sublayer" in MEASUREMENTS[analysis][name][0]:
            return none[..., None] if name == "mode_share" else none
        return none[:, 0] if writer == "attention" else none[:, 1] if writer == "mlp" else False
    if analysis == "head_patterns":
        absent = np.array([[x.attn is None] * anatomy.n_heads for x in layers])
        return absent[..., None] if name == "offset_profile" else absent
    return False


def missing_skips(name: str, anatomy: Anatomy) -> np.ndarray | bool:
    """Sublayers that a layer lacks, layers before the skipped one, and the future of an encoder."""
    if name.startswith(("future", "sublayer_future")) and not anatomy.family.causal:
        return True
    lacking = np.array([[not x.mixers(), False, x.mlp is None] for x in anatomy.layers])
    earlier = np.tril(np.ones((anatomy.n_layers, anatomy.n_layers), bool), -1)
    if name.startswith("sublayer_"):
        return earlier[:, :, None] | lacking[:, None, ::2]
    if name in PAIRS:
        return earlier
    return lacking if "sublayer" in MEASUREMENTS["layer_skip"][name][0] else False


def check(analysis: str, name: str, found: Measurement, anatomy: Anatomy) -> None:
    axes, unit = MEASUREMENTS[analysis][name]
    where = f"{anatomy.name} {analysis}/{name}"
    assert tuple(found.axes) == axes, where
    assert found.unit == unit, where
    for axis in set(axes) & set(SIZES) if (analysis, name) not in OWN_LABELS else ():
        assert len(found.axes[axis]) == SIZES[axis](anatomy), where
    absent = np.isnan(found.value)
    if (analysis, name) not in BY_DATA:
        np.testing.assert_array_equal(
            absent, np.broadcast_to(missing_cells(analysis, name, anatomy), absent.shape), where
        )
    assert bool(found.missing) >= bool(absent.any()), where
    assert np.isfinite(found.value[~absent]).all(), where
    check_interval(found, where)


def check_interval(found: Measurement, where: str) -> None:
    if found.n is not None:
        assert found.n_items is not None
        assert (found.n <= len(TEXTS)).all(), where
        assert (found.n <= found.n_items).all(), where
        assert ((found.n > 0) | np.isnan(found.value)).all(), where
    if found.low is not None and found.high is not None:
        known = ~np.isnan(found.low)
        rounding = 1e-9 * np.abs(found.value[known])
        assert (found.low[known] <= found.value[known] + rounding).all(), where
        assert (found.value[known] <= found.high[known] + rounding).all(), where


def results(run: Run) -> Iterator[tuple[str, str, Measurement]]:
    for analysis in run:
        for name, found in run[analysis].findings.measurements.items():
            yield analysis, name, found


@pytest.fixture
def signatures(request: pytest.FixtureRequest) -> None:
    """Shapes in signatures are checked in the runs of TYPED only."""
    if request.getfixturevalue("family") in TYPED:
        request.getfixturevalue("signatures_checked")


@pytest.mark.usefixtures("signatures")
@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.slow] * (name in ALIKE)) for name in READERS]
)
def test_every_family_answers_every_analysis_or_refuses_it_with_the_reason(
    family: str, tmp_path: Path
) -> None:
    held(family, list(ANALYSES), tmp_path)


@pytest.mark.usefixtures("signatures")
@pytest.mark.parametrize("family", ALIKE)
def test_every_family_answers_the_first_analyses_or_refuses_them(family: str, tmp_path: Path) -> None:
    held(family, list(FIRST), tmp_path)


def held(family: str, names: list[str], tmp_path: Path) -> None:
    """One audit with these analyses holds what the tables say; the rest of them is refused with the reason."""
    model = tiny(family, torch.float32)
    answered = [name for name in names if (family, name) not in REFUSALS]
    predictor = guessing(model, tmp_path / "predictor")
    asked = [made(name, predictor) for name in answered]
    run = audit(model, asked, out=tmp_path / "run", text=TEXTS, tokens=240, window=24)
    assert set(run) == set(answered)
    for analysis, name, found in results(run):
        check(analysis, name, found, model.anatomy)
    for analysis in answered:
        assert set(run[analysis].findings.measurements) == set(MEASUREMENTS[analysis])
    for refused in set(names) - set(answered):
        with pytest.raises(Refused) as reason:
            audit(model, [made(refused)], out=tmp_path / refused, text=TEXTS, tokens=240, window=24)
        assert str(reason.value).endswith(f": {REFUSALS[family, refused]}")
        assert not (tmp_path / refused).exists()


@pytest.mark.parametrize("family", OTHERS)
def test_a_model_that_reads_no_text_refuses_an_audit_with_the_reason(family: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="reads image, it has no tokenizer; an audit reads text"):
        audit(tiny(family), ["corpus_statistics"], out=tmp_path / "run", text=TEXTS)
    assert not (tmp_path / "run").exists()


def test_every_analysis_of_the_registry_is_in_the_contract() -> None:
    new = set(ANALYSES) - set(MEASUREMENTS)
    assert not new, (
        f"add the measurements of {sorted(new)} to MEASUREMENTS of contract_tables.py, name -> (axes, unit)"
    )
    gone = set(MEASUREMENTS) - set(ANALYSES)
    assert not gone, f"{sorted(gone)} stand in MEASUREMENTS, the registry has no such analysis"
    assert set(FIRST) <= set(MEASUREMENTS)


def test_every_refusal_of_the_contract_names_a_family_and_an_analysis() -> None:
    assert {family for family, _ in REFUSALS} <= set(READERS)
    assert {analysis for _, analysis in REFUSALS} <= set(ANALYSES)


NEEDS_AN_UNEMBEDDING = {
    "logit_lens": "it has no unembedding, so its states cannot be decoded to tokens",
    "settle_depth": "it has no unembedding, so there is no prediction to settle",
    "layer_skip": "it has no unembedding, so the effect of a skip on the output cannot be measured",
}


def test_a_model_without_an_unembedding_is_told_which_analyses_need_one(tmp_path: Path) -> None:
    model = without_unembedding()
    for name, reason in NEEDS_AN_UNEMBEDDING.items():
        with pytest.raises(Refused) as refusal:
            audit(model, [name], out=tmp_path / name, text=TEXTS, tokens=240, window=24)
        assert str(refusal.value) == f"{name} cannot run on {model.name}: {reason}"
    run = audit(model, None, out=tmp_path / "run", text=TEXTS, tokens=240, window=24)
    assert dict(run.manifest["refused"]) == NEEDS_AN_UNEMBEDDING
    assert set(run) == set(FIRST) - set(NEEDS_AN_UNEMBEDDING)


def without_unembedding() -> Model:
    """The base of a gpt2: states, but no head."""
    family = FAMILIES["gpt2"]
    torch.manual_seed(0)
    return assembled(transformers.GPT2Model(transformers.GPT2Config(**family.tiny)).eval(), family, "gpt2")


@pytest.mark.parametrize("name", list(ANALYSES))
def test_every_analysis_says_what_it_asks_how_and_what_misleads(name: str) -> None:
    words = Text.of(ANALYSES.docstring(name))
    assert words.question.endswith("?")
    assert all(
        len(part) > 30 for part in (words.method, words.how_to_read, words.what_misleads, words.source)
    )
