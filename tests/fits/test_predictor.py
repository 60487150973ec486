"""Predictors trained: each state for itself, resumed bit for bit, nothing of a token kept, wrong requests refused."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from depthscope.engine.journal import Journal
from depthscope.engine.reading import Reading
from depthscope.engine.study import Work
from depthscope.errors import BadInput, EmptyMaterial, NonFinite, Refused, UnknownName
from depthscope.fits import predictor_training
from depthscope.fits.checkpoint import Checkpoint
from depthscope.fits.predictor import PredictorFit, chosen_layers
from depthscope.fits.predictor_baselines import NAMES
from depthscope.fits.predictor_course import Course
from depthscope.fits.predictor_sums import Scale
from depthscope.fits.predictor_training import Training
from depthscope.materials.reserved import place
from depthscope.results.measurement import Measurement
from depthscope.runtime.model import Model
from depthscope.runtime.predictor import ROBUST, Predictor, Predictors, load_predictors, novelty
from depthscope.runtime.tiny import tiny

SHORT = {"steps": 4, "rows": 2, "lr": 1e-3, "check": 2, "save": 2}
LAYERS = (1, 3)


def work_of(model: Model, folder: Path, texts: Sequence[str], window: int = 24, tokens: int = 1152) -> Work:
    windows = Reading(list(texts), tokens=tokens, window=window).windows(model)
    kind, units = windows.units()
    return Work(model, windows, units, kind, Journal(folder / "journal", "m", windows.hash), folder)


def fitted(
    model: Model, folder: Path, texts: Sequence[str], **how: object
) -> tuple[Predictors, dict[str, Measurement]]:
    asked = {
        "layers": LAYERS,
        "course": SHORT,
        "closed": 480,
        "held_out": 0.2,
        "evaluate": 240,
        "curve": 48,
        **how,
    }
    found = PredictorFit(**asked).run(work_of(model, folder, texts))  # pyright: ignore[reportArgumentType]
    return load_predictors(folder, model), dict(found.measurements)


@pytest.fixture(scope="module")
def texts() -> tuple[str, ...]:
    from tests.fits.conftest import TEXTS

    return TEXTS


@pytest.fixture(scope="module")
def done(model: Model, texts: Sequence[str], tmp_path_factory: pytest.TempPathFactory):
    """Two layers with a variance, and the folder."""
    folder = tmp_path_factory.mktemp("predictor")
    return *fitted(model, folder, texts, design={"variance": True}), folder


def same(a: Predictors, b: Predictors, state: int) -> None:
    one, other = a.at(state).state_dict(), b.at(state).state_dict()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0, atol=0)


def test_a_state_is_trained_as_it_is_alone(model: Model, texts: Sequence[str], done, tmp_path: Path):
    """One teacher pass serves both; what else is trained beside a state changes no bit of it."""
    alone, _ = fitted(model, tmp_path, texts, design={"variance": True}, layers=(1,))
    same(done[0], alone, 2)


def test_a_killed_training_goes_on_bit_for_bit(
    model: Model, texts: Sequence[str], done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    step = Training._step

    def until_three(self: Training) -> None:
        if self.step == 3:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_step", until_three)
        with pytest.raises(KeyboardInterrupt):
            fitted(model, tmp_path, texts, design={"variance": True})
    usable = load_predictors(tmp_path, model)
    assert usable.card["training"] == {"step": 2, "of": 4}
    resumed, measured = fitted(model, tmp_path, texts, design={"variance": True})
    for state in (2, 4):
        same(done[0], resumed, state)
    for name, found in done[1].items():
        np.testing.assert_array_equal(found.value, measured[name].value)
    assert not list((tmp_path / "journal").glob("*.safetensors"))


def test_a_batch_in_groups_of_rows_has_the_loss_and_the_gradient_of_the_whole(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Five rows one by one and together; a quarter of the targets are left out, and one of them is infinite."""
    torch.manual_seed(0)
    stream, net = torch.randn(5, 9, 8), Predictor(ROBUST, 8)
    torch.nn.init.normal_(net.blocks[0].out.weight)  # pyright: ignore[reportArgumentType]
    stream[2, 8] = torch.inf
    scale = {1: Scale(torch.zeros(8), torch.ones(8), 1.0, float("inf"))}
    course = Course(steps=1, skip_first=3)
    kept = Checkpoint(Journal(tmp_path, "m", "d"), "training", {})
    training = Training(model, [], [], course, {1: net}, scale, kept, 0, print, print)
    found = []
    for tokens in (1, 1000):
        monkeypatch.setattr(predictor_training, "TOKENS", tokens)
        net.zero_grad()
        found.append([*training._slope(1, net, stream), *(p.grad for p in net.parameters())])
    for one, together in zip(*found, strict=True):
        torch.testing.assert_close(one, together, rtol=1e-4, atol=1e-6)
    fine = torch.isfinite(stream[:, 3:]).all(-1)
    errors = (stream[:, 3:] - net(stream[:, :-1])[:, 2:])[fine]
    torch.testing.assert_close(found[0][1], errors.square().mean(), rtol=1e-5, atol=0)


