"""One audit, end to end, on a tiny model: what resumes, what may be added, and what a run must not mix."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys import FEW, HOW, MixerSkip, NormAgainstMedian

from depthscope.analyses.corpus_statistics import CorpusStatistics
from depthscope.analyses.logit_lens import LogitLens
from depthscope.analyses.settle_depth import SettleDepth
from depthscope.engine import execute
from depthscope.engine.audit import audit
from depthscope.engine.choice import FIRST
from depthscope.engine.tally import Tally
from depthscope.errors import RunMismatch, StoreError, StoreFull
from depthscope.results.result import Result
from depthscope.runtime.model import Model
from depthscope.runtime.run import run as real_run
from depthscope.runtime.tiny import tiny
from depthscope.store import atomic
from depthscope.store.run import Run, open_run
from depthscope.store.tables import read_measurement

Files = Callable[[Path], dict[str, bytes]]


def numbers(result: Result) -> dict[str, np.ndarray]:
    parts = ("value", "low", "high", "n", "n_items")
    return {
        f"{name}.{p}": getattr(m, p)
        for name, m in result.findings.measurements.items()
        for p in parts
        if getattr(m, p) is not None
    }


def assert_numbers(found: Result, expected: Result, rtol: float = 0.0, atol: float = 0.0) -> None:
    left, right = numbers(found), numbers(expected)
    assert left.keys() == right.keys()
    for name, values in left.items():
        np.testing.assert_allclose(values, right[name], rtol=rtol, atol=atol, err_msg=name)


@pytest.fixture(scope="module")
def everything(llama: Model, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All first analyses in one run."""
    return audit(llama, out=tmp_path_factory.mktemp("all") / "run", **HOW)


# ------------------------------------------------------------------------------------------------------ what is there


def test_a_run_holds_every_first_analysis_and_says_what_it_read(everything: Run):
    assert list(everything) == list(FIRST)
    manifest = everything.manifest
    assert manifest["complete"] is True
    assert manifest["refused"] == {}
    assert manifest["data"]["documents"] == 9
    assert manifest["data"]["units"] == "documents"
    assert manifest["non_finite"] == {"count": 0, "windows": 0, "halved_batches": 0}
    assert {v["status"] for v in manifest["verification"]} == {"holds"}
    assert len(manifest["model"]["weights_hash"]) == 64


def test_every_window_and_every_position_is_counted_once(everything: Run):
    data = everything.manifest["data"]
    profile, statistics = (
        numbers(everything["representation_profile"]),
        numbers(everything["corpus_statistics"]),
    )
    assert set(profile["anisotropy.n_items"].flat) == {data["windows"]}
    assert set(statistics["sink_share.n_items"]) == {data["tokens"] - data["windows"]}, "position 0 left out"
    assert set(numbers(everything["logit_lens"])["entropy.n_items"]) == {data["tokens"] - 2 * data["windows"]}


def test_the_stored_ids_are_the_texts_that_were_read(everything: Run):
    import pyarrow.parquet as pq

    table = pq.read_table(everything.path / "inputs" / "text.parquet").to_pydict()
    assert table["window"] == list(range(len(table["ids"])))
    assert sum(map(len, table["ids"])) == everything.manifest["data"]["tokens"]
    for name in set(table["document"]):
        pieces = [
            ids for document, ids in zip(table["document"], table["ids"], strict=True) if document == name
        ]
        whole = [3 + ord(c) % 93 for c in HOW["text"][int(name.removeprefix("text-"))]]
        joined = [i for piece in pieces for i in piece]
        assert joined == whole[: len(joined)]


def test_every_number_is_finite_or_missing_with_a_reason(everything: Run):
    for result in everything.values():
        for name, found in result.findings.measurements.items():
            assert np.isfinite(found.value).all() or found.missing, f"{result.analysis}/{name}"


