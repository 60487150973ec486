"""Entropies of edited texts against spectra of the edited ids taken by hand, in a model that holds nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from formulas import Plain, numbers
from planted import SLOT, look, planted, rising, value
from test_representation_profile import line, moved_to

from depthscope.analyses.extreme_inputs import ExtremeInputs
from depthscope.engine.audit import audit
from depthscope.engine.extreme_findings import thirds
from depthscope.errors import BadInput
from depthscope.results.result import Result
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

FEW = {"prompts": 4, "longest": 12, "levels": (3, 2, 2), "lengths": (6, 9), "draws": 4, "copies": (4,)}
EXACT, KEPT = 0, 1
UNRELATED = rising(2)
"""Every audit reads a text; these analyses do not look at it."""


def entropy(vectors: np.ndarray) -> tuple[float, float]:
    """S1 of centred unit rows in nats, and over ln of the smaller side; by singular values; 0 for equal rows."""
    away = vectors - vectors.mean(0)
    length = np.linalg.norm(away, axis=1)
    away = away[length > 1e-4 * np.sqrt((vectors**2).sum(1).mean())]
    if len(away) < 2:
        return 0.0, 0.0
    unit = away / np.linalg.norm(away, axis=1, keepdims=True)
    p = np.linalg.svd(unit, compute_uv=False) ** 2 / len(unit)
    p = p[p > 1e-12]
    raw = -(p * np.log(p)).sum()
    return raw, raw / np.log(min(unit.shape))


def expected(model: Model, states_of, analysis: ExtremeInputs) -> dict[tuple[str, str], dict[float, list]]:
    """(kind, mode) -> level -> for each text raw and normalised entropies [state, 2]; equal vectors give 0."""
    material = analysis.needs(model.anatomy).material
    assert material is not None
    found: dict[tuple[str, str], dict[float, list]] = {}
    for window in material.windows(model, 0).items:
        states = states_of(list(window.ids))
        for mode in window.about["modes"]:
            values = np.array([entropy(s[int(mode == "first_kept") :]) for s in states])
            found.setdefault((window.about["kind"], mode), {}).setdefault(window.about["level"], []).append(
                values
            )
    return found


def check(result: Result, hand: dict[tuple[str, str], dict[float, list]]) -> None:
    for (kind, mode), levels in hand.items():
        for level, texts in levels.items():
            mean = np.mean(texts, 0)
            measured = result[f"{kind}_entropy"].select(level=level, mode=mode)
            np.testing.assert_allclose(measured.value, mean[:, 1], rtol=1e-6, atol=1e-8)
            assert (measured.n == len(texts)).all()
            if kind in ("length", "copies", "truncation"):
                raw = result[f"{kind}_raw_entropy"].select(level=level, mode=mode)
                np.testing.assert_allclose(raw.value, mean[:, 0], rtol=1e-6, atol=1e-8)
        if kind in ("repetition", "randomness", "length"):
            x = np.log(list(levels)) if kind == "length" else list(levels)
            curves = np.array(list(levels.values()))[..., 1]  # [level, text, state]
            slope = np.polyfit(x, curves.reshape(len(x), -1), 1)[0].reshape(curves.shape[1:])
            measured = result["slope"].select(variant=kind, mode=mode)
            np.testing.assert_allclose(measured.value, slope.mean(0), rtol=1e-6, atol=1e-8)
            assert ((measured.low <= measured.value) & (measured.value <= measured.high)).all()


def test_a_stream_of_tokens_has_the_entropy_of_its_tokens_and_a_line_has_none(tmp_path: Path) -> None:
    model, analysis = planted({2: moved_to(line)}, 3), ExtremeInputs(**FEW)

    def states_of(ids: list[int]) -> list[np.ndarray]:
        one_hot, on_a_line = np.eye(64)[ids], np.zeros((len(ids), 192))
        on_a_line[:, SLOT.start] = ids
        return [*[np.concatenate([one_hot, one_hot, 0 * one_hot], 1)] * 3, on_a_line]

    result = look(model, analysis, tmp_path, UNRELATED)
    check(result, expected(model, states_of, analysis))
    assert (result["slope"].select(variant="repetition", mode="exact").high[:3] < 0).all()
    for kind in ("repetition", "randomness", "truncation", "length"):
        # one direction, or tokens at its centre: entropy 0 but not degenerate
        np.testing.assert_allclose(value(result, f"{kind}_entropy")[3], 0, atol=1e-8)
        if kind != "repetition":  # at p = 0.9 all of 12 tokens are one in about a quarter of the texts
            assert result["degenerate"].at(variant=kind, state=3, mode="exact") == 0
    assert (result["degenerate"].select(variant="copies").value == 1).all()
    np.testing.assert_array_equal(value(result, "copies_entropy"), 0)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_entropies_equal_those_of_states_computed_by_hand(kind: str, tmp_path: Path) -> None:
    model = tiny(kind, torch.float64, seed=3)
    analysis = ExtremeInputs(**{**FEW, "prompts": 3, "draws": 3, "levels": (2, 2, 2)})
    plain = Plain(model.net, kind)
    result = audit(
        model, [analysis], out=tmp_path / "run", text=["a text that nobody looks at"], tokens=99, window=24
    )
    found = result["extreme_inputs"]
    hand = expected(model, lambda ids: [numbers(s) for s in plain.run(ids).states], analysis)
    hand.pop(("copies", "exact"))  # learned positions keep copies apart, rotated ones do not
    hand.pop(("copies", "first_kept"))
    check(found, hand)
    assert (found["degenerate"].at(variant="copies", state=2, mode="exact") == 1) == (kind == "llama")


def test_thirds_hold_every_layer_once_and_state_0_never() -> None:
    weights = thirds(7)
    assert (weights[:, 0] == 0).all()
    np.testing.assert_array_equal((weights[:3] > 0).sum(1), [3, 2, 2])
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(weights[3, 1:], 1 / 7)
    assert np.isnan(thirds(2)[2, 1:]).all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"levels": (9, 10)}, "need 2 levels or more each"),
        ({"lengths": (1,)}, r"lengths=\(1,\) \(tokens\) must be one number or more, each 2 or more"),
    ],
)
def test_wrong_parameters_are_told(given: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        ExtremeInputs(**given)