def test_training_brings_the_error_down_and_the_curves_say_so(model: Model, tmp_path: Path):
    """Texts of two letters in turn: every state follows from the one before, and the mean says nothing of it."""
    texts = [letters * 30 for letters in ("ab", "cd", "ef") * 5]
    course = {**SHORT, "steps": 16, "rows": 2, "lr": 3e-3, "check": 8, "save": 16}
    _, found = fitted(model, tmp_path, texts, course=course, design={"residual": "none"})
    curve = found["curve_mse"].select(variant="eval")
    assert curve.axes["step"].tolist() == [0, 8, 16]
    assert (curve.value[:, -1] < curve.value[:, 0]).all()
    for layer in LAYERS:
        known = found["guess_r2"].at(layer=layer, variant="predictor")
        assert known > found["guess_r2"].at(layer=layer, variant="mean") + 0.3


def test_every_guess_stands_beside_the_predictor(done):
    _, found, _ = done
    beside, gain = found["guess_r2"], found["gain"]
    assert beside.axes["variant"].tolist() == ["predictor", *NAMES]
    np.testing.assert_allclose(gain.value, beside.value[:, :1] - beside.value[:, 1:])
    np.testing.assert_allclose(beside.value[:, 0], found["r2"].value[:, 0])
    assert (gain.low <= gain.value).all()
    assert (gain.value <= gain.high).all()
    assert found["restricted_r2"].value.shape == (2, 4, 4)
    np.testing.assert_allclose(found["restricted_r2"].value[:, 0], found["r2"].value)


def judged_windows(model: Model, texts: Sequence[str], fit: PredictorFit, folder: Path):
    from depthscope.fits.predictor_judge import Parts

    return Parts.of(work_of(model, folder, texts), fit.held_out, fit.evaluate, None)


def stream_by_transformers(model: Model, ids: torch.Tensor, state: int) -> torch.Tensor:
    """hidden_states of transformers; state 2 of 4, so no final norm is near."""
    with torch.no_grad():
        return model.net(ids, output_hidden_states=True).hidden_states[state]


