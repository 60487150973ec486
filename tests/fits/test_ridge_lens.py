"""The ridge lens against plain least squares, and what its folder says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from depthscope.engine.journal import Journal
from depthscope.engine.reading import Reading
from depthscope.errors import BadInput, NonFinite, RunMismatch
from depthscope.fits import ridge_lens
from depthscope.fits.checkpoint import Checkpoint
from depthscope.fits.quality import _listed
from depthscope.fits.ridge_lens import RidgeLens, gathered, solved
from depthscope.fits.states import Split
from depthscope.fits.study import fit
from depthscope.fits.watch import Watch
from depthscope.results.measurement import Measurement
from depthscope.runtime.lens_folder import load_lens
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny


def states_of(model: Model, parts: Split) -> np.ndarray:
    """States [state, item, d] of the training windows from position 1 on, by transformers alone."""
    found = []
    final = []
    hook = model.net.transformer.h[-1].register_forward_hook(lambda *call: final.append(call[-1]))
    for window in parts.train:
        with torch.no_grad():
            out = model.net(torch.tensor([window.ids]), output_hidden_states=True)
        last = final.pop()
        last = last[0] if isinstance(last, tuple) else last
        found.append(torch.stack([*out.hidden_states[:-1], last])[:, 0, 1:].numpy())
    hook.remove()
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 1.0])
def test_the_solution_is_that_of_ridge_regression_with_a_free_intercept(
    exact: Model, parts: Split, ridge: float
):
    """Stacked least squares: rows sqrt(lambda) e_i below the centred states give the penalty."""
    sums = gathered(exact, parts.train)
    states = states_of(exact, parts)
    assert int(sums["count"]) == states.shape[1]
    for s in range(exact.anatomy.n_layers):
        x, y = states[s], states[-1] - states[s]
        centred = x - x.mean(0)
        penalty = ridge * np.trace(centred.T @ centred) / x.shape[1]
        tall = np.concatenate([centred, np.sqrt(penalty) * np.eye(x.shape[1])])
        wide = np.concatenate([y - y.mean(0), np.zeros((x.shape[1], x.shape[1]))])
        expected = np.linalg.lstsq(tall, wide, rcond=None)[0].T
        weight, bias = solved(sums, s, ridge)
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(bias.numpy(), y.mean(0) - expected @ x.mean(0), rtol=1e-6, atol=1e-8)


def test_a_penalty_that_leaves_the_matrix_singular_is_passed_over(exact: Model, parts: Split):
    sums = gathered(exact, parts.train[:1]) | {"second": -torch.ones(5, 32, 32, dtype=torch.float64)}
    with pytest.raises(BadInput, match=r"positions are too few for state 0 of width 32 with ridge 1e-06"):
        RidgeLens(ridge=(1e-6, 1e-3))._solved(exact, sums, parts)


def test_states_with_a_large_common_part_are_fitted_as_well_in_float32(parts: Split):
    """A mean a thousand times the spread: without the shift, float32 products would lose the spread."""
    found = []
    for dtype in (torch.float64, torch.float32):
        model = tiny("gpt2", dtype)
        with torch.no_grad():
            model.net.transformer.wpe.weight.zero_()
            model.net.transformer.wte.weight[:, 3] += 50.0
        found.append(solved(gathered(model, parts.train), 2, 1e-4))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-3, atol=1e-3)


def test_a_linear_model_is_read_without_error(parts: Split):
    """Blocks that add nothing: every state is the last one, so A = 0, b = 0."""
    model = tiny("gpt2", torch.float64)
    with torch.no_grad():
        for block in model.net.transformer.h:
            for module in (block.attn.c_proj, block.mlp.c_proj):
                module.weight.zero_()
                module.bias.zero_()
    for s in range(model.anatomy.n_layers):
        weight, bias = solved(gathered(model, parts.train), s, 1e-3)
        assert float(weight.abs().max()) < 1e-12
        assert float(bias.abs().max()) < 1e-12


def test_lambda_is_the_one_with_the_least_error_on_validation_documents(
    model: Model, reading: Reading, parts: Split, journal: Journal
):
    lens = RidgeLens(reading, ridge=(1e-4, 1e6)).fitted(model, parts, journal)
    assert lens.about["fit"]["ridge"] == [1e-4] * model.anatomy.n_layers
    alone = RidgeLens(reading, ridge=(1e-4,)).fitted(model, parts, Journal(journal.folder / "b", "m", "d"))
    assert alone.identity == lens.identity


def test_it_lowers_the_divergence_of_every_state_and_says_so(model: Model, reading: Reading, tmp_path: Path):
    lens = fit(RidgeLens(reading, evaluate=200), model, tmp_path / "lens", command="how")
    kl = lens.about["quality"]["kl_to_final"]
    assert len(kl["logit"]["value"]) == model.anatomy.n_layers + 1
    assert all(r < x for r, x in zip(kl["ridge"]["value"][:-1], kl["logit"]["value"][:-1], strict=True))
    assert kl["ridge"]["value"][-1] == pytest.approx(0.0, abs=1e-6)
    assert kl["n"] == 2
    assert all(
        lo <= v <= hi for v, lo, hi in zip(*(kl["ridge"][k] for k in ("value", "low", "high")), strict=True)
    )
    assert lens.about["data"]["tokens"] == 1152
    assert lens.about["data"]["documents"] == 12
    assert lens.about["command"] == "how"
    assert lens.about["model"]["weights_hash"]
    assert load_lens(tmp_path / "lens", model).identity == lens.identity


def test_a_lens_judged_on_one_unit_has_no_interval_and_its_card_says_null():
    found = Measurement(
        "kl_to_final", {"lens": np.asarray(["ridge"]), "state": np.arange(2)}, np.asarray([[0.5, 0.0]]), "nats",
        low=np.full((1, 2), np.nan), high=np.full((1, 2), np.nan), n=np.full((1, 2), 1), n_items=np.full((1, 2), 9),
    )  # fmt: skip
    listed = _listed(found)
    assert listed["ridge"] == {"value": [0.5, 0.0], "low": [None, None], "high": [None, None]}
    json.dumps(listed, allow_nan=False)


def test_the_same_call_repeats_nothing_and_another_one_is_refused(
    model: Model, reading: Reading, tmp_path: Path
):
    first = fit(RidgeLens(reading), model, tmp_path)
    read: list[str] = []
    again = fit(RidgeLens(reading), model, tmp_path, watch=Watch(progress=lambda *_: read.append("read")))
    assert (again.identity, read) == (first.identity, [])
    with pytest.raises(RunMismatch, match="another --out"):
        fit(RidgeLens(reading, ridge=(0.5,)), model, tmp_path)


def test_a_killed_pass_goes_on_at_its_last_write_and_gives_the_same_bytes(
    model: Model, reading: Reading, parts: Split, journal: Journal, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ridge_lens, "_SAVE", 1)
    monkeypatch.setattr(ridge_lens, "batches", lambda windows: ([w] for w in windows))
    whole = gathered(model, parts.train)
    checkpoint = Checkpoint(journal, "ridge-sums", {})
    seen: list[int] = []

    def stop(phase: str, done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gathered(model, parts.train, checkpoint, Watch(stop))
    rest: list[int] = []
    resumed = gathered(model, parts.train, checkpoint, Watch(lambda *call: rest.append(call[1])))
    assert len(seen) + len(rest) == len(parts.train)
    assert rest[0] > seen[-1]
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0)


def test_a_model_that_gives_no_finite_state_is_an_error(parts: Split):
    model = tiny("gpt2", torch.float32)
    with torch.no_grad():
        model.net.transformer.wte.weight.fill_(torch.nan)
    with pytest.raises(NonFinite, match="finite states"):
        gathered(model, parts.train)


@pytest.mark.parametrize("ridge", [(), (0.0,), (1e-3, -1.0)])
def test_a_penalty_must_be_positive(ridge: tuple[float, ...]):
    with pytest.raises(BadInput, match="each above 0"):
        RidgeLens(ridge=ridge)
