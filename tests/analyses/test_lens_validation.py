"""Lens validation on lenses that are told to say a token, and against plain formulas with random ones."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import formulas
import numpy as np
import pytest
import torch
from formulas import Plain
from planted import SAID, WIDTH, planted, rising, text_of, the_answer, value
from test_lens_quality import EDGES, TEXTS, lens_of, read_by

from depthscope.analyses.lens_quality import LensQuality
from depthscope.analyses.lens_validation import CONVERGENCE, EVIDENCE, LensValidation, token_set
from depthscope.engine.audit import audit
from depthscope.engine.view import View
from depthscope.errors import BadInput
from depthscope.results.result import Result
from depthscope.runtime.lens import LOGIT, Lens
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

LAYERS = 6
COMMON = 40


def saying(name: str, token: int, size: float = 50.0) -> Lens:
    """A lens that hears nothing else than one token, at every state but the last."""
    bias = torch.zeros(LAYERS, WIDTH)
    bias[:, SAID.start + token] = size
    return Lens("planted", name, torch.zeros(LAYERS, WIDTH, WIDTH), bias)


@pytest.fixture(scope="module")
def late() -> Model:
    """A model that says the answer in its last layer only."""
    return planted({5: the_answer(10.0)})


def texts() -> list[str]:
    """Rising texts that also hold one token more often than any other, once after the token that it follows."""
    return [text + text_of([COMMON - 1, *[COMMON] * 11]) for text in rising(length=12, step=1)]


def look(model: Model, analysis: LensValidation, out: Path, lenses: list[Lens]) -> Result:
    with mock.patch("depthscope.engine.audit.verify", return_value=()):
        run = audit(model, [analysis], out=out / "run", text=texts(), tokens=10**6, window=24, lens=lenses)
    (result,) = run.values()
    return result


def test_a_lens_that_says_only_the_commonest_token_has_all_its_tops_in_the_set(
    late: Model, tmp_path: Path
) -> None:
    result = look(
        late, LensValidation(edges=(1, 9)), tmp_path, [saying("common", COMMON), saying("other", 50)]
    )
    assert result["mass"].axes["lens"].tolist() == ["logit", "common", "other"]
    share, states = value(result, "set_share"), slice(0, LAYERS)
    np.testing.assert_array_equal(share[1, states], 1)
    np.testing.assert_array_equal(share[2, states], 0)
    np.testing.assert_array_equal(value(result, "top1_share")[1, states], [[1, 0, 0]] * LAYERS)
    assert (value(result, "mass")[1, states, 0] > 0.99).all()
    assert (value(result, "mass_above_final")[1, states, 0] > 0.4).all()
    assert value(result, "converged_share")[1] == 0


def test_what_is_retained_is_measured_against_the_first_lens_given(late: Model, tmp_path: Path) -> None:
    result = look(late, LensValidation(), tmp_path, [saying("common", COMMON), saying("other", 50)])
    retained = value(result, "set_share_retained")
    np.testing.assert_array_equal(retained[1], 1)
    np.testing.assert_array_equal(retained[2, :LAYERS], 0)
    np.testing.assert_allclose(retained[0, :LAYERS], value(result, "set_share")[0, :LAYERS])
    # the model is sure of the answer, so the lens that says something else everywhere is far from it
    np.testing.assert_array_equal(value(result, "kl_off_set_difference")[1], 0)
    assert (value(result, "kl_on_set_difference")[2, :LAYERS] > 1).all()
    turned = look(late, LensValidation(), tmp_path / "b", [saying("other", 50), saying("common", COMMON)])
    assert np.isnan(value(turned, "set_share_retained")[2, :LAYERS]).all()
    assert "never" in turned["set_share_retained"].missing


def test_positions_split_by_what_the_model_says_in_the_end(late: Model, tmp_path: Path) -> None:
    result = look(late, LensValidation(), tmp_path, [LOGIT])
    on, off = result["kl_on_set"].n_items, result["kl_off_set"].n_items
    assert on is not None
    assert off is not None
    # the model says the next id, so COMMON at one position of each text: the one where COMMON - 1 stands
    assert set(on.ravel().tolist()) == {10}
    assert set(off.ravel().tolist()) == {10 * 21}


def test_the_notes_say_what_is_a_test_of_convergence_and_what_is_evidence(
    late: Model, tmp_path: Path
) -> None:
    notes = look(late, LensValidation(positions=8), tmp_path, [LOGIT]).findings.notes
    assert CONVERGENCE in notes
    assert EVIDENCE in notes
    assert notes[0].startswith("Only the logit lens")
    assert any(note.startswith("The set F is ") for note in notes)


def test_the_table_of_tokens_holds_each_token_under_each_lens(late: Model, tmp_path: Path) -> None:
    result = look(late, LensValidation(top=4), tmp_path, [saying("common", COMMON)])
    table = result.findings.examples["tokens"].columns
    assert len(table["mass"]) == 2 * (LAYERS + 1) * 4
    first = (table["rank"] == 1) & (table["state"] == 0) & (table["lens"] == "common")
    assert table["token_id"][first] == COMMON
    assert table["mass"][first] > 0.99
    last = table["state"] == LAYERS
    np.testing.assert_array_equal(table["mass"][last], table["final_mass"][last])


def test_words_are_found_in_every_form_that_is_one_token() -> None:
    tokenizer = tiny("llama").tokenizer
    one = token_set(tokenizer, "a")
    assert one.tolist() == sorted(tokenizer.encode(x, add_special_tokens=False)[0] for x in ("a", "A"))
    assert token_set(tokenizer, "a, b").tolist() == sorted({*one, *token_set(tokenizer, "b")})
    for wrong in ("the", "a,", ","):
        with pytest.raises(BadInput, match="is one token"):
            token_set(tokenizer, wrong)


@pytest.mark.parametrize("wrong", [{"positions": 0}, {"top": 0}, {"edges": ()}])
def test_parameters_that_mean_nothing_are_refused(late: Model, wrong: dict, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        look(late, LensValidation(**wrong), tmp_path, [LOGIT])


def test_two_analyses_that_compare_lenses_share_their_decodes(late: Model, tmp_path: Path) -> None:
    calls: list[str] = []
    decode = View.decode

    def counting(self: View, *args: object, **kw: object) -> object:
        calls.append(str(kw["lens"]))
        return decode(self, *args, **kw)  # pyright: ignore[reportArgumentType]

    lenses = [saying("common", COMMON), lens_of("same", {})]
    with (
        mock.patch("depthscope.engine.audit.verify", return_value=()),
        mock.patch.object(View, "decode", counting),
    ):
        audit(
            late, [LensQuality(), LensValidation()], out=tmp_path / "run", text=texts()[:8], tokens=10**6, window=24,
            lens=lenses,
        )  # fmt: skip
    assert len(calls) == 3


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_every_curve_equals_its_formula(kind: str, tmp_path: Path) -> None:
    model = tiny(kind, torch.float64, seed=3)
    layers, width = model.anatomy.n_layers, model.anatomy.d_model
    torch.manual_seed(1)
    maps = 0.1 * torch.randn(layers, width, width), 0.3 * torch.randn(layers, width)
    asked = LensValidation(positions=50, edges=EDGES, words="t,a,o,e,5,s,x,1")
    run = audit(
        model,
        [asked],
        out=tmp_path / "run",
        text=TEXTS,
        tokens=400,
        window=32,
        lens=[Lens("ridge", "r", *maps), LOGIT],
    )
    ids, at = read_by(run, 50)
    plain = Plain(model.net, kind)
    passes = [plain.run(row) for row in ids]
    lenses = [formulas.lens_of(plain, passes, ids, at), formulas.lens_of(plain, passes, ids, at, maps)]
    chosen = set(token_set(model.tokenizer, asked.words).tolist())
    for name, each in formulas.lens_validation(lenses, 1, chosen, ids, EDGES).items():
        found = value(run["lens_validation"], name)
        finite = np.where(np.isfinite(each), each, np.nan)
        np.testing.assert_allclose(found, finite, rtol=1e-7, atol=1e-9, err_msg=name)