def test_guesses_are_what_scikit_learn_and_plain_means_give(
    model: Model, texts: Sequence[str], tmp_path: Path
):
    """The R2 of ridge, copy and mean on held-out text, done again from the windows alone."""
    fit = PredictorFit(layers=(1,), course=SHORT, closed=480, held_out=0.2, evaluate=240, curve=48)
    work = work_of(model, tmp_path, texts)
    parts = judged_windows(model, texts, fit, tmp_path)
    scale, guesses, _ = fit._closed(work, parts, (2,), lambda _: None)  # pyright: ignore[reportArgumentType]
    first = fit._first(parts, fit.closed, 0)
    back = max(1, len(first) // 10)
    stream = stream_by_transformers(model, torch.tensor([w.ids for w in first[:-back]]), 2).double()
    size = (stream - scale[2].mean) / scale[2].deviation
    x = size * (4 / size.square().mean(-1, keepdim=True).sqrt().clamp_min(4))
    y = (stream[:, 1:] - scale[2].mean) / scale[2].unit
    x, y = (part[:, 3:].reshape(-1, stream.shape[2]).numpy() for part in (x[:, :-1], y))
    penalty = guesses[2].penalties["ridge"] * ((x - x.mean(0)) ** 2).sum() / x.shape[1]
    expected = Ridge(alpha=penalty).fit(x, y)
    weights = guesses[2].tensors["ridge"].double().numpy()
    width = x.shape[1]
    np.testing.assert_allclose(weights[:width], expected.coef_.T, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(weights[-1], expected.intercept_, rtol=1e-3, atol=1e-4)
    assert not weights[width:-1].any()


def test_judged_numbers_are_those_of_the_saved_predictors(
    model: Model, texts: Sequence[str], done, tmp_path: Path
):
    predictors, found, _ = done
    fit = PredictorFit(held_out=0.2, evaluate=240)
    parts = judged_windows(model, texts, fit, tmp_path)
    ids = torch.tensor([w.ids for w in parts.judged])
    stream = stream_by_transformers(model, ids, 2)
    h, guess = stream[:, 1:].double(), predictors.at(2)(stream)[:, :-1].double()
    about = (h - h.mean((0, 1))).square().sum()
    r2 = 1 - float((h - guess).square().sum() / about)
    np.testing.assert_allclose(found["r2"].at(layer=1, definition="dim"), r2, rtol=1e-4)
    np.testing.assert_allclose(
        found["mse"].at(layer=1, variant="copy"), float((h - stream[:, :-1]).square().mean())
    )
    nats = novelty(predictors.at(2), stream)
    np.testing.assert_allclose(found["nats"].at(layer=1), float(nats.given_past.mean()), rtol=1e-4)
    known = float((nats.marginal - nats.given_past).mean())
    np.testing.assert_allclose(found["known_nats"].at(layer=1), known, rtol=1e-3)


def test_nothing_that_grows_with_the_text_is_written(model: Model, texts: Sequence[str], tmp_path: Path):
    """Twice the steps over twice the text: weights of the same bytes, and checkpoints gone."""
    sizes = []
    for k, tokens in enumerate((480, 1152)):
        folder = tmp_path / str(k)
        course = {**SHORT, "steps": 4 * (k + 1)}
        fit = PredictorFit(layers=(1,), course=course, closed=240, held_out=0.2, evaluate=48, curve=48)
        fit.run(work_of(model, folder, texts, tokens=tokens))
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert {path.suffix for path in files} == {".json", ".safetensors"}
        sizes.append(sum(path.stat().st_size for path in files if path.suffix == ".safetensors"))
    assert sizes[0] == sizes[1]


def test_losses_that_are_not_finite_end_the_training(texts: Sequence[str], tmp_path: Path):
    model = tiny("gpt2", torch.float32)
    course = {**SHORT, "steps": 9, "lr": 1e30, "warmup": 0, "floor": 0.0}
    with pytest.raises(NonFinite, match="robust preset"):
        fitted(model, tmp_path, texts, course=course, preset="paper")


def test_the_rate_rises_and_falls_along_a_cosine():
    course = Course(steps=100, lr=1.0, floor=0.2, warmup=1000)
    assert [course.rate(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert course.rate(55) == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert course.rate(100) == pytest.approx(0.2)
    timed = Course(steps=100, lr=1.0, floor=0.2, warmup=0, minutes=2.0)
    assert timed.rate(0, seconds=120.0) == pytest.approx(0.2)
    assert [timed.over(5, 119.0), timed.over(5, 120.0), timed.over(100, 0.0)] == [False, True, True]


def test_layers_are_those_asked_for_or_five_along_the_depth(model: Model):
    deep = tiny("llama", torch.float32, num_hidden_layers=30, hidden_size=8, intermediate_size=8)
    assert chosen_layers(deep, ()) == (0, 7, 15, 22, 29)
    assert chosen_layers(model, (3, 1, 3)) == (1, 3)
    with pytest.raises(BadInput, match=r"\[4\] do not exist.*layers 0 to 3"):
        chosen_layers(model, (0, 4))


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"preset": "robst"}, UnknownName, "did you mean 'robust'"),
        ({"design": {"head": 2}}, UnknownName, "'heads'"),
        ({"course": {"step": 2}}, UnknownName, "'steps'"),
        ({"course": {"steps": 0}}, BadInput, "steps=0 must be 1 or more"),
        ({"held_out": 0.6}, BadInput, "held_out"),
    ],
)
def test_requests_that_mean_nothing_are_refused(how: dict, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        PredictorFit(**how)


def test_a_text_without_two_full_windows_is_refused(model: Model, texts: Sequence[str], tmp_path: Path):
    with pytest.raises(BadInput, match="1 full window of 60"):
        PredictorFit().run(work_of(model, tmp_path, ["x" * 60, "y" * 30], window=60))


def test_a_model_that_sees_both_sides_is_refused(texts: Sequence[str], tmp_path: Path):
    with pytest.raises(Refused, match="both sides"):
        PredictorFit().run(work_of(tiny("bert", torch.float32), tmp_path, texts))


def test_three_tenths_of_all_texts_are_reserved_whatever_they_are_called(model: Model, tmp_path: Path):
    many = [f"document number {k} speaks of nothing in particular" for k in range(400)]
    share = np.mean([place(text) >= 0.7 for text in many])
    assert abs(share - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 400)
    assert place("a") == place(" a\n")
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": t, "id": t[:20]}) + "\n" for t in many))
    given, files = (
        Reading(source, tokens=10**6, window=64, reserve=0.3).windows(model) for source in (many, tmp_path)
    )
    assert [w.ids for w in given.items] == [w.ids for w in files.items]
    assert given.source == "given texts, 30% of the documents reserved"
    assert len(given.items) == sum(place(text) < 0.7 for text in many)
    with pytest.raises(EmptyMaterial, match="reserved"):
        Reading([max(many, key=place)], window=64, reserve=0.3).windows(model)
