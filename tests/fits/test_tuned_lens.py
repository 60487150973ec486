"""The training of a lens: what it reaches, that it resumes to the byte, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from depthscope.engine.reading import Reading
from depthscope.errors import BadInput, NonFinite, UnknownName
from depthscope.fits import training
from depthscope.fits.checkpoint import Checkpoint
from depthscope.fits.ridge_lens import RidgeLens
from depthscope.fits.states import split
from depthscope.fits.study import fit
from depthscope.fits.tuned_lens import TunedLens
from depthscope.fits.watch import Watch
from depthscope.runtime import lens_step
from depthscope.runtime.lens import Lens
from depthscope.runtime.lens_folder import load_lens
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

SHORT: dict[str, Any] = {
    "steps": 4,
    "step_tokens": 96,
    "positions_per_seq": 12,
    "check": 2,
    "gain": 0.0,
    "validate": 12,
}


def studied(reading: Reading, **how: Any) -> TunedLens:
    return TunedLens(reading, evaluate=48, **{**SHORT, **how})


def losses_of(study: TunedLens, model: Model, out: Path) -> list[tuple[int, list[float]]]:
    """What each check said."""
    found: list[tuple[int, list[float]]] = []
    fit(study, model, out, watch=Watch(losses=lambda step, each: found.append((step, list(each)))))
    return found


def curve(lens: Lens, kind: str) -> list[float]:
    return lens.about["quality"]["kl_to_final"][kind]["value"]


@pytest.fixture(scope="module")
def deep() -> Model:
    """Two blocks that change the stream much."""
    found = tiny("llama", torch.float64, num_hidden_layers=2)
    with torch.no_grad():
        for name, value in found.net.named_parameters():
            if "proj" in name:
                value.mul_(4.0)
    return found


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_lens_trained_on_two_blocks_is_closer_at_every_state_and_worse_when_shifted(
    deep: Model, reading: Reading, tmp_path: Path, optimiser: str
):
    lens = fit(
        studied(
            reading,
            optimiser=optimiser,
            steps=40,
            step_tokens=192,
            check=20,
            lr=0.0 if optimiser == "sgd" else 0.01,
        ),
        deep,
        tmp_path,
    )
    logit, tuned = curve(lens, "logit"), curve(lens, "tuned")
    assert all(t < 0.9 * x for t, x in zip(tuned[:-1], logit[:-1], strict=True))
    assert tuned[-1] == pytest.approx(0.0, abs=1e-9)
    assert lens.weight is not None
    assert lens.bias is not None
    states = states_of(deep, reading)
    shifted = Lens("tuned", "shifted", lens.weight.roll(1, 0), lens.bias.roll(1, 0))
    plain, moved = (mean_kl(deep, each(states), states[-1]) for each in (lens, shifted))
    assert (moved[:-1] > plain[:-1]).all()


def states_of(model: Model, reading: Reading) -> torch.Tensor:
    windows = reading.windows(model).items[:6]
    ids = torch.tensor([w.ids for w in windows])
    with torch.no_grad():
        found = [model.net.model.embed_tokens(ids)]
        hooks = [layer.register_forward_hook(keep(found)) for layer in model.net.model.layers]
        model.net(ids)
    for hook in hooks:
        hook.remove()
    return torch.stack(found)[:, :, 1:].flatten(1, 2)


def keep(found: list[torch.Tensor]):
    return lambda *call: found.append(call[-1][0] if isinstance(call[-1], tuple) else call[-1])


def mean_kl(model: Model, states: torch.Tensor, final: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        log_q = model.net.lm_head(model.net.model.norm(states)).log_softmax(-1)
        log_p = model.net.lm_head(model.net.model.norm(final)).log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean(-1)


def test_the_first_check_of_a_zero_lens_is_the_logit_lens(model: Model, reading: Reading, tmp_path: Path):
    step, first = losses_of(studied(reading), model, tmp_path / "a")[0]
    assert step == 0
    other = losses_of(studied(reading, objective="cross_entropy"), model, tmp_path / "b")[0][1]
    assert all(value > 0 for value in first)
    assert all(abs(a - b) > 0.1 for a, b in zip(first, other, strict=True))


def test_training_from_the_ridge_lens_starts_where_the_ridge_lens_is(
    model: Model, reading: Reading, tmp_path: Path
):
    lens = fit(RidgeLens(reading), model, tmp_path / "ridge")
    from_folder = losses_of(studied(reading, init=str(tmp_path / "ridge")), model, tmp_path / "a")
    from_text = losses_of(studied(reading, init="ridge"), model, tmp_path / "b")
    assert from_folder == from_text
    zero = losses_of(studied(reading), model, tmp_path / "c")
    assert sum(from_text[0][1]) < sum(zero[0][1])
    assert lens.kind == "ridge"


def test_one_state_after_the_other_starts_from_the_state_above(
    model: Model, reading: Reading, tmp_path: Path
):
    found = losses_of(studied(reading, init="previous_layer"), model, tmp_path)
    assert [step for step, _ in found] == [0, 2, 4] * model.anatomy.n_layers
    assert all(len(each) == 1 for _, each in found)
    lens = load_lens(tmp_path, model)
    assert [each["states"] for each in lens.about["fit"]["trainings"]] == [[3], [2], [1], [0]]
    assert lens.weight is not None
    assert (lens.weight.flatten(1).norm(dim=1) > 0).all()


class Killed(BaseException):
    """Ends a training as a kill does: nothing of the library catches it."""


@pytest.mark.parametrize(
    ("how", "after"),
    [({}, 1), ({}, 3), ({"optimiser": "adam"}, 3), ({"init": "ridge"}, 4), ({"init": "previous_layer"}, 6)],
    ids=str,
)
def test_a_killed_training_that_is_resumed_gives_the_same_bytes(
    model: Model, reading: Reading, tmp_path: Path, how: dict[str, Any], after: int
):
    study = studied(reading, **how)
    whole = fit(study, model, tmp_path / "whole")
    steps: list[int] = []

    def kill(phase: str, done: int, total: int) -> None:
        steps.append(done)
        if phase == "fit" and len(steps) == after:
            raise Killed

    with pytest.raises(Killed):
        fit(study, model, tmp_path / "killed", watch=Watch(kill))
    assert not (tmp_path / "killed" / "lens.json").exists()
    again: list[int] = []
    resumed = fit(study, model, tmp_path / "killed", watch=Watch(lambda *call: again.append(call[1])))
    assert resumed.identity == whole.identity
    assert resumed.about["quality"] == whole.about["quality"]
    assert resumed.about["fit"] == whole.about["fit"]
    assert not list((tmp_path / "killed" / "journal").glob("*.safetensors"))


def test_a_resumed_training_does_not_repeat_what_was_written(model: Model, reading: Reading, tmp_path: Path):
    def kill(phase: str, done: int, total: int) -> None:
        if done >= 3 * 2 * 48:
            raise Killed

    with pytest.raises(Killed):
        fit(studied(reading), model, tmp_path, watch=Watch(kill))
    said: list[tuple[str, int]] = []
    fit(studied(reading), model, tmp_path, watch=Watch(lambda *call: said.append(call[:2])))
    assert next(done for phase, done in said if phase == "fit") == 3 * 2 * 48


def test_passes_over_a_short_text_are_counted(model: Model, reading: Reading, tmp_path: Path):
    lens = fit(studied(reading), model, tmp_path)
    facts = lens.about["fit"]["trainings"][0]
    assert facts["steps"] == 4
    assert facts["passes"] == pytest.approx(4 * 2 / len(split(reading.windows(model), 0.1, 0).train))
    assert facts["skipped"] == 0
    assert [each["step"] for each in facts["history"]] == [0, 2, 4]


def test_training_ends_where_a_check_gains_too_little(model: Model, reading: Reading, tmp_path: Path):
    lens = fit(studied(reading, steps=40, gain=0.9), model, tmp_path)
    assert lens.about["fit"]["trainings"][0]["steps"] == 2


def test_a_step_that_is_not_finite_skips_its_state_and_the_fifth_ends_the_training(
    model: Model, reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    exact = training.fused_loss
    broken: list[int] = []

    def loss(head: Any, states: Any, goal: Any) -> Any:
        found = exact(head, states, goal)
        if states.requires_grad and len(broken) < limit:
            broken.append(1)
            return found * torch.tensor([1.0, torch.nan, 1.0, 1.0])[:, None]
        return found

    monkeypatch.setattr(training, "fused_loss", loss)
    limit = 2
    lens = fit(studied(reading), model, tmp_path / "few")
    assert lens.about["fit"]["trainings"][0]["skipped"] == 2
    assert lens.weight is not None
    assert torch.isfinite(lens.weight).all()
    broken.clear()
    limit = 100
    with pytest.raises(NonFinite, match=r"5 states was not finite by step 4, the last of states \[1\]"):
        fit(studied(reading, steps=8), model, tmp_path / "many")


def test_masters_are_float32_for_a_model_in_bfloat16(reading: Reading, tmp_path: Path):
    lens = fit(studied(reading), tiny("gpt2", torch.bfloat16), tmp_path)
    assert lens.weight is not None
    assert lens.weight.dtype == torch.float32
    rounded = lens.weight.to(torch.bfloat16).float()
    assert (rounded != lens.weight).any()


@pytest.mark.parametrize("family", ["gemma2", "gpt_neox", "llama"])
def test_soft_capped_and_other_heads_are_trained_too(family: str, reading: Reading, tmp_path: Path):
    lens = fit(studied(reading, steps=24), tiny(family, torch.float32), tmp_path)
    assert sum(curve(lens, "tuned")) < sum(curve(lens, "logit"))


def test_no_tensor_of_positions_by_vocabulary_lives_through_a_step(
    model: Model, reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Logits come in blocks of CHUNK columns, and what autograd keeps is no wider than the stream."""
    monkeypatch.setitem(lens_step.CHUNK, "cpu", 16)
    saved: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.shape) or t, lambda t: t):
        fit(studied(reading, steps=1), model, tmp_path)
    assert saved
    assert model.anatomy.d_vocab not in {length for size in saved for length in size}


