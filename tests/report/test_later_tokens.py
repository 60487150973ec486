"""The verdict on the second half of the layers decides where both intervals leave the threshold, and only there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic import layer_skip

from depthscope.report import verdict
from depthscope.report.later_tokens import late_layers


@pytest.mark.parametrize(
    ("halves", "words"),
    [
        (
            (1.0, 0.3),
            "30% of the first half's effect on future tokens and 100% of that on all tokens: it serves the token",
        ),
        ((0.4, 0.2), "it matters less for both"),
        ((1.3, 0.6), "it reaches later tokens less, but does not collapse"),
        ((1.0, 0.95), "it still builds what later tokens read"),
    ],
)
def test_four_pictures_are_told_apart(halves: tuple[float, float], words: str) -> None:
    said = late_layers({"layer_skip": layer_skip(halves=halves)})
    assert said.decided
    assert words in said.sentence
    assert "n = 24" in said.because


@pytest.mark.parametrize(("halves", "sure"), [((1.0, 0.48), 0.1), ((0.52, 0.2), 0.1), ((1.0, 0.3), 0.9)])
def test_an_interval_that_holds_the_threshold_decides_nothing(
    halves: tuple[float, float], sure: float
) -> None:
    said = late_layers({"layer_skip": layer_skip(halves=halves, sure=sure)})
    assert not said.decided
    assert said.sentence == "Not decided: an interval holds the threshold."


def test_few_documents_windows_and_missing_futures_decide_nothing() -> None:
    assert "found 7 documents" in late_layers({"layer_skip": layer_skip(n=7)}).sentence
    windows = replace(layer_skip(), provenance={"units": "windows"})
    assert "found 24 windows" in late_layers({"layer_skip": windows}).sentence
    none = layer_skip(halves=(1.0, float("nan")))
    assert not late_layers({"layer_skip": none}).decided


def test_the_verdict_stands_in_the_box() -> None:
    said = verdict.verdicts({"layer_skip": layer_skip()})
    assert [v.topic for v in said] == [
        "Layers that cost least when skipped",
        "What the second half of the layers is for",
    ]
