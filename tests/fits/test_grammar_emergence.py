"""Grammar in training: planted curves set in where they were planted, and a tiny training goes from end to end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from depthscope.engine.reading import Reading
from depthscope.engine.study import conduct
from depthscope.engine.tally import PerDocument
from depthscope.errors import BadInput, RunMismatch
from depthscope.fits.agreement_training import AgreementCourse, AgreementTraining, word_tokenizer
from depthscope.fits.grammar_emergence import CURVES, GrammarEmergence, enough, findings
from depthscope.runtime.load import load

STEPS = [0, 1, 3, 7, 15, 31, 63, 127]
UNITS = [f"u{k:02d}" for k in range(40)]


def sums(level: float, seed: int) -> PerDocument:
    hits = np.random.default_rng(seed).random(len(UNITS) * 20) < level
    return PerDocument.of([u for u in UNITS for _ in range(20)], hits.astype(float))


def planted(structure: int, capability: int) -> list[dict[str, PerDocument]]:
    """Curves that are flat up to a checkpoint and then rise by a fifth at each."""

    def rising(at: int, k: int) -> float:
        return min(0.95, 0.1 + 0.25 * max(0, k - at))

    found: list[dict[str, PerDocument]] = []
    for k in range(len(STEPS)):
        loss = PerDocument.of(UNITS, np.full(len(UNITS), 5 - 0.5 * max(0, k - 1)))
        heads = {
            name: sums(rising(structure, k), 100 * k + n)
            for n, name in enumerate(("uas", "subject_accuracy"))
        }
        pairs = {
            name: sums(rising(capability, k), 1000 * k + n)
            for n, name in enumerate(("pair_accuracy", "attractor_accuracy"))
        }
        found.append({"loss": loss, **heads, **pairs})
    return found


def test_onsets_are_where_they_were_planted_and_their_order_is_said():
    result = findings(planted(2, 4), STEPS, 0)
    onset = result.measurements["onset"]
    assert onset.axes["score"].tolist() == list(CURVES)
    assert onset.at(score="loss") == STEPS[1]
    assert onset.at(score="subject_accuracy") == STEPS[2]
    assert onset.at(score="attractor_accuracy") == STEPS[4]
    assert "Heads that find the subject set in before agreement" in result.notes[0]
    assert "Agreement across attractors sets in before" in findings(planted(4, 2), STEPS, 0).notes[0]
    assert "not decided" in findings(planted(3, 3), STEPS, 0).notes[0]


def test_curves_have_the_shares_of_each_checkpoint():
    parts = planted(2, 4)
    curve = findings(parts, STEPS, 0).measurements["uas"]
    expected = [p["uas"].sums.sum() / p["uas"].counts.sum() for p in parts]
    np.testing.assert_allclose(curve.value, expected)
    assert curve.axes["step"].tolist() == STEPS
    assert curve.n is not None
    assert set(curve.n.tolist()) == {len(UNITS)}


def test_checkpoints_are_kept_at_equal_factors():
    assert AgreementCourse(steps=100, checkpoints=8).saved() == (0, 1, 2, 5, 10, 22, 46, 100)
    assert AgreementCourse(steps=3, checkpoints=24).saved() == (0, 1, 2, 3)


def test_every_word_of_the_grammar_is_one_token_behind_a_first_one():
    tokenizer = word_tokenizer()
    ids = tokenizer.encode("the dogs sleep .")
    assert ids[0] == 0
    assert len(ids) == 5
    assert 0 not in ids[1:]


TINY = AgreementTraining(16, 1, 2, sentences=120, course=AgreementCourse(steps=3, rows=8, checkpoints=4))


def test_a_training_goes_from_random_weights_to_onsets(
    tmp_path: Path, signatures_unchecked: Callable[[], AbstractContextManager[None]]
):
    folder = TINY.run(tmp_path / "training")
    assert sorted(p.name for p in folder.glob("step-*")) == [f"step-{k:06d}" for k in (0, 1, 2, 3)]
    assert TINY.run(folder) == folder
    with pytest.raises(RunMismatch, match="holds another training"):
        AgreementTraining(16, 1, 2, sentences=121).run(folder)
    study = GrammarEmergence(str(folder), sentences=10, per_paradigm=4, fewest=1)
    model = load(study.saved()[-1].where, dtype="float32")
    reading = Reading(["text " * 64] * 8, tokens=256, window=32)
    with (
        signatures_unchecked(),
        mock.patch("depthscope.engine.audit.verify", return_value=()),
        mock.patch("depthscope.engine.study.verified", return_value=[]),
    ):
        run = conduct("grammar_emergence", study, model, reading, tmp_path / "run")
    found = run["grammar_emergence"]
    assert found["uas"].axes["step"].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(found["loss"].value[0], np.log(131), atol=0.3)
    last = load(study.saved()[-1].where, dtype="float32")
    ids = torch.tensor([word_tokenizer().encode("the dogs sleep .")])
    assert last.net(ids).logits.shape[-1] == 131


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(BadInput, match=r"d_model=10, heads=4: d_model is a multiple of twice the heads"):
        AgreementTraining(10, 2, 4)


def test_a_training_with_too_few_checkpoints_for_an_onset_is_refused_before_it_starts():
    enough([0, 1, 2, 3], "this training")
    with pytest.raises(
        BadInput, match=r"--steps 4 has checkpoints at 3 steps \(0, 1, 4\); an onset needs 4 or more"
    ):
        enough(AgreementCourse(steps=4, checkpoints=2).saved(), "--steps 4")
