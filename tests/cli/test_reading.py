"""The reading verbs print what is stored, fail with one line, and load nothing heavy to say what there is."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from synthetic import HOSTILE, TEXTS, L, first, results, write_run

from depthscope.cli import app, main
from depthscope.registry import ANALYSES, FAMILIES, PLOTS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_run(tmp_path_factory.mktemp("cli") / "run", first()).path)


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out, said.err


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code, out, err = called(capsys, *arguments)
    assert (code, err) == (0, "")
    return out


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["list", "plots", "--json"], ["--version"], ["show", "--help"]]
)
def test_help_and_list_load_no_heavy_library(arguments: list[str]):
    code = (
        "import sys\nfrom depthscope.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'numpy', 'pandas', 'xarray', 'pyarrow', 'altair', 'jinja2', 'transformers'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]):
    said = printed(capsys, "--help")
    assert all(verb in said for verb in app.VERBS)


def test_list_names_everything_with_its_line(capsys: pytest.CaptureFixture[str]):
    found = json.loads(printed(capsys, "list", "--json"))
    assert {kind: tuple(names) for kind, names in found.items()} == {
        "analyses": ANALYSES.names,
        "families": FAMILIES.names,
        "plots": PLOTS.names,
    }
    assert all(line for names in found.values() for line in names.values())
    assert "lens_kl" in printed(capsys, "list", "plots")
    assert "lens_kl" not in printed(capsys, "list", "analyses")


def test_show_without_a_name_lists_everything(capsys: pytest.CaptureFixture[str], run: str):
    rows = json.loads(printed(capsys, "show", run, "--json"))["rows"]
    stored = {(n, m) for n, r in first().items() for m in (*r.findings.measurements, *r.findings.examples)}
    assert {(row["analysis"], row["name"]) for row in rows} == stored


def test_show_csv_holds_every_digit_of_a_measurement(capsys: pytest.CaptureFixture[str], run: str):
    rows = list(
        csv.DictReader(io.StringIO(printed(capsys, "show", run, "logit_lens/kl_to_final", "--format", "csv")))
    )
    found = results()["logit_lens"]["kl_to_final"]
    assert [float(row["value"]) for row in rows] == found.value.tolist()
    assert [row["state"] for row in rows] == [str(s) for s in range(L + 1)]
    assert {row["n"] for row in rows} == {"24"}


def test_show_json_says_unit_and_reason_and_null_for_missing(capsys: pytest.CaptureFixture[str], run: str):
    found = json.loads(printed(capsys, "show", run, "layer_skip/effect_on_later", "--format", "json"))
    assert (found["measurement"], found["unit"]) == ("layer_skip/effect_on_later", "1")
    assert found["missing"] == "only later layers can change"
    assert found["rows"][0]["value"] is None
    assert len(found["rows"]) == L * L


def test_show_parquet_is_the_stored_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], run: str):
    out = tmp_path / "x.parquet"
    assert printed(capsys, "show", run, "logit_lens/entropy", "--format", "parquet", "--out", str(out)) == ""
    assert out.read_bytes() == (Path(run) / "measurements" / "logit_lens" / "entropy.parquet").read_bytes()


def test_show_parquet_goes_into_a_pipe(run: str):
    arguments = [sys.executable, "-c", "from depthscope.cli import main; main()", "show", run, "settle_depth"]
    done = subprocess.run([*arguments, "--format", "parquet"], capture_output=True, timeout=60)
    table = pq.read_table(io.BytesIO(done.stdout))
    assert set(table.column("measurement").to_pylist()) == set(
        results()["settle_depth"].findings.measurements
    )
    assert str(table.schema.field("measurement").type) == "string"


def test_show_table_of_an_analysis_has_all_its_measurements(capsys: pytest.CaptureFixture[str], run: str):
    said = printed(capsys, "show", run, "settle_depth")
    assert f"# title: {TEXTS['settle_depth'].title}" in said
    lines = [line.split() for line in said.splitlines() if line.startswith("stable_median")]
    assert lines == [["stable_median", "\u2013", "9", "8.5", "9.5", "24", "2048"]]


def test_no_token_reaches_the_terminal_as_a_command(capsys: pytest.CaptureFixture[str], run: str):
    said = printed(capsys, "show", run, "logit_lens/strips")
    assert not {"\x1b", "\x00", "\u202e", "\u2028"} & set(said)
    assert "[U+001B][31m" in said
    rows = json.loads(printed(capsys, "show", run, "logit_lens/strips", "--json"))["rows"]
    assert set(HOSTILE) <= {row["token"] for row in rows}


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "words"),
    [
        (["show", "/nowhere"], 5, "StoreError", "no such folder"),
        (["show", "RUN", "logit_len"], 2, "UnknownName", "did you mean 'logit_lens'"),
        (["show", "RUN", "logit_lens/kl_to_finel"], 2, "UnknownName", "did you mean 'kl_to_final'"),
        (["compare", "RUN"], 2, "BadInput", "two runs"),
        (["shwo", "RUN"], 2, "UnknownName", "did you mean 'show'"),
        (["list", "plot"], 2, "UnknownName", "did you mean 'plots'"),
        (["show"], 2, "MissingParameter", "run"),
        (["show", "RUN", "--format", "xml"], 2, "BadParameter", "xml"),
        (["report", "RUN", "--out", "RUN/manifest.json/x.html"], 5, "StoreError", "--out"),
    ],
)
def test_errors_are_one_line_or_json_with_their_exit_code(
    capsys: pytest.CaptureFixture[str], run: str, arguments: list[str], code: int, kind: str, words: str
):
    given = [argument.replace("RUN", run) for argument in arguments]
    found, out, err = called(capsys, *given)
    assert (found, out) == (code, "")
    assert words in err
    assert len(err.splitlines()) == 1
    found, out, err = called(capsys, *given, "--json")
    assert (found, err) == (code, "")
    said = json.loads(out)
    assert said["error"] == kind
    assert words in said["message"]


def test_a_verb_whose_module_is_missing_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(app.Verbs.modules, "plan", "depthscope.cli.nowhere")
    code, _, err = called(capsys, "plan")
    assert code == 2
    assert "'plan' is not part of this version" in err


def test_an_interrupt_exits_with_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, run: str
):
    def stop(path: object):
        raise KeyboardInterrupt

    monkeypatch.setattr("depthscope.store.run.open_run", stop)
    assert called(capsys, "show", run)[0] == 130


def test_report_writes_the_page_and_prints_where(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, run: str
):
    out = tmp_path / "page.html"
    assert printed(capsys, "report", run, "--out", str(out)).strip() == str(out)
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    said = json.loads(printed(capsys, "report", run, "--json"))
    assert said == {"report": f"{run}/report.html", "bytes": (Path(run) / "report.html").stat().st_size}


def test_compare_prints_tables_and_writes_a_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, run: str
):
    out = tmp_path / "compare.html"
    said = printed(capsys, "compare", run, run, "--out", str(out))
    assert said.startswith("paired")
    assert "logit_lens/kl_to_final (nats)" in said
    assert out.is_file()


def test_compare_json_holds_grid_values_and_differences(capsys: pytest.CaptureFixture[str], run: str):
    found = json.loads(printed(capsys, "compare", run, run, "--json"))
    curve = found["measurements"]["logit_lens/kl_to_final"]
    assert len(found["depth"]) == len(curve["value"][0]) == 21
    np.testing.assert_allclose(curve["difference"][1], 0.0)
    assert found["scalars"]["layer_skip/noise_floor"] == [0.0004, 0.0004]
