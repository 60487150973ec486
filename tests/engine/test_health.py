"""NaN and lack of memory: counted, marked, and kept out of every number."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys import HOW

from depthscope.analyses.logit_lens import LogitLens
from depthscope.engine import execute
from depthscope.engine.audit import audit
from depthscope.engine.choice import FIRST
from depthscope.results.result import Result
from depthscope.runtime.model import Model
from depthscope.runtime.run import run as real_run
from depthscope.runtime.tiny import tiny
from depthscope.runtime.verify import probe
from depthscope.store.run import Run, open_run

CAPTURES = [
    "corpus_statistics",
    "logit_lens",
    "settle_depth",
    "residual_contribution",
    "representation_profile",
]
STRANGE = "q"
"""A character that no other text holds; its embedding will be NaN."""
Files = Callable[[Path], dict[str, bytes]]


def values(result: Result) -> dict[str, np.ndarray]:
    return {name: m.value for name, m in result.findings.measurements.items()}


@pytest.fixture(scope="module")
def poisoned() -> Model:
    """A llama that gives NaN wherever it has read the strange character."""
    model = tiny("llama", torch.float32)
    strange = model.tokenizer.encode(STRANGE)[0]
    assert strange not in probe(model).ids, (
        "laws must be checked without it, as they would be on a real model"
    )
    with torch.no_grad():
        model.net.get_input_embeddings().weight[strange] = torch.nan
    return model


def one_window_each(texts: list[str]) -> list[str]:
    return [t[:40] for t in texts]


def with_strange(texts: list[str]) -> list[str]:
    """The texts and one more, of one window, that is strange from its eleventh token on."""
    assert not any(STRANGE in t for t in texts)
    return [*one_window_each(texts), "A fog came" + STRANGE + " down over the fields and hid"]


HOW_NAN = {"tokens": 400, "window": 40}


def test_a_nan_token_is_counted_and_reported_and_every_number_is_finite(
    poisoned: Model, texts: list[str], tmp_path: Path
):
    run = audit(poisoned, out=tmp_path, text=with_strange(texts), **HOW_NAN)
    assert set(run) == set(FIRST)
    assert run.manifest["complete"]
    health = run.manifest["non_finite"]
    assert (health["windows"], health["halved_batches"]) == (1, 0)
    # from the token on; before it too where a kernel multiplies masked values by zero, as NaN stays NaN
    assert 30 <= health["count"] <= 40
    for result in run.values():
        assert any("1 of 10 windows had NaN or infinite states" in n for n in result.findings.notes), (
            result.analysis
        )
        for name, found in result.findings.measurements.items():
            there = np.isfinite(found.value)
            natural = found.missing and "no finite item" not in found.missing
            assert there.all() or natural, f"{result.analysis}/{name}"
            for bound in (found.low, found.high):
                assert bound is None or np.isfinite(bound[there]).all()


def test_a_nan_token_is_averaged_into_nothing(
    poisoned: Model, texts: list[str], files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The strange document comes last: without it all others keep their windows, and so every number and count."""
    # every position is decoded by every part of the lens, so that the strange window changes no sample
    asked = [LogitLens(jsd_positions=2048) if name == "logit_lens" else name for name in CAPTURES]
    with_it = audit(poisoned, asked, out=tmp_path / "with", text=with_strange(texts), **HOW_NAN)
    without = audit(poisoned, asked, out=tmp_path / "without", text=one_window_each(texts), **HOW_NAN)
    assert with_it.manifest["data"]["windows"] == without.manifest["data"]["windows"] + 1
    for name in CAPTURES:
        left, right = values(with_it[name]), values(without[name])
        assert left.keys() == right.keys()
        for key, found in left.items():
            np.testing.assert_allclose(found, right[key], rtol=1e-5, atol=1e-6, err_msg=f"{name}/{key}")
        n = with_it[name].findings.measurements
        for key, found in without[name].findings.measurements.items():
            np.testing.assert_array_equal(n[key].n_items, found.n_items)


def test_what_was_not_finite_is_still_counted_after_a_resume_and_not_twice(
    poisoned: Model, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    how: dict[str, Any] = {"text": with_strange(texts)[::-1], **HOW_NAN, "budget": 1}
    passes = [0]

    def stopped(model: Model, *rest: Any, **more: Any) -> Any:
        passes[0] += 1
        if passes[0] == 3:  # the strange window comes first, and is done by then
            raise KeyboardInterrupt
        return real_run(model, *rest, **more)

    monkeypatch.setattr(execute, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        audit(poisoned, ["residual_contribution"], out=tmp_path, **how)
    assert not open_run(tmp_path).complete
    monkeypatch.undo()
    resumed = audit(poisoned, ["residual_contribution"], out=tmp_path, **how).manifest["non_finite"]
    assert resumed["windows"] == 1
    assert resumed["count"] >= 30
    more = audit(poisoned, ["logit_lens", "layer_skip"], out=tmp_path, **how)
    assert more.manifest["non_finite"] == resumed


# ------------------------------------------------------------------------------------------------------------- memory


def narrow(limit: int, refused: list[int]) -> Callable[..., Any]:
    """A `run` for a machine that holds only so many rows."""

    def run(model: Model, batch: Any, **how: Any) -> Any:
        if batch.rows > limit:
            refused.append(batch.rows)
            raise torch.OutOfMemoryError if len(refused) % 2 else MemoryError
        return real_run(model, batch, **how)

    return run


def test_a_batch_that_does_not_fit_is_halved_and_marked_and_the_numbers_stay(
    llama64: Model, exact: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    refused: list[int] = []
    monkeypatch.setattr(execute, "run", narrow(2, refused))
    how = {**HOW, "tokens": 360}
    halved = audit(llama64, out=tmp_path, **how)
    assert max(refused) > 4, "some batches were halved twice"
    assert exact.manifest["non_finite"]["halved_batches"] == 0
    # the capture of eight windows, the sweep of eight short ones, and the longer one's first six
    assert halved.manifest["non_finite"]["halved_batches"] == 3
    for name in FIRST:
        left, right = values(halved[name]), values(exact[name])
        for key in left.keys() - {"noise_floor"}:  # the floor is the size of rounding itself
            np.testing.assert_allclose(left[key], right[key], rtol=1e-12, atol=1e-12, err_msg=f"{name}/{key}")
    again = audit(llama64, ["logit_lens"], out=tmp_path, **how)
    assert again.manifest["non_finite"] == halved.manifest["non_finite"]


def test_a_single_row_that_does_not_fit_is_an_error(
    llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(execute, "run", narrow(0, []))
    with pytest.raises((MemoryError, torch.OutOfMemoryError)):
        audit(llama, ["residual_contribution"], out=tmp_path, **HOW)


def test_what_did_not_fit_is_let_go_before_the_halves_run(
    llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An exception keeps its frames, and the frames their tensors: halving inside `except` would halve nothing."""
    big: list[weakref.ref[torch.Tensor]] = []

    def run(model: Model, batch: Any, **how: Any) -> Any:
        if batch.rows > 2:
            activations = torch.zeros(3)
            big.append(weakref.ref(activations))
            raise MemoryError
        assert big[-1]() is None, "the tensors of the failed attempt are still held"
        return real_run(model, batch, **how)

    monkeypatch.setattr(execute, "run", run)
    gc.disable()  # references alone must do: a collector comes too late
    try:
        audit(llama, ["residual_contribution"], out=tmp_path, **HOW)
    finally:
        gc.enable()
    assert big
