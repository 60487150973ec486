"""Every plot is a valid Vega-Lite specification of what its result holds, and says what cannot be drawn."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

import altair
import jsonschema_rs
import numpy as np
import pytest
from synthetic import HOSTILE, L, head_patterns, measurement, results

from depthscope import charts
from depthscope.errors import BadInput
from depthscope.registry import PLOTS
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result

NAMES = tuple(PLOTS)
RESULTS, AGAIN = results(), results()


@cache
def schema() -> jsonschema_rs.Draft7Validator:
    """The schema of Vega-Lite that altair carries."""
    (path,) = Path(altair.__file__).parent.rglob("vega-lite-schema.json")
    return jsonschema_rs.Draft7Validator(linked(json.loads(path.read_text(encoding="utf-8"))))


def linked(part: Any) -> Any:
    """The same with references as URIs: names of the schema hold brackets and bars."""
    if isinstance(part, dict):
        return {k: quote(v, safe="#/") if k == "$ref" else linked(v) for k, v in part.items()}
    return [linked(one) for one in part] if isinstance(part, list) else part


@cache
def spec_of(name: str) -> dict[str, Any]:
    return module(name).plot(RESULTS[module(name).SUITS[0]])


def module(name: str) -> ModuleType:
    return importlib.import_module(f"depthscope.plots.{name}")


def rows_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for rows in spec["datasets"].values() for row in rows]


def with_measurements(result: Result, **found: Measurement) -> Result:
    kept = dict(result.findings.measurements) | found
    return replace(result, findings=Findings(kept))


@pytest.mark.parametrize("name", NAMES)
def test_a_plot_is_valid_against_the_schema(name: str):
    schema().validate(spec_of(name))
    json.dumps(spec_of(name), allow_nan=False)


@pytest.mark.parametrize("name", NAMES[:3])
def test_a_plot_with_a_misspelt_part_is_not_valid(name: str):
    assert not schema().is_valid(spec_of(name) | {"titel": "x"})
    with pytest.raises(jsonschema_rs.ValidationError):
        schema().validate(spec_of(name) | {"layer": [{"mark": "lines"}]})


@pytest.mark.parametrize("name", NAMES)
def test_a_plot_follows_its_container_and_takes_the_colour_of_the_page(name: str):
    spec = spec_of(name)
    assert (spec["width"], spec["background"]) == ("container", "transparent")
    assert spec["config"]["axis"]["labelColor"] == "currentColor"
    assert spec["title"]["text"] == module(name).TITLE


@pytest.mark.parametrize("name", NAMES)
def test_a_plot_tells_what_it_shows_in_words(name: str):
    spec = spec_of(name)
    assert len(spec["description"]) > 40
    assert any(char.isdigit() for char in spec["description"])


@pytest.mark.parametrize("name", NAMES)
def test_a_plot_is_a_pure_function_of_its_result(name: str):
    assert spec_of(name) == module(name).plot(AGAIN[module(name).SUITS[0]])


@pytest.mark.parametrize("name", NAMES)
def test_a_plot_without_its_measurements_says_which_are_missing(name: str):
    empty = replace(RESULTS[module(name).SUITS[0]], findings=Findings({}))
    with pytest.raises(BadInput, match=module(name).READS[0]):
        module(name).plot(empty)


@pytest.mark.parametrize("name", NAMES)
def test_a_plot_of_nothing_but_missing_cells_is_still_valid(name: str):
    result = RESULTS[module(name).SUITS[0]]
    gone = {
        m: Measurement(m, f.axes, np.full(f.value.shape, np.nan), f.unit, missing="none")
        for m, f in result.findings.measurements.items()
    }
    spec = module(name).plot(replace(result, findings=Findings(gone)))
    schema().validate(spec)
    json.dumps(spec, allow_nan=False)


def test_the_drawn_numbers_are_those_of_the_measurement():
    spec = module("lens_kl").plot(RESULTS["logit_lens"])
    drawn = {r["state"]: r for r in rows_of(spec) if r.get("series") == "KL" and "state" in r}
    found = RESULTS["logit_lens"]["kl_to_final"]
    assert [drawn[s]["value"] for s in range(L + 1)] == found.value.tolist()
    assert [drawn[s]["low"] for s in range(L + 1)] == found.low.tolist()
    assert (drawn[3]["n"], drawn[3]["n_items"], drawn[3]["depth"]) == (24, 24 * 85, 0.25)


def test_depth_counts_states_from_zero_and_layers_from_one():
    state = measurement("m", {"state": [0, 2, 4]}, [1, 2, 3])
    layer = measurement("m", {"layer": [0, 1, 3]}, [1, 2, 3])
    assert charts.relative_depth(state, "state") == {0: 0.0, 2: 0.5, 4: 1.0}
    assert charts.relative_depth(layer, "layer") == {0: 0.25, 1: 0.5, 3: 1.0}


def test_missing_cells_are_not_drawn_in_the_skip_map():
    spec = module("skip_map").plot(RESULTS["layer_skip"])
    assert {r["later_layer"] > r["layer"] for r in rows_of(spec)} == {True}
    assert len(rows_of(spec)) == L * (L - 1) // 2


def test_the_score_of_heads_can_be_chosen():
    spec = module("heads").plot(RESULTS["head_patterns"])
    assert spec["params"][0]["bind"]["options"] == list(module("heads").READS)
    assert len(rows_of(spec)) == L * 8


def test_a_large_map_is_thinned_and_says_so():
    apart = np.arange(100)[None] - np.arange(100)[:, None]
    effect = np.where(apart > 0, 1.0, np.nan)
    axes = {"layer": np.arange(100), "later_layer": np.arange(100)}
    found = Measurement("effect_on_later", axes, effect, "1", missing="earlier")
    spec = module("skip_map").plot(with_measurements(RESULTS["layer_skip"], effect_on_later=found))
    assert len(rows_of(spec)) <= charts.CELLS
    assert "one in 3 labels of layer and later_layer" in spec["title"]["subtitle"]


def test_many_heads_are_thinned_by_layer():
    spec = module("heads").plot(head_patterns(80, 64))
    assert len(rows_of(spec)) <= charts.CELLS
    assert {r["head"] for r in rows_of(spec)} == set(range(64))
    assert "of layer is drawn" in spec["title"]["subtitle"]


def test_more_cells_than_fit_are_refused():
    found = measurement("m", {"state": np.arange(2001)}, np.ones(2001))
    with pytest.raises(BadInput, match="2001 cells"):
        charts.finish(charts.lines({"m": found}, "state", "m"), "t", "d")


def test_more_series_than_colours_are_refused():
    found = measurement("m", {"state": [0, 1]}, [1, 2])
    with pytest.raises(BadInput, match="8 were given"):
        charts.lines({str(i): found for i in range(8)}, "state", "m")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, 2.0], "linear"),
        ([1.0, 1000.0], "log"),
        ([0.0, 0.1, 0.1, 0.1, 9.0], "symlog"),
        ([1e-9, 0.1, 0.1, 0.1, 9.0], "symlog"),  # rounding is no order of magnitude
        ([-0.5, 0.1, 0.1, 0.1, 9.0], "symlog"),
        ([0.0, 0.0], "linear"),
        ([], "linear"),
    ],
)
def test_an_automatic_scale_suits_the_range(values: list[float], kind: str):
    scale = charts.y_scale([{"value": v, "low": None, "high": None} for v in values], "auto")
    assert scale["type"] == kind
    low, high = scale["domain"]
    assert low < high
    assert all(low <= v <= high for v in values)


def test_a_scale_is_linear_unless_asked_and_ranks_are_logarithmic():
    assert charts.y_scale([{"value": v} for v in (1e-9, 20.0)])["type"] == "linear"
    assert charts.y_scale([{"value": v} for v in (1.0, 50_000.0)], "log")["type"] == "log"
    assert charts.y_scale([{"value": v} for v in (0.0, 50_000.0)], "log")["type"] == "linear"


def test_a_line_outside_the_scale_is_not_drawn_outside_the_chart():
    (rule,) = charts.dashed(1e-9, "noise")
    assert rule["mark"]["clip"]
    assert charts.dashed(np.nan, "noise") == []


def test_end_labels_keep_the_order_of_the_lines_and_do_not_overlap():
    by = {"state": [0, 1]}
    series = {n: measurement(n, by, [1.0, v]) for n, v in (("a", 0.50), ("b", 0.51), ("c", 0.50))}
    words = charts.lines(series, "state", "m")[-1]["data"]["values"]
    assert words[0]["series"] == "b"
    pixels = [w["pixel"] for w in words]
    assert np.diff(pixels).min() >= 14 - 1e-9
    assert max(pixels) <= charts.HEIGHT


def test_every_class_of_words_that_is_drawn_has_a_label():
    spec = spec_of("pos_onset")
    drawn = {row["word_class"] for row in rows_of(spec)}
    assert drawn == set(spec["layer"][0]["encoding"]["y"]["scale"]["domain"])


def test_modes_are_drawn_whatever_they_are_called():
    hostile = measurement("prompt_entropy", {"state": [0, 1], "mode": [HOSTILE[0], "wei"]}, np.ones((2, 2)))
    spec = module("profile").plot(
        with_measurements(RESULTS["representation_profile"], prompt_entropy=hostile)
    )
    assert {r["series"] for r in rows_of(spec)} == {HOSTILE[0], "wei"}


def test_the_set_that_was_removed_has_its_own_colour_and_each_task_its_own_margin():
    picked = {
        row["variant"]: row["series"] for row in rows_of(module("prune_candidates").plot(RESULTS["prune"]))
    }
    assert picked == {"2 influence": "not removed", "2 greedy+loss": "removed"}
    tasks = ("facts by generation", "sums by generation")
    margins = Measurement("margin", {"task": np.asarray(tasks[::-1])}, np.array([0.01, 0.05]), "probability")
    spec = module("prune_tasks").plot(with_measurements(RESULTS["prune"], margin=margins))
    assert {row["task"]: row["value"] for row in spec["datasets"]["rows_0"]} == dict(
        zip(tasks, (-5, -1), strict=True)
    )