def test_progress_ends_with_all_tokens_of_all_shards(llama: Model, tmp_path: Path):
    told: list[tuple[str, int, int]] = []
    audit(llama, FEW, out=tmp_path, progress=lambda *step: told.append(step), **HOW)
    assert [t[1] for t in told] == sorted(t[1] for t in told)
    assert told[0][1] == 0
    assert told[-1][1] == told[-1][2] > 600  # the text, and what the sweeps read of it again
    told.clear()
    audit(llama, FEW, out=tmp_path, progress=lambda *step: told.append(step), **HOW)
    assert told == []


# ---------------------------------------------------------------------------------------------------- adding, changing


def stamps(out: Path) -> dict[str, tuple[int, bytes]]:
    return {
        p.relative_to(out).as_posix(): (p.stat().st_mtime_ns, p.read_bytes())
        for folder in ("parts", "measurements", "examples", "results")
        for p in (out / folder).rglob("*")
        if p.is_file()
    }


def test_an_analysis_joins_a_finished_run_and_leaves_the_others_alone(
    llama: Model, everything: Run, tmp_path: Path
):
    audit(llama, ["residual_contribution", "layer_skip"], out=tmp_path, **HOW)
    before = stamps(tmp_path)
    both = audit(llama, ["settle_depth", "layer_skip"], out=tmp_path, **HOW)
    after = stamps(tmp_path)
    assert {name: after[name] for name in before} == before
    assert (
        set(both) == {"residual_contribution", "layer_skip", "settle_depth"} == set(both.manifest["analyses"])
    )
    for name in both:
        assert_numbers(both[name], everything[name])


def test_an_analysis_of_other_parameters_is_run_again_and_the_rest_is_not(llama: Model, tmp_path: Path):
    audit(llama, ["logit_lens", "layer_skip"], out=tmp_path, **HOW)
    before = stamps(tmp_path)
    run = audit(llama, [LogitLens(positions=50), "layer_skip"], out=tmp_path, **HOW)
    after = stamps(tmp_path)
    kept = [name for name in before if "layer_skip" in name]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert run["logit_lens"].parameters["positions"] == 50
    assert run["logit_lens"]["kl_to_final"].n_items is not None
    assert set(run["logit_lens"]["kl_to_final"].n_items) == {50}
    fresh = audit(llama, [LogitLens(positions=50)], out=tmp_path / "fresh", **HOW)
    assert_numbers(run["logit_lens"], fresh["logit_lens"])


