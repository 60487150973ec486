"""Depth by difficulty on a model that takes step k of a problem in layer k only, and against full passes by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from formulas import Plain, Skip, sinks_of
from planted import SAID, SLOT, TOKEN, V, look, planted, rising, text_of, value
from torch import Tensor, nn

from depthscope.analyses.depth_by_difficulty import EFFECTS, SCORES, DepthByDifficulty
from depthscope.errors import BadInput, Refused
from depthscope.materials.problems import Problems
from depthscope.results.result import Result
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

LEVELS = np.arange(1, 5)
DEPTH, ALL, ANSWERED = 6, 0, 1
LEVEL_OF = torch.tensor([1 + k % 4 for k in range(V)], dtype=torch.float64)
"""How many steps the problem has that begins with each token."""


class Before(nn.Module):
    """In attention's place: every position says what the slot of the position before it holds."""

    def forward(self, hidden_states: Tensor, **_: object) -> tuple[Tensor, None]:
        slot = torch.zeros_like(hidden_states)
        size = torch.linalg.vector_norm(hidden_states[:, :-1, SLOT], dim=-1, keepdim=True).clamp_min(1e-9)
        slot[:, 1:, SAID] = 10 * hidden_states[:, :-1, SLOT] / size
        return slot, None


def counting(steps: Callable[[int, Tensor], Tensor]) -> Model:
    """Tokens start in the slot; layer k turns it to the next id where steps(k, level of the token); layer 5 says it."""

    def step(k: int) -> Callable[[Tensor], Tensor]:
        def write(x: Tensor) -> Tensor:
            moved = steps(k, x[..., TOKEN] @ LEVEL_OF)[..., None]
            added = torch.zeros_like(x)
            added[..., SLOT] = moved * (x[..., SLOT].roll(1, -1) - x[..., SLOT])
            return added

        return write

    model = planted({k: step(k) for k in range(DEPTH - 1)})
    unit = torch.eye(V, dtype=torch.float64)
    with torch.no_grad():
        model.net.model.embed_tokens.weight.copy_(torch.cat([unit, unit, unit], 1))  # type: ignore[union-attr, operator]
    model.net.model.layers[DEPTH - 1].self_attn = Before()  # type: ignore[union-attr, index]
    return model


def untied() -> Model:
    """Step k of a problem of n steps happens in layer k < n and nowhere else."""
    return counting(lambda k, level: (level > k).double())


