"""No number of the documentation is typed: every generated block is what the script makes of the committed JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings, Result, Text
from depthscope.store.folder import RunFolder
from depthscope.store.run import Run, open_run

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "scripts"
sys.path.insert(0, str(SCRIPTS))

import number_tables as tables  # noqa: E402
import write_numbers as script  # noqa: E402

STORED = script.stored()
WORDS = Text("T", "Q", "M", "H", "W", "S")
MODEL = {"name": "toy", "revision": None, "weights_hash": "ab" * 32, "dtype": "float32"}
DATA = {
    "source": "a test",
    "hash": "cd" * 32,
    "documents": 9,
    "windows": 9,
    "tokens": 900,
    "units": "documents",
}
LAW = {"law": 1, "title": "adds up", "status": "holds", "worst": 1.23456e-7, "tolerance": 5e-5, "reason": ""}


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def curve(name: str, value: list[float], **more: object) -> Measurement:
    values = np.asarray(value)
    count = np.full(values.shape, 9)
    axes = {"layer": np.arange(len(values))}
    return Measurement(name, axes, values, "nats", values - 0.5, values + 0.5, count, count * 100, **more)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def toy(tmp_path: Path) -> Run:
    """A finished run with one curve and one map."""
    grid = np.array([[9.0, 0.25, 0.5], [np.nan, 9.0, 0.125], [np.nan, np.nan, 9.0]])
    axes = {"layer": np.arange(3), "later_layer": np.arange(3)}
    found = {
        "loss": curve("loss", [1.23456, 0.000123456, 23456.7]),
        "effect": Measurement("effect", axes, grid, "1", missing="earlier layers cannot be affected"),
    }
    about = {"model": MODEL, "data": DATA, "seed": 0, "depthscope": "0.1.0", "command": "depthscope run toy"}
    with RunFolder.create(tmp_path / "run", {**about, "verification": [LAW], "complete": True}) as folder:
        folder.write_result(Result("layer_skip", {"tokens": 8}, Findings(found), WORDS, {}))
    return open_run(tmp_path / "run")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_are_what_the_script_writes(page: Path):
    text = page.read_text(encoding="utf-8")
    assert text == script.refreshed(text, STORED, page)


@pytest.mark.parametrize("path", sorted(script.NUMBERS.glob("*.json")), ids=lambda path: path.stem)
def test_committed_numbers_say_where_they_come_from(path: Path):
    found = json.loads(path.read_text(encoding="utf-8"))
    # a run from Python names its call
    assert found["command"].startswith(("depthscope ", "ds.audit(", "conduct("))
    if "hash" in found["data"]:
        assert found["model"]["weights_hash"]
        assert found["data"]["tokens"] > 0
    else:  # a study that makes what it measures
        assert found["model"]["name"]
        assert found["data"]["source"].startswith(("synthetic ", "sequences of "))
    assert all(law["status"] != "broken" for law in found["verification"])
    assert script.json_text(found) == path.read_text(encoding="utf-8")


def test_a_typed_number_in_a_block_does_not_survive(toy: Run):
    numbers = {"toy": script.numbers_of(toy)}
    asked = "<!-- numbers: toy cell layer_skip loss[layer=0] -->"
    page = ROOT / "docs" / "index.md"
    text = script.refreshed(f"a loss of {asked}1.5<!-- end numbers --> nats", numbers, page)
    assert text == f"a loss of {asked}1.235 [0.7346, 1.735]<!-- end numbers --> nats"
    assert script.refreshed(text, numbers, page) == text


def test_numbers_are_kept_to_four_digits_with_counts_and_missing_cells(toy: Run):
    kept = json.loads(script.json_text(script.numbers_of(toy)))["analyses"]["layer_skip"]
    loss, effect = kept["measurements"]["loss"], kept["measurements"]["effect"]
    assert loss["value"] == [1.235, 0.0001235, 23460.0]
    assert (loss["n"], loss["n_items"], loss["unit"]) == (9, 900, "nats")
    assert effect["value"][1] == [None, 9.0, 0.125]
    assert kept["parameters"] == {"tokens": 8}


def test_a_curve_is_a_row_for_each_layer_with_intervals_and_counts(toy: Run):
    said = script.rendered(["toy", "curves", "layer_skip", "loss"], {"toy": script.numbers_of(toy)}, ROOT)
    lines = said.splitlines()
    assert lines[0] == "| layer | `loss` (nats) |"
    assert lines[2] == "| 0 | 1.235 [0.7346, 1.735] |"
    assert lines[4] == "| 2 | 23,460 [23,460, 23,460] |"
    assert lines[-1] == "n = 9, n_items = 900 for every column."


def test_the_largest_effects_leave_out_the_diagonal_and_missing_cells(toy: Run):
    said = script.rendered(["toy", "largest", "layer_skip", "effect"], {"toy": script.numbers_of(toy)}, ROOT)
    where = [line.split("|")[2:4] for line in said.splitlines()[2:]]
    assert where == [
        [" layer 0, later layer 2 ", " 0.5000 "],
        [" layer 0, later layer 1 ", " 0.2500 "],
        [" layer 1, later layer 2 ", " 0.1250 "],
    ]


def test_halves_leave_out_the_ends():
    # layers 1, 2 are the first half of six without its end, layers 3, 4 the second: means 3 and 7
    said = tables.halves({"loss": curve("loss", [100.0, 2.0, 4.0, 6.0, 8.0, 100.0])})
    assert said.splitlines()[-1] == "| `loss` (nats) | 3 | 3 | 7 | 7 |"


def test_a_grid_has_the_labels_of_two_axes_of_any_kind_and_leaves_out_empty_rows():
    axes = {"word_class": np.array(["DET", "X", "NOUN"]), "k": np.array([1, 10])}
    value = np.array([[1.5, 0.5], [np.nan, np.nan], [3.0, np.nan]])
    found = Measurement("onset", axes, value, "1", n=np.full((3, 2), 9), missing="none of this class")
    said = tables.grid({"onset": found}).splitlines()
    assert said[0] == "| word class | k 1 | k 10 |"
    assert said[2:4] == ["| DET | 1.500 | 0.5000 |", "| NOUN | 3 | – |"]
    one = tables.grid({"onset": found.select(k=1), "other": found.select(k=10)}).splitlines()
    assert one[0] == "| word class | `onset` | `other` |"
    assert one[3] == "| NOUN | 3 | – |"


def test_several_labels_pick_one_cell(toy: Run):
    numbers = {"toy": script.numbers_of(toy)}
    asked = ["toy", "cell", "layer_skip", "effect[layer=0][later_layer=2]"]
    assert script.rendered(asked, numbers, ROOT) == "0.5000"


def test_a_label_is_a_word_where_its_axis_holds_words():
    found = {"axes": {"bucket": ["1", "2"], "k": [1, 10]}, "value": [[0.1, 0.2], [0.3, 0.4]]}
    numbers = {
        "analyses": {"toy": {"measurements": {"onset": {**found, "unit": "1", "note": "", "missing": ""}}}}
    }
    assert tables.table(numbers, "cell", "toy", "onset[bucket=1][k=10]") == "0.2000"


def test_curves_of_different_axes_are_refused(toy: Run):
    with pytest.raises(ValueError, match="different axes"):
        tables.curves({"a": curve("a", [1.0, 2.0]), "b": curve("b", [1.0, 2.0, 3.0])})


@pytest.mark.parametrize("asked", ["toy curve layer_skip loss", "toy curves layer_skip lost", "toy"])
def test_a_marker_that_asks_for_nothing_known_is_an_error(toy: Run, asked: str):
    text = f"<!-- numbers: {asked} -->\n<!-- end numbers -->"
    with pytest.raises(ValueError, match=r"page\.md: cannot write"):
        script.refreshed(text, {"toy": script.numbers_of(toy)}, Path("page.md"))


def test_the_origin_of_numbers_is_linked_from_every_depth(toy: Run):
    numbers = {"toy": script.numbers_of(toy)}
    for page, link in (("README.md", "docs/"), ("docs/index.md", ""), ("docs/analyses/logit_lens.md", "../")):
        assert f"]({link}numbers/toy.json)" in script.rendered(["toy", "run"], numbers, ROOT / page)


def test_writing_numbers_needs_no_torch():
    code = "import sys, write_numbers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS).returncode == 0


def test_written_texts_stand_in_a_page_as_text_whatever_they_hold(tmp_path: Path):
    columns = {
        "pair": [0, 0], "prompt": ["It | is"] * 2, "own": ["a"] * 2, "other": ["b"] * 2,
        "variant": ["plain", "swap_predictable"], "text": ["plain *words*", "<b>`x`|y</b>\n"],
        "towards_other": [0.25, 0.75], "shared_own": [0.5, np.nan],
    }  # fmt: skip
    written = Table({name: np.asarray(values) for name, values in columns.items()})
    found = Findings({"loss": curve("loss", [1.0])}, {"written": written})
    about = {
        "model": MODEL,
        "data": DATA,
        "seed": 0,
        "depthscope": "0.1.0",
        "command": "depthscope steer toy",
    }
    with RunFolder.create(tmp_path / "run", {**about, "verification": [LAW], "complete": True}) as folder:
        folder.write_result(Result("component_steering", {}, found, WORDS, {}))
    numbers = {"toy": json.loads(script.json_text(script.numbers_of(open_run(tmp_path / "run"))))}
    said = script.rendered(["toy", "texts", "component_steering", "0"], numbers, ROOT)
    assert "It &#124; is" in said
    assert "| unsteered | plain &#42;words&#42; | 0.2500 |" in said
    assert "&#60;b&#62;&#96;x&#96;&#124;y&#60;&#47;b&#62;" in said