def test_another_sweep_may_join_a_run_that_was_stopped_in_its_sweeps(
    llama: Model, everything: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Shards are numbered over all sweeps of a wave: those of the stopped run must not pass for others."""
    passes = [0]

    def stopped(*what: Any, **how: Any) -> Any:
        passes[0] += 1
        if passes[0] == 3:
            raise KeyboardInterrupt
        return real_run(*what, **how)

    monkeypatch.setattr(execute, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        audit(llama, ["layer_skip"], out=tmp_path, **HOW)
    assert {p.name for p in (tmp_path / "parts").rglob("*.npz")} >= {"sweep0-00000.npz", "sweep1-00000.npz"}
    monkeypatch.undo()
    run = audit(llama, ["layer_skip", MixerSkip()], out=tmp_path, **HOW)
    assert_numbers(run["layer_skip"], everything["layer_skip"])


def test_fewer_decoded_positions_than_windows_are_enough(llama: Model, tmp_path: Path):
    """Some shards then decode nothing at all."""
    run = audit(llama, [LogitLens(positions=2, strips=0), SettleDepth(positions=2)], out=tmp_path, **HOW)
    assert set(numbers(run["logit_lens"])["entropy.n_items"]) == {2}
    assert set(numbers(run["settle_depth"])["flip_rate.n_items"]) == {2}


# -------------------------------------------------------------------------------------------------------------- waves


def test_what_an_analysis_waits_for_runs_before_it_and_is_handed_over(
    llama: Model, everything: Run, tmp_path: Path
):
    run = audit(llama, [NormAgainstMedian()], out=tmp_path, **HOW)
    assert list(run) == ["corpus_statistics", "norm_against_median"]
    assert_numbers(run["corpus_statistics"], everything["corpus_statistics"])
    ratio, statistics = run["norm_against_median"]["ratio"], run["corpus_statistics"]
    median, top = statistics["norm_median"].value, statistics["norm_max"].value
    # a mean of norm / median lies between 0 and the largest norm over the median, and near 1 for random weights
    assert (ratio.value > 0.8).all()
    assert (ratio.value < np.minimum(1.3, top / median)).all()
    assert run["norm_against_median"].text.title.startswith("Norm against median")
    before = stamps(tmp_path)
    audit(llama, [NormAgainstMedian()], out=tmp_path, **HOW)
    assert stamps(tmp_path) == before, "what is done is not done again"


def test_a_wave_uses_the_result_that_is_there_whatever_its_parameters(llama: Model, tmp_path: Path):
    audit(llama, [CorpusStatistics(sample=50)], out=tmp_path, **HOW)
    before = stamps(tmp_path)
    run = audit(llama, [NormAgainstMedian()], out=tmp_path, **HOW)
    assert {n: v for n, v in stamps(tmp_path).items() if n in before} == before
    assert run["corpus_statistics"].parameters["sample"] == 50
    assert run.manifest["analyses"]["corpus_statistics"]["sample"] == 50


@pytest.mark.parametrize("stopped_between", [False, True])
def test_what_waits_for_a_renewed_result_is_renewed_too(llama: Model, tmp_path: Path, stopped_between: bool):
    first = audit(llama, [CorpusStatistics(sample=20), NormAgainstMedian()], out=tmp_path, **HOW)
    stale = numbers(first["norm_against_median"])["ratio.value"]
    if stopped_between:  # as a kill after the first wave leaves it: the one renewed, the other not yet
        audit(llama, [CorpusStatistics(sample=400)], out=tmp_path, **HOW)
    run = audit(llama, [CorpusStatistics(sample=400), NormAgainstMedian()], out=tmp_path, **HOW)
    fresh = audit(llama, [CorpusStatistics(sample=400), NormAgainstMedian()], out=tmp_path / "fresh", **HOW)
    assert_numbers(run["norm_against_median"], fresh["norm_against_median"])
    assert (numbers(run["norm_against_median"])["ratio.value"] != stale).all()


# --------------------------------------------------------------------------------------------------------- mismatches


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"tokens": 500}, "data is"),
        ({"window": 32}, "window is 40 there and 32 here"),
        ({"text": ["another text of more than enough length for a window"]}, "data is"),
        ({"null": "shuffled"}, "data is"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_a_folder_of_other_parameters_is_refused_with_what_differs(
    llama: Model, everything: Run, other: dict[str, Any], named: str
):
    before = stamps(everything.path)
    with pytest.raises(RunMismatch, match=named) as caught:
        audit(llama, FEW, out=everything.path, **{**HOW, **other})
    assert caught.value.exit_code == 5
    assert stamps(everything.path) == before


def test_a_folder_of_other_weights_or_another_type_is_refused(everything: Run):
    with pytest.raises(RunMismatch, match="weights_hash is"):
        audit(tiny("llama", torch.float32, seed=1), FEW, out=everything.path, **HOW)
    with pytest.raises(RunMismatch, match="dtype is 'float32' there and 'float64' here"):
        audit(tiny("llama", torch.float64), FEW, out=everything.path, **HOW)


def test_a_folder_with_foreign_files_is_left_as_it_is(llama: Model, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"not empty and not a run, it holds thesis\.tex"):
        audit(llama, FEW, out=tmp_path, **HOW)
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["thesis.tex"]


# --------------------------------------------------------------------------------------------------------- sick disks


def test_a_folder_that_cannot_be_made_is_a_store_error(llama: Model, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--out"):
        audit(llama, FEW, out=tmp_path / "file" / "run", **HOW)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("step", ["mkdir", "open"])
def test_a_folder_that_may_not_be_written_is_a_store_error_with_a_remedy(
    llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, step: str
):
    def closed(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((Path, "mkdir", closed) if step == "mkdir" else (os, "open", closed)))
    with pytest.raises(StoreError, match=r"Choose a folder you may write to with --out") as caught:
        audit(llama, FEW, out=tmp_path / "run", **HOW)
    monkeypatch.undo()
    assert caught.value.exit_code == 5
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_a_disk_that_fills_up_leaves_whole_files_and_a_run_that_resumes(
    llama: Model, everything: Run, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, sync = tmp_path / "run", os.fsync
    room = [0]

    def full(handle: int) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(atomic.os, "fsync", full)
    for room[0] in (1, 4, 9, 14, 24, 40):  # two of these a file: the manifest, inputs, parts, measurements
        with pytest.raises(StoreFull, match=r"No space left on device.*make room") as caught:
            audit(llama, out=out, **HOW)
        assert caught.value.exit_code == 5
        assert_whole(out)
    monkeypatch.undo()
    audit(llama, out=out, **HOW)
    assert files(out) == files(everything.path)


def assert_whole(out: Path) -> None:
    assert not [p for p in out.rglob("*") if p.name.endswith(".partial")]
    for path in out.rglob("*.npz"):
        Tally.load(path)
    for path in (out / "measurements").rglob("*.parquet"):
        read_measurement(path)
    if (out / "manifest.json").exists():
        assert not open_run(out).complete


# ---------------------------------------------------------------------------------------------------- units and nulls


def test_eight_documents_are_units_and_seven_are_not(llama: Model, texts: list[str], tmp_path: Path):
    how = {**HOW, "tokens": 320}  # one window of 40 each
    eight = audit(llama, ["residual_contribution"], out=tmp_path / "8", **{**how, "text": texts[:8]})
    seven = audit(llama, ["residual_contribution"], out=tmp_path / "7", **{**how, "text": texts[:7]})
    assert (
        eight.manifest["data"]["units"] == eight["residual_contribution"].provenance["units"] == "documents"
    )
    assert seven.manifest["data"]["units"] == seven["residual_contribution"].provenance["units"] == "windows"
    assert not any("Fewer than 8" in n for n in eight["residual_contribution"].findings.notes)
    assert any("Fewer than 8 documents" in n for n in seven["residual_contribution"].findings.notes)
    n = seven["residual_contribution"]["block_cosine"].n
    assert n is not None
    assert set(n) == {8}, "seven documents gave eight windows, each a unit of its own"


def test_the_shuffled_null_reads_the_same_ids_in_another_order(llama: Model, everything: Run, tmp_path: Path):
    import pyarrow.parquet as pq

    null = audit(llama, ["logit_lens"], out=tmp_path, null="shuffled", **HOW)
    plain, mixed = (
        pq.read_table(run.path / "inputs" / "text.parquet").to_pydict()["ids"] for run in (everything, null)
    )
    assert [Counter(row) for row in mixed] == [Counter(row) for row in plain]
    assert [row[0] for row in mixed] == [row[0] for row in plain]
    assert all(a != b for a, b in zip(mixed, plain, strict=True))
    assert "shuffled" in null.manifest["data"]["source"]
    assert (null["logit_lens"]["entropy"].value != everything["logit_lens"]["entropy"].value).any()


# -------------------------------------------------------------------------------------------------------------- batches


def test_one_window_a_batch_gives_the_numbers_of_eight(llama64: Model, exact: Run, tmp_path: Path):
    one = audit(llama64, out=tmp_path, budget=1, **{**HOW, "tokens": 360})
    captured = [len(list((run.path / "parts").glob("logit_lens-*/capture-*.npz"))) for run in (exact, one)]
    assert captured == [2, 9]
    for name in FIRST:
        assert_numbers(without_floor(one[name]), without_floor(exact[name]), rtol=1e-9, atol=1e-9)


def without_floor(result: Result) -> Result:
    """The noise floor is what changes between batch shapes: it is of the size of rounding and compared with nothing."""
    kept = {k: v for k, v in result.findings.measurements.items() if k != "noise_floor"}
    return dataclasses.replace(result, findings=dataclasses.replace(result.findings, measurements=kept))
