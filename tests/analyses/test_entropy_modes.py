"""A model with one massive token: prompts with it have a mode of their own, and only until it is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from formulas import Plain, numbers
from planted import SLOT, V, at_token, axis, constant, look, planted, rising
from test_extreme_inputs import entropy

from depthscope.analyses.entropy_modes import EntropyModes
from depthscope.engine.audit import audit
from depthscope.engine.mode_findings import without_length
from depthscope.errors import BadInput
from depthscope.results.result import Result
from depthscope.runtime.tiny import tiny

MASSIVE = 3 + ord("G") % (V - 3)
"""The id of G, and of a newline: both are 10 modulo 61."""
ROWS, LENGTH = 102, 60


def spelled(draw: np.random.Generator, kinds: int, start: str) -> str:
    """Letters other than G, of so many kinds, behind a start."""
    letters = draw.permutation(list("HIJKLMNOPQRSTUVWXYZabcdefghijklm"))[:kinds]
    return start + "".join(draw.choice(letters, LENGTH - len(start)))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A third of the prompts begin with the massive token."""
    draw = np.random.default_rng(0)
    starts = ["G" if k % 3 == 0 else "" for k in range(ROWS)]
    rows = [{"text": spelled(draw, 6 + k % 14, s), "kind": s or "X"} for k, s in enumerate(starts)]
    path = tmp_path_factory.mktemp("prompts") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


@pytest.fixture(scope="module")
def found(prompts: str, tmp_path_factory: pytest.TempPathFactory) -> Result:
    model = planted({0: at_token(MASSIVE, constant(axis(SLOT.start, 1e4)))}, 2)
    analysis = EntropyModes(prompts, ROWS, 63, whole=True, label="kind", draws=50)
    return look(model, analysis, tmp_path_factory.mktemp("run"), rising(2))


def test_a_massive_token_makes_two_modes_that_leave_with_it(found: Result):
    for state, mode, expected in ((0, "wei", 0), (1, "wei", 1), (2, "wei", 1), (2, "wei_no_massive", 0)):
        for kind in ("plain", "length_removed"):
            assert found["bimodal"].at(state=state, mode=mode, variant=kind) == expected, (state, mode)
    assert found["minor_weight"].at(state=1, mode="wei", variant="plain") == pytest.approx(1 / 3, abs=1e-6)
    assert found["ashman_d"].at(state=1, mode="wei", variant="plain") > 5
    assert found["high_share"].at(state=1) == pytest.approx(2 / 3)
    assert found["high_share"].low[1] < 2 / 3 < found["high_share"].high[1]
    limit = found["threshold"].at(state=1, mode="wei", variant="plain")
    assert 0.03 < limit < 0.3
    assert (found["bimodal"].n_items == ROWS).all()
    share = found["histogram"].select(state=1, mode="wei")
    np.testing.assert_allclose(share.value.sum(), 1)
    assert share.value[share.axes["bucket"] < 0.25].sum() == pytest.approx(1 / 3)


def test_what_goes_with_the_mode_is_found_and_what_does_not_is_not(found: Result):
    by = {"label X": 1.0, "label G": 0.0, "massive_count": 0.0, "massive_first": 0.0, "peak_ratio": 0.0}
    for feature, expected in by.items():
        assert found["auc"].at(state=1, feature=feature) == expected, feature
        assert found["auc_q"].at(state=1, feature=feature) < 1e-9
    assert 0.3 < found["auc"].at(state=1, feature="type_token_ratio") < 0.7
    assert np.isnan(found["auc"].select(state=0).value).all()
    for name in ("logistic_auc", "tree_auc"):
        assert found[name].at(state=2) == 1
        assert np.isnan(found[name].at(state=0))
    assert found["mode_agreement"].at(state=1, other_state=2) == 1
    assert found["feature_correlation"].at(state=0, feature="type_token_ratio") > 0.5
    exemplars = found.findings.examples["exemplars"].columns
    assert set(exemplars["label"][exemplars["side"] == "low"]) == {"G"}
    assert len(exemplars["text"]) == 10


def test_changes_flip_the_mode_as_they_must(found: Result):
    flips = {(v, b): found["flip_share"].at(state=1, variant=v, bucket=b)
             for v in ("newline", "drop_first", "equal_length") for b in ("low", "high")}  # fmt: skip
    # the newline is massive too; the first token of the low prompts is what made them so
    assert flips == {
        ("newline", "low"): 0, ("newline", "high"): 1, ("drop_first", "low"): 1, ("drop_first", "high"): 0,
        ("equal_length", "low"): 0, ("equal_length", "high"): 0,
    }  # fmt: skip


def test_entropies_losses_and_signs_equal_those_of_states_computed_by_hand(tmp_path: Path):
    model, analysis = tiny("llama", torch.float64, seed=2), EntropyModes(prompts=5, longest=14)
    result = audit(
        model, [analysis], out=tmp_path / "run", text=["nobody looks at this text"], tokens=99, window=24
    )
    found = result["entropy_modes"]
    plain = Plain(model.net, "llama")
    material = analysis.needs(model.anatomy).material
    assert material is not None
    passes = [
        plain.run(list(w.ids)) for w in material.windows(model, 0).items if w.about["variant"] == "as_is"
    ]
    for mode, skip in (("wei", 0), ("wei_no_first", 1)):
        hand = np.mean([[entropy(numbers(s)[skip:])[1] for s in p.states] for p in passes], 0)
        np.testing.assert_allclose(found["entropy"].select(mode=mode).value, hand, rtol=1e-6)
    assert "5 prompts where 100 are needed" in found["bimodal"].missing
    assert any("No verdict" in note for note in found.findings.notes)


def test_what_length_explains_is_taken_away():
    tokens = np.array([10.0, 20.0, 40.0, 80.0, 20.0])
    noise = np.array([0.1, -0.1, 0.0, 0.1, -0.1])
    values = np.stack([0.3 * np.log(tokens) + noise, np.ones(5)], 1)
    slope, start = np.polyfit(np.log(tokens), values[:, 0], 1)
    rest = values[:, 0] - slope * np.log(tokens) - start + values[:, 0].mean()
    np.testing.assert_allclose(without_length(values, tokens), np.stack([rest, np.ones(5)], 1))
    np.testing.assert_array_equal(without_length(values, np.full(5, 9.0)), values)


def test_an_encoder_has_modes_but_no_loss(tmp_path: Path):
    result = look(tiny("bert"), EntropyModes(prompts=9, longest=20), tmp_path, rising(2))
    assert np.isnan(result["feature_correlation"].select(feature="loss").value).all()
    assert np.isfinite(result["entropy"].value).all()


@pytest.mark.parametrize(("given", "words"), [({"draws": 0}, "draws=0"), ({"prompts": 0}, "prompts=0")])
def test_wrong_parameters_are_told(given: dict, words: str):
    with pytest.raises(BadInput, match=words):
        EntropyModes(**given)
