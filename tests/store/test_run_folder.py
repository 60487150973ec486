"""A run folder is a lazily read mapping; a folder that is none is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from depthscope.errors import BadInput, RunMismatch, StoreError, UnknownName
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings, Result, Text
from depthscope.store.run import Run, RunFolder, open_run
from depthscope.store.totals import read_sums

TEXT = Text("Title", "Why?", "So.", "Look.", "Careful.", "Me 2020.")


def result(name: str = "lens") -> Result:
    kl = Measurement("kl", {"state": np.arange(3)}, np.array([2.0, 1.0, 0.0]), "nats", n=np.full(3, 5))
    strips = Table({"token": np.array(["<b>"], dtype=object)}, "one row a token")
    return Result(name, {"k": 5}, Findings({"kl": kl}, {"strips": strips}, {}, ("noted",)), TEXT, {"seed": 0})


def written(path: Path) -> Path:
    with RunFolder.create(path, {"model": {"name": "m"}, "analyses": {"zeta": {}, "lens": {}}}) as folder:
        folder.write_result(result())
        folder.write_result(result("zeta"))
        folder.write_manifest(folder.manifest | {"complete": True})
    return path


def test_what_was_written_is_read(tmp_path: Path):
    run = open_run(written(tmp_path / "run"))
    found = run["lens"]
    assert (found.analysis, found.parameters, found.text, found.provenance) == (
        "lens",
        {"k": 5},
        TEXT,
        {"seed": 0},
    )
    assert found.findings.notes == ("noted",)
    np.testing.assert_array_equal(found["kl"].value, [2.0, 1.0, 0.0])
    assert list(found.findings.examples["strips"].columns["token"]) == ["<b>"]
    assert run.complete


def test_analyses_come_in_the_order_of_the_manifest(tmp_path: Path):
    assert list(open_run(written(tmp_path / "run"))) == ["zeta", "lens"]


def test_a_result_is_read_when_it_is_asked_for(tmp_path: Path):
    path = written(tmp_path / "run")
    (path / "measurements" / "zeta" / "kl.parquet").write_bytes(b"rubbish")
    run = Run(path, {})  # open_run under run-time type checks would look into an item
    assert run["lens"]["kl"].at(state=2) == 0
    with pytest.raises(StoreError, match="damaged"):
        run["zeta"]


def test_an_unknown_analysis_gets_the_nearest_name(tmp_path: Path):
    run = open_run(written(tmp_path / "run"))
    with pytest.raises(UnknownName, match="did you mean 'lens'"):
        run["lans"]
    assert "lans" not in run


def test_the_table_of_a_run_names_analysis_and_measurement(tmp_path: Path):
    table = open_run(written(tmp_path / "run")).to_dataframe()
    assert list(table.columns[:2]) == ["analysis", "measurement"]
    assert len(table) == 6


def test_the_notebook_view_escapes_model_text(tmp_path: Path):
    path = tmp_path / "run"
    with RunFolder.create(path, {"model": {"name": "<img src=x>"}}) as folder:
        folder.write_result(result())
    shown = open_run(path)._repr_html_()
    assert "<img" not in shown
    assert "not complete" in shown


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_a_manifest_is_no_run(tmp_path: Path, there: bool):
    path = tmp_path / "run"
    if there:
        path.mkdir()
    with pytest.raises(StoreError, match=r"no manifest\.json" if there else "no such folder"):
        open_run(path)


def test_an_unknown_schema_is_refused(tmp_path: Path):
    path = written(tmp_path / "run")
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"schema": 99, "depthscope": "9.9"}))
    with pytest.raises(StoreError, match=r"schema 99.*9\.9"):
        open_run(path)


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path):
    written(tmp_path / "run")
    with pytest.raises(RunMismatch, match="already holds a run"):
        RunFolder.create(tmp_path / "run", {})
    RunFolder.open_or_create(tmp_path / "run", {}).close()  # the refusal let go of the lock


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        RunFolder.open_or_create(tmp_path, {"seed": 0})
    assert not (tmp_path / "manifest.json").exists()


def test_resuming_needs_the_same_key_and_says_what_differs(tmp_path: Path):
    RunFolder.open_or_create(tmp_path, {"seed": 0, "dtype": "float32"}).close()
    with RunFolder.open_or_create(tmp_path, {"seed": 0, "dtype": "float32"}) as folder:
        folder.write_manifest({"complete": True})
        assert folder.manifest["key"] == {"seed": 0, "dtype": "float32"}
    with pytest.raises(RunMismatch, match="seed is 0 there and 1 here") as caught:
        RunFolder.open_or_create(tmp_path, {"seed": 1, "dtype": "float32"})
    assert "dtype" not in str(caught.value)


def test_one_process_writes_at_a_time(tmp_path: Path):
    with RunFolder.create(tmp_path, {}), pytest.raises(StoreError, match="another process"):
        RunFolder.open_or_create(tmp_path, {})
    with FileLock(tmp_path / ".lock"), pytest.raises(StoreError, match="another process"):
        RunFolder.open_or_create(tmp_path, {})


def test_reading_needs_no_lock(tmp_path: Path):
    path = tmp_path / "run"
    with RunFolder.create(path, {}) as folder:
        folder.write_result(result())
        assert list(open_run(path)) == ["lens"]


def test_parts_have_a_folder_of_their_own(tmp_path: Path):
    with RunFolder.create(tmp_path, {}) as folder:
        assert folder.parts("wave1") == tmp_path / "parts" / "wave1"
        assert folder.parts("wave1").is_dir()


def test_a_new_result_leaves_no_table_of_the_one_it_replaces(tmp_path: Path):
    path = tmp_path / "run"
    wider = result()
    wider.findings.measurements["more"] = wider["kl"]  # pyright: ignore[reportIndexIssue]
    wider.findings.examples["other"] = wider.findings.examples["strips"]  # pyright: ignore[reportIndexIssue]
    with RunFolder.create(path, {"model": {"name": "m"}, "analyses": {"lens": {}}}) as folder:
        folder.write_result(wider)
        assert {p.stem for p in (path / "measurements/lens").iterdir()} == {"kl", "more"}
        folder.write_result(result())
    assert {p.stem for p in (path / "measurements/lens").iterdir()} == {"kl"}
    assert {p.stem for p in (path / "examples/lens").iterdir()} == {"strips"}


KEY = {"model": "m", "seed": 0}


def refused_run(path: Path, finished: bool = False) -> None:
    """A run that is refused after its ids were written, and perhaps after a step."""
    with RunFolder.open_or_create(path, KEY) as folder:
        folder.write_inputs("text", [0], ["d"], [[1, 2]])
        steps = folder.parts("journal")
        if finished:
            (steps / "step.json").write_text("{}")
        raise BadInput("no such layer")


@pytest.mark.parametrize("there", [False, True])
def test_a_refusal_before_anything_is_finished_leaves_the_place_as_it_was(tmp_path: Path, there: bool):
    path = tmp_path / "run"
    if there:
        path.mkdir()
    with pytest.raises(BadInput):
        refused_run(path)
    assert list(path.iterdir()) == [] if there else not path.exists()
    with RunFolder.open_or_create(path, KEY | {"seed": 1}):
        pass


def test_a_refusal_keeps_what_was_finished_and_every_older_run(tmp_path: Path):
    path = tmp_path / "run"
    with pytest.raises(BadInput):
        refused_run(path, finished=True)
    assert (path / "parts" / "journal" / "step.json").exists()
    (path / "parts" / "journal" / "step.json").unlink()
    with pytest.raises(BadInput), RunFolder.open_or_create(path, KEY):
        raise BadInput("the second call did not begin this folder")
    assert (path / "manifest.json").exists()


def test_what_is_no_refusal_leaves_the_folder_for_the_next_call(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), RunFolder.open_or_create(tmp_path / "run", KEY):
        raise KeyboardInterrupt
    assert (tmp_path / "run" / "manifest.json").exists()


def test_a_folder_of_other_files_is_left_without_a_trace(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="not a run"):
        RunFolder.open_or_create(tmp_path, KEY)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("stored", ['{"analysis": "lens"}', '{"analysis": 3, "measurements": 4}', "[]", "{"])
def test_a_result_that_lacks_what_it_needs_is_damaged(tmp_path: Path, stored: str):
    path = written(tmp_path / "run")
    (path / "results" / "lens.json").write_text(stored)
    with pytest.raises(StoreError, match=r"lens\.json .*repeat the command that made it"):
        Run(path, {})["lens"]


def test_a_damaged_tally_is_named(tmp_path: Path):
    (tmp_path / "totals").mkdir()
    assert read_sums(tmp_path, "lens") == {}
    (tmp_path / "totals" / "lens.npz").write_bytes(b"PK rubbish")
    with pytest.raises(StoreError, match=r"lens\.npz is damaged .*delete it and repeat the command"):
        read_sums(tmp_path, "lens")
