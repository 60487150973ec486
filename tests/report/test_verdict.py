"""Every verdict rule decides where its interval allows it, and says "not decided" where it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic import (
    L,
    corpus_statistics,
    layer_skip,
    lens_quality,
    measurement,
    representation_profile,
    results,
    settle_depth,
)

from depthscope.report import verdict
from depthscope.report.roles import UNTRAINED
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result


def changed(result: Result, **found: Measurement) -> Result:
    return replace(
        result, findings=replace(result.findings, measurements={**result.findings.measurements, **found})
    )


def no_interval(found: Measurement) -> Measurement:
    return replace(found, low=None, high=None)


def test_settling_is_decided_by_a_narrow_interval():
    said = verdict.settling({"settle_depth": settle_depth((9.0, 8.5, 9.5))})
    assert said.decided
    assert "state 9 of 12 (75% of the depth)" in said.sentence
    assert "8.5 to 9.5, n = 24" in said.because


def test_settling_counts_the_share_of_the_first_half():
    share = np.zeros(L + 1)
    share[[2, 5, 6, 9]] = (0.1, 0.2, 0.3, 0.4)  # states 2 and 5 lie before 6 = L / 2
    histogram = measurement("stable_histogram", {"state": np.arange(L + 1)}, share, "probability")
    said = verdict.settling({"settle_depth": changed(settle_depth(), stable_histogram=histogram)})
    assert "30% settle in the first half" in said.sentence


@pytest.mark.parametrize("interval", [(9.0, 6.0, 9.5), (9.0, np.nan, np.nan)])
def test_settling_is_not_decided_by_a_wide_or_missing_interval(interval: tuple[float, float, float]):
    said = verdict.settling({"settle_depth": settle_depth(interval)})
    assert not said.decided
    assert said.sentence.startswith("Not decided")


def test_an_interval_of_exactly_a_quarter_of_the_depth_decides():
    assert verdict.settling({"settle_depth": settle_depth((9.0, 7.0, 10.0))}).decided


def test_the_cheapest_layer_is_named_with_its_loss_and_a_warning():
    said = verdict.cheapest_layers({"layer_skip": layer_skip(), "corpus_statistics": corpus_statistics()})
    assert said.decided
    assert "Skipping layer 6 costs least: +0.05 nats" in said.sentence
    assert "loss only, not verified by generation" in said.sentence


def test_first_last_and_sink_writing_layers_are_protected_with_the_reason():
    said = verdict.cheapest_layers({"layer_skip": layer_skip(), "corpus_statistics": corpus_statistics(1)})
    assert "layer 0 (first), layer 1 (writes the sink), layer 11 (last)" in said.because


def test_without_a_sink_layer_one_is_free_and_costs_nothing():
    said = verdict.cheapest_layers({"layer_skip": layer_skip(), "corpus_statistics": corpus_statistics(None)})
    assert "Skipping layer 1 costs least: no loss above the noise floor" in said.sentence
    assert "sink" not in said.because


def test_layers_that_cannot_be_told_apart_are_named_together():
    said = verdict.cheapest_layers({"layer_skip": layer_skip(0.2), "corpus_statistics": corpus_statistics()})
    assert said.decided
    assert "Layers 5, 7 cannot be told apart from it" in said.sentence


def test_the_cheapest_layer_is_not_decided_when_all_intervals_overlap():
    said = verdict.cheapest_layers({"layer_skip": layer_skip(5.0), "corpus_statistics": corpus_statistics()})
    assert not said.decided


@pytest.mark.parametrize(("n", "decided"), [(7, False), (8, True)])
def test_the_cheapest_layer_needs_eight_documents(n: int, decided: bool):
    found = {"layer_skip": layer_skip(n=n), "corpus_statistics": corpus_statistics()}
    assert verdict.cheapest_layers(found).decided is decided


def test_windows_are_no_documents():
    windows = replace(layer_skip(), provenance={"units": "windows"})
    said = verdict.cheapest_layers({"layer_skip": windows, "corpus_statistics": corpus_statistics()})
    assert not said.decided
    assert "24 windows" in said.sentence


def test_a_model_of_protected_layers_only_is_not_decided():
    by = {"layer": [0, 1], "sublayer": ["block"]}
    tiny = changed(layer_skip(), loss_increase=measurement("loss_increase", by, [[1.0], [2.0]], "nats"))
    assert not verdict.cheapest_layers({"layer_skip": tiny}).decided


def test_the_richest_state_is_decided_without_massive_tokens():
    said = verdict.richest_state({"representation_profile": representation_profile()})
    assert said.decided
    assert "state 4 of 12 (33% of the depth)" in said.sentence
    assert "wei_no_massive" in said.because


def test_the_richest_state_is_not_decided_when_both_halves_are_alike():
    assert not verdict.richest_state({"representation_profile": representation_profile(0.2)}).decided
    assert not verdict.richest_state({"representation_profile": representation_profile(peak=5.6)}).decided


def test_the_richest_state_is_not_decided_when_rank_disagrees():
    late = representation_profile(peak=9.0)["effective_rank"]
    mixed = changed(representation_profile(), effective_rank=late)
    said = verdict.richest_state({"representation_profile": mixed})
    assert not said.decided
    assert "disagree" in said.sentence


@pytest.mark.parametrize(
    ("flips", "decided", "word"),
    [((0.9, 0.05), True, "overturned"), ((0.2, 0.05), True, "kept"), ((0.5, 0.1), False, "Not decided")],
)
def test_early_predictions_are_overturned_kept_or_not_decided(flips: tuple, decided: bool, word: str):
    said = verdict.guess_and_refine({"settle_depth": settle_depth(flips=flips)})
    assert said.decided is decided
    assert word in said.sentence
    assert "state 3 of 12" in said.because


@pytest.mark.parametrize(
    ("worst", "decided", "words"),
    [
        ((-0.5, 0.1), True, "Ridge does, at every state from 0 to 9; tuned does, at every state"),
        ((0.5, 0.1), True, "tuned does not: it is no better at state 7"),
        ((0.05, 0.1), False, "not decided for tuned"),
        ((-0.05, 0.1), False, "not decided for tuned"),
    ],
)
def test_a_fitted_lens_is_better_worse_or_not_decided(worst: tuple, decided: bool, words: str):
    said = verdict.better_lens({"lens_quality": lens_quality(worst)})
    assert said.decided is decided
    assert words in said.sentence
    assert "state 7" in said.because


def test_the_logit_lens_alone_decides_nothing():
    found = lens_quality()["kl_difference"]
    alone = replace(
        found, axes={**found.axes, "lens": found.axes["lens"][:1]},
        **{part: getattr(found, part)[:1] for part in ("value", "low", "high", "n", "n_items")},
    )  # fmt: skip
    said = verdict.better_lens({"lens_quality": changed(lens_quality(), kl_difference=alone)})
    assert not said.decided


def test_sentences_about_predictions_say_which_lens_was_read_through():
    ridge = replace(settle_depth(), provenance={"lens": "ridge"})
    for rule in (verdict.settling, verdict.guess_and_refine):
        assert "read through the lens ridge" in rule({"settle_depth": ridge}).sentence
        assert "lens" not in rule({"settle_depth": replace(ridge, provenance={})}).sentence


def test_no_rule_decides_without_an_interval():
    found = {
        name: replace(
            result, findings=Findings({m: no_interval(f) for m, f in result.findings.measurements.items()})
        )
        for name, result in results().items()
    }
    found |= {f"{UNTRAINED}head_atlas": found["head_atlas"]}
    assert [said.decided for said in verdict.verdicts(found)] == [False] * len(verdict.RULES)


def test_a_missing_measurement_is_not_decided_and_a_missing_analysis_is_left_out():
    empty = replace(settle_depth(), findings=Findings({}))
    said = verdict.verdicts({"settle_depth": empty, "layer_skip": layer_skip()})
    assert [v.decided for v in said] == [False, False, True, True]
    assert "stable_histogram" in said[0].because