def problems(folder: Path, shuffled: bool = False, wrong: bool = False) -> str:
    """Ten problems a level: some characters, then one whose token says the number of steps; prompts of two lengths."""
    draw = np.random.default_rng(0)
    rows = []
    for first in (*range(42, 62), *range(42, 62)):
        level = int(LEVEL_OF[first])
        lead = draw.integers(42, 60, 2 + len(rows) // 4 % 2).tolist()
        answer = first + level + (1 if wrong else 0)
        rows.append({"prompt": text_of([*lead, first]), "answer": text_of([answer]), "level": level})
    if shuffled:
        for row, level in zip(rows, draw.permutation([row["level"] for row in rows]).tolist(), strict=True):
            row["level"] = level
    folder.mkdir(exist_ok=True)
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def looked(model: Model, folder: Path, **how: bool) -> Result:
    analysis = DepthByDifficulty(problems(folder, **how), per_level=10, fewest=10, draws=500)
    return look(model, analysis, folder, rising(8))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return looked(untied(), tmp_path_factory.mktemp("untied"))


def test_a_model_that_takes_step_k_in_layer_k_scores_the_middle_of_its_steps(found: Result) -> None:
    # a skip of any of the first n layers makes the answer wrong by one, in equal measure
    scores = value(found, "depth_score")[SCORES.index("future_output")]
    np.testing.assert_allclose(scores, np.broadcast_to((LEVELS - 1) / 2, (2, 4)), atol=1e-6)
    # of the later layers only the last one changes, by the same, in the mean over 5 - k layers
    parts = [1 / (DEPTH - 1 - np.arange(n)) for n in LEVELS]
    expected = [float(np.arange(n) @ p / p.sum()) for n, p in zip(LEVELS, parts, strict=True)]
    np.testing.assert_allclose(value(found, "depth_score")[1, ALL], expected, atol=1e-6)


def test_the_positive_control_uses_more_depth(found: Result) -> None:
    for score in ("future_output", "future_layers"):
        at = SCORES.index(score)
        assert value(found, "verdict")[at].tolist() == [1, 1]
        assert value(found, "rank_p")[at, ALL] < 0.01
        assert value(found, "ordered_p")[at, ALL] < 1e-6
    np.testing.assert_allclose(value(found, "slope")[0], 0.5, atol=1e-6)
    np.testing.assert_allclose(value(found, "slope_alone")[0], 0.5, atol=1e-6)
    assert any("future_output, all problems (n = 40): uses more depth." in n for n in found.findings.notes)


def test_its_effects_lie_in_the_layers_of_its_steps(found: Result) -> None:
    share = value(found, "effect_share")[EFFECTS.index("future_output")]
    expected = (np.arange(DEPTH)[:, None] < LEVELS) / LEVELS
    np.testing.assert_allclose(share, expected, atol=1e-6)


def test_everything_is_answered_and_settles_with_the_last_layer(found: Result) -> None:
    np.testing.assert_array_equal(value(found, "answered"), 1)
    settled = value(found, "depth_score")[[SCORES.index("settle"), SCORES.index("kl_half")]]
    np.testing.assert_array_equal(settled, DEPTH)
    # all alike: no trend, and equivalence holds
    assert value(found, "verdict")[SCORES.index("settle"), ALL] == 0
    assert np.isnan(value(found, "rank_correlation")[SCORES.index("settle"), ALL])


def test_shuffled_levels_are_not_called_deeper(found: Result, tmp_path: Path) -> None:
    mixed = looked(untied(), tmp_path, shuffled=True)
    for result, name in ((found, "shuffled_slope"), (mixed, "slope")):
        low, high = result[name].low, result[name].high
        assert low is not None
        assert high is not None
        assert (low[:2] < 0).all()
        assert (high[:2] > 0).all()
    assert np.isnan(value(mixed, "verdict")[:2]).all()
    assert "inconclusive" in mixed["verdict"].missing
    assert any("all problems (n = 40): inconclusive." in note for note in mixed.findings.notes)


def test_a_model_that_takes_all_steps_for_every_problem_shows_no_meaningful_change(tmp_path: Path) -> None:
    result = looked(counting(lambda k, level: (k < 3) + 0 * level), tmp_path)
    np.testing.assert_allclose(value(result, "slope")[0, ALL], 0, atol=1e-6)
    assert value(result, "verdict")[0, ALL] == 0
    # it is right only where three steps are asked for, and one level makes no trend
    np.testing.assert_array_equal(value(result, "answered"), LEVELS == 3)
    assert np.isnan(value(result, "slope")[:, ANSWERED]).all()
    assert "fewer than two levels with 10 problems" in result["slope"].missing
    assert "Answered problems: level 1, 2, 4 left out, fewer than 10 problems." in result.findings.notes


def test_what_is_not_answered_is_not_among_the_answered(tmp_path: Path) -> None:
    result = looked(untied(), tmp_path, wrong=True)
    np.testing.assert_array_equal(value(result, "answered"), 0)
    assert np.isnan(value(result, "depth_score")[:, ANSWERED]).all()
    assert np.isfinite(value(result, "depth_score")[0, ALL]).all()


def test_with_too_few_problems_a_level_nothing_is_said(tmp_path: Path) -> None:
    few = DepthByDifficulty(problems(tmp_path), per_level=3)
    result = look(untied(), few, tmp_path, rising(8))
    assert np.isnan(value(result, "depth_score")).all()
    assert np.isnan(value(result, "verdict")).all()
    assert result["depth_score"].missing == "insufficient: 3 problems where 50 are needed"


def longer(folder: Path) -> str:
    """Answers of three tokens, of which two are read."""
    asked = [(f"the {k} th of all", "xyz"[k % 2 :] + "abc"[: 1 + k % 2], 1 + k // 2) for k in range(4)]
    path = folder / "longer.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "answer": a, "level": n}) + "\n" for p, a, n in asked))
    return str(path)


@pytest.mark.parametrize("long", [False, True])
def test_scores_are_those_of_full_passes_by_hand(long: bool, tmp_path: Path) -> None:
    model = tiny("llama", max_position_embeddings=512)
    source, levels, reach = (longer(tmp_path), (1, 2), 2) if long else ("brackets", (1, 3), 16)
    analysis = DepthByDifficulty(source, levels, per_level=2, shots=0, reach=reach, fewest=2, draws=10)
    result = look(model, analysis, tmp_path, rising(8))
    scores, right = [], []
    for window in Problems(source, levels, 2, 0, reach=reach).windows(model, 0).items:
        by_hand, hit = effects_by_hand(Plain(model.net, "llama"), window.ids, window.about["start"], 1 + long)
        scores.append(by_hand @ np.arange(4) / by_hand.sum(1))
        right.append(hit)
    expected = np.array(scores).reshape(2, 2, 4).mean(1).T
    np.testing.assert_allclose(value(result, "depth_score")[:4, ALL], expected, rtol=1e-6)
    # whether a cut answer would have been given is not known
    known = np.full(2, np.nan) if long else np.array(right).reshape(2, 2).mean(1)
    np.testing.assert_array_equal(value(result, "answered"), known)


def effects_by_hand(plain: Plain, ids: tuple[int, ...], start: int, n: int) -> tuple[np.ndarray, bool]:
    """Effects of each layer on n predictions of the answer, [effect, layer]; whether all that is read is right."""
    clean, first = plain.run(ids), start - 1
    kept = torch.tensor(~sinks_of(clean))
    place, window = torch.arange(len(ids)), slice(start - 1, start - 1 + n)
    p = torch.softmax(plain.logits(clean.states[-1]), -1)
    found = np.zeros((4, 4))
    for layer in range(4):
        for at, row in ((place < first, 0), (place < start, 2)):
            edited = plain.run(ids, Skip(layer, "block", at & kept))
            q = torch.softmax(plain.logits(edited.states[-1]), -1)
            found[row, layer] = float((p - q)[window].norm(dim=-1).mean())
            ratios = []
            for later in range(layer + 1, 4):
                c, d = ((s.states[later + 1] - s.states[later])[window] for s in (clean, edited))
                ratios.append(float((c - d).norm(dim=-1).sum() / c.norm(dim=-1).sum()))
            found[row + 1, layer] = np.mean(ratios) if ratios else 0.0
    return found, p[start - 1 : -1].argmax(-1).tolist() == list(ids[start:])


def test_models_that_answer_nothing_are_refused() -> None:
    with pytest.raises(Refused, match="no answer follows a problem"):
        DepthByDifficulty().needs(tiny("bert").anatomy)


@pytest.mark.parametrize("wrong", [{"margin": 0.0}, {"fewest": 1}, {"draws": 0}])
def test_impossible_parameters_are_clear_errors(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=r"must be (above 0 and below 1|2 or more|1 or more)"):
        DepthByDifficulty(**wrong)  # type: ignore[arg-type]
