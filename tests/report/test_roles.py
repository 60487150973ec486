"""Sentences on the roles of heads: decided, and not decided."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from grammar_results import made, result
from scipy.stats import fisher_exact
from synthetic import write_run

from depthscope.report.page import _readable
from depthscope.report.roles import (
    UNTRAINED,
    Role,
    roles_in_depth,
    roles_stand_out,
)
from depthscope.report.sentence import Verdict
from depthscope.report.verdict import verdicts
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

LAYERS, HEADS = 10, 6


def atlas(**places: list[tuple[int, int]]) -> Result:
    """Each label held by the named heads, with an interval of its depth; `grammar` is open everywhere."""
    role = np.zeros((len(places) + 1, LAYERS, HEADS))
    for k, found in enumerate(places.values()):
        for place in found:
            role[k][place] = 1
    role[-1] = np.nan
    grid = {"layer": np.arange(LAYERS), "head": np.arange(HEADS)}
    names = np.array([*places, "grammar"])
    depth = [
        np.mean([at for at, _ in found]) / (LAYERS - 1) if found else np.nan for found in places.values()
    ]
    return result(
        "head_atlas",
        [
            Measurement("role", {"role": names, **grid}, role, "1", missing="open"),
            made("role_depth", {"role": names}, [*depth, np.nan], "1"),
        ],
    )


def layer(at: int, heads: int = HEADS) -> list[tuple[int, int]]:
    return [(at, head) for head in range(heads)]


def told(own: Result, null: Result) -> Verdict:
    return roles_stand_out({"head_atlas": own, f"{UNTRAINED}head_atlas": null})


def test_labels_that_untrained_weights_do_not_give_stand_out():
    own = atlas(previous=layer(1) + layer(2), broad=layer(0), sink=[(4, 4)])
    found = told(own, atlas(previous=[], broad=layer(3), sink=[]))
    assert found.decided
    assert found.sentence == (
        "More heads than with untrained weights are: previous (12 of 60 heads); not told apart: broad, sink."
    )
    assert "previous 12 against 0, broad 6 against 6, sink 1 against 0" in found.because


def test_a_label_stands_out_where_fishers_test_over_all_labels_says_so():
    for heads in range(1, 8):
        found = told(atlas(sink=[*layer(1), (2, 0)][:heads], broad=[]), atlas(sink=[], broad=[]))
        p = fisher_exact([[heads, 60 - heads], [0, 60]], alternative="greater").pvalue
        assert found.decided == (2 * p <= 0.05)


def test_labels_as_common_as_with_untrained_weights_decide_nothing():
    same = told(atlas(broad=layer(0)), atlas(broad=layer(0)))
    assert (same.decided, same.sentence) == (
        False, "Not decided: no label is commoner than with untrained weights."
    )  # fmt: skip


def test_labels_in_few_layers_sit_early_or_late():
    found = roles_in_depth({"head_atlas": atlas(previous=layer(0), induction=layer(8), sink=layer(4, 3))})
    assert found.decided
    assert found.sentence == (
        "Nearer the input than random heads: previous (0%); nearer the output: induction (89%)."
    )


def test_labels_anywhere_in_the_depth_decide_nothing():
    spread = [(k, k % HEADS) for k in range(LAYERS)]
    found = roles_in_depth({"head_atlas": atlas(sink=spread)})
    assert (found.decided, found.sentence) == (False, "Not decided: labels may lie anywhere in the depth.")
    wide = atlas(previous=layer(0))
    depth = wide["role_depth"]
    unsure = result(
        "head_atlas", [wide["role"], replace(depth, low=depth.value - 0.6, high=depth.value + 0.6)]
    )
    assert not roles_in_depth({"head_atlas": unsure}).decided, (
        "random heads would say so, the interval does not"
    )
    few = roles_in_depth({"head_atlas": atlas(sink=layer(9, 4))})
    assert few.sentence == "Not decided: no label has enough heads."


def test_distance_from_random_heads_is_in_their_standard_deviations():
    (role,) = Role.every(atlas(previous=layer(0, 5)))
    depths = np.repeat(np.linspace(0, 1, LAYERS), HEADS)
    rng = np.random.default_rng(0)
    drawn = np.array([rng.permutation(depths)[:5].mean() for _ in range(4000)])
    np.testing.assert_allclose(role.away, (0 - drawn.mean()) / drawn.std(), rtol=0.05)


def test_rules_read_the_null_of_untrained_weights_of_a_run(tmp_path: Path):
    run = write_run(tmp_path / "run", {"head_atlas": atlas(sink=layer(1))})
    assert list(_readable(run)) == ["head_atlas"]
    write_run(tmp_path / "run" / "nulls" / "untrained", {"head_atlas": atlas(sink=[])})
    assert list(_readable(run)) == ["head_atlas", "untrained/head_atlas"]
    assert [said.topic for said in verdicts(_readable(run))] == [
        "Which roles of heads stand out", "Where in depth the roles of heads sit"
    ]  # fmt: skip