@pytest.mark.parametrize("reduced", ["position", "vocab", "label"])
def test_a_reduced_lens_says_which_tokens_were_reduced(
    model: Model, reading: Reading, tmp_path: Path, reduced: str
):
    plain = fit(studied(reading), model, tmp_path / "plain")
    common = tuple(range(3, 40))
    lens = fit(studied(reading, reduced=reduced, tokens=common, rho=0.0), model, tmp_path / "reduced")
    assert lens.about["fit"]["reduced_ids"] == list(common)
    assert lens.about["parameters"]["reduced"] == reduced
    assert lens.identity != plain.identity


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"preset": "papr"}, UnknownName, "did you mean 'paper'"),
        ({"optimiser": "adamw"}, UnknownName, "did you mean 'adam'"),
        ({"clip": "per_state"}, UnknownName, "per_layer"),
        ({"steps": -1}, BadInput, "0 or more"),
    ],
)
def test_unknown_settings_are_refused(how: dict[str, Any], error: type[Exception], said: str):
    with pytest.raises(error, match=said):
        TunedLens(**how)


def test_a_start_that_is_no_lens_or_of_another_model_is_refused(
    model: Model, reading: Reading, tmp_path: Path
):
    with pytest.raises(BadInput, match="there is no lens"):
        fit(studied(reading, init=str(tmp_path / "nothing")), model, tmp_path / "a")
    fit(RidgeLens(reading), tiny("gpt2", torch.float32, seed=5), tmp_path / "other")
    with pytest.raises(BadInput, match="unembedding differs"):
        fit(studied(reading, init=str(tmp_path / "other")), model, tmp_path / "b")


def test_windows_of_a_pass_are_drawn_once_each_and_every_pass_in_another_order(
    model: Model, reading: Reading, parts: Any, journal: Any
):
    study = studied(reading)
    course, aim = replace(study._course(), windows=7), study._aim(model)
    found = training.Training(model, parts, course, aim, (0,), {}, Checkpoint(journal, "t", {}), Watch())
    n = len(parts.train)
    drawn = [
        w.index for start in range(0, 3 * n, 7) for _, some in found._drawn(start, start + 7) for w in some
    ]
    passes = [drawn[k * n : (k + 1) * n] for k in range(3)]
    assert all(sorted(each) == sorted(w.index for w in parts.train) for each in passes)
    assert passes[0] != passes[1] != passes[2]


def test_each_state_ends_as_it_was_at_its_best_check(model: Model, reading: Reading, tmp_path: Path):
    """A rate far too large spoils every state: the best of all checks is then the start."""
    wild = {"lr": 50.0, "clip": "none", "optimiser": "sgd"}
    kept = fit(studied(reading, **wild), model, tmp_path / "best")
    last = fit(studied(reading, best=False, **wild), model, tmp_path / "last")
    losses = [each["loss"] for each in kept.about["fit"]["trainings"][0]["history"]]
    spoilt = [k for k in range(4) if losses[0][k] < min(losses[1][k], losses[2][k])]
    assert spoilt
    assert kept.weight is not None
    assert last.weight is not None
    for k in spoilt:
        assert float(kept.weight[k].abs().max()) == 0.0
        assert float(last.weight[k].abs().max()) > 1.0
