"""Option depth on a model that gathers letters at one layer and chooses at another, and against plain softmaxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from formulas import Plain
from planted import SAID, WIDTH, at_token, chance, constant, logit, look, planted, rising, value

from depthscope.analyses.option_depth import OptionDepth
from depthscope.errors import Refused
from depthscope.results.result import Result
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

SPACE = 35
A, B, C, D = 7, 8, 9, 10
"""Ids of letters under the plain tokenizer; every prompt ends with a space."""


def saying(**strength: float) -> torch.Tensor:
    """A write that says letters."""
    found = torch.zeros(WIDTH, dtype=torch.float64)
    for letter, size in strength.items():
        found[SAID.start + {"A": A, "B": B, "C": C, "D": D}[letter]] = size
    return found


def gathering() -> Model:
    """All letters at layer 1, C ahead at layer 2, B for good at layer 4."""
    writes = {1: saying(A=5, B=5, C=5, D=5), 2: saying(C=1), 4: saying(B=2)}
    return planted({layer: at_token(SPACE, constant(write)) for layer, write in writes.items()})


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> Result:
    analysis = OptionDepth(items=8, shots=0)
    return look(gathering(), analysis, tmp_path_factory.mktemp("options"), rising())


def of_letters(result: Result, name: str, mode: str = "zero_shot", **more: str) -> np.ndarray:
    return result[name].select(task="choice", mode=mode, **more).value


def test_options_are_collected_where_they_are_gathered_and_chosen_where_one_wins(gathered: Result) -> None:
    np.testing.assert_array_equal(of_letters(gathered, "collection"), [2, 2])
    np.testing.assert_array_equal(of_letters(gathered, "collected_early"), [1, 1])
    assert of_letters(gathered, "overtake") == 5
    assert of_letters(gathered, "overtake_median") == 5
    assert of_letters(gathered, "chosen_late") == 1
    assert of_letters(gathered, "lead_changes") == 2  # the first of equals, then C, then B
    np.testing.assert_array_equal(of_letters(gathered, "restricted_agreement"), [0, 0, 0, 0, 0, 1, 1])


def test_the_same_answer_everywhere_is_right_as_often_as_that_answer(gathered: Result) -> None:
    np.testing.assert_array_equal(of_letters(gathered, "restricted_accuracy"), np.full(7, 0.25))
    assert gathered["majority_baseline"].select(task="choice").value == 0.25
    assert gathered["restricted_accuracy"].select(task="choice", mode="zero_shot").n[0] == 8
    assert of_letters(gathered, "overtake_gold") == 5
    assert gathered["overtake_gold"].select(task="choice", mode="zero_shot").n == 2


def test_mass_and_entropy_are_those_of_the_planted_logits(gathered: Result) -> None:
    # the stream holds 1 in `said` and 1 in `token` at the space, and what was written
    size = np.sqrt(2 + 4 * 25)
    p = np.exp(chance({SPACE: logit(1, size), **dict.fromkeys((A, B, C, D), logit(5, size))}))
    np.testing.assert_allclose(of_letters(gathered, "option_mass")[2], p[[A, B, C, D]].sum(), rtol=1e-6)
    np.testing.assert_allclose(of_letters(gathered, "option_entropy")[:3], np.log(4), rtol=1e-6)


def test_ranks_count_what_stands_above(gathered: Result) -> None:
    # at first only the space itself stands above; then letters share the first rank; then one and two stand above
    rank = of_letters(gathered, "option_rank")
    np.testing.assert_allclose(rank, [2, 2, 1, 7 / 4, 7 / 4, (1 + 2 + 3 + 3) / 4, (1 + 2 + 3 + 3) / 4])
    np.testing.assert_allclose(of_letters(gathered, "option_rank_median")[[0, 3]], [2, 2])
    np.testing.assert_allclose(of_letters(gathered, "option_rank_geometric")[3], 8 ** (1 / 4))
    np.testing.assert_array_equal(of_letters(gathered, "all_in_top", k="m"), np.ones(7))


def test_letters_that_nothing_offers_are_not_gathered(gathered: Result) -> None:
    np.testing.assert_allclose(of_letters(gathered, "option_rank", "unused_letters")[[0, 2, 6]], [2, 6, 6])
    assert np.isnan(of_letters(gathered, "restricted_accuracy", "unused_letters")).all()
    assert gathered["restricted_accuracy"].missing == "insufficient: 0 questions where 1 are needed"


def test_letters_that_come_behind_every_space_are_found_elsewhere_too(gathered: Result) -> None:
    for name in ("option_mass", "collection", "overtake"):
        np.testing.assert_allclose(of_letters(gathered, name, "elsewhere"), of_letters(gathered, name))


@pytest.mark.parametrize("scoring", ["first_distinguishing", "sequence"])
def test_everything_agrees_with_plain_softmaxes(scoring: str, tmp_path: Path) -> None:
    model = tiny("llama", max_position_embeddings=1024)
    analysis = OptionDepth(items=4, shots=0, scoring=scoring)
    result = look(model, analysis, tmp_path, rising())
    plain = Plain(model.net, "llama")
    found: dict[tuple[str, str, str], dict[int, tuple[np.ndarray, np.ndarray, int]]] = {}
    for window in analysis.needs(model.anatomy).material.windows(model, 0).items:  # type: ignore[union-attr]
        about = window.about
        z = np.stack([plain.logits(s).numpy() for s in plain.run(window.ids).states])
        p = z - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True)) - z.max(-1, keepdims=True)
        key = about["task"], about["mode"], window.document
        if scoring == "sequence":
            tokens = [(m, window.ids[m + 1]) for m in window.marks]
            score = sum(p[:, m, i] for m, i in tokens)
            rank = np.max([[1 + int((row[m] > row[m, i]).sum()) for row in z] for m, i in tokens], axis=0)
            found.setdefault(key, {})[about["option"]] = (score, rank, about["gold"])
        else:
            m = window.marks[0]
            for k, i in enumerate(about["candidates"]):
                rank = np.array([1 + int((row[m] > row[m, i]).sum()) for row in z])
                found.setdefault(key, {})[k] = (p[:, m, i], rank, about["gold"])
    for task, mode in {key[:2] for key in found}:
        mine = [options for key, options in found.items() if key[:2] == (task, mode)]
        score = np.stack([[o[k][0] for k in sorted(o)] for o in mine])
        rank = np.stack([[o[k][1] for k in sorted(o)] for o in mine])
        gold = np.array([o[0][2] for o in mine])
        mass, best = np.exp(score).sum(1), score.argmax(1)
        expected = {
            "option_rank": rank.mean((0, 1)),
            "option_rank_median": np.median(rank, (0, 1)),
            "option_rank_geometric": np.exp(np.log(rank).mean((0, 1))),
            "option_mass": mass.mean(0),
            "restricted_agreement": (best == best[:, -1:]).mean(0),
            "lead_changes": (best[:, 1:] != best[:, :-1]).sum(1).mean(),
            "overtake": np.mean([next(s for s in range(5) if (row[s:] == row[-1]).all()) for row in best]),
        }
        for name, numbers in expected.items():
            np.testing.assert_allclose(
                result[name].select(task=task, mode=mode).value, numbers, rtol=1e-5, atol=1e-6, err_msg=name
            )
        if mode != "elsewhere":
            right = (best == gold[:, None]).mean(0)
            np.testing.assert_allclose(
                result["restricted_accuracy"].select(task=task, mode=mode).value, right
            )
        first = [next(s for s in range(5) if row[s] >= row[-1] / 2) for row in mass]
        collected = result["collection"].select(task=task, mode=mode, definition="first").value
        np.testing.assert_allclose(collected, np.mean(first))
    assert value(result, "option_rank").shape == (2, 3 if scoring == "first_distinguishing" else 2, 5)


def test_models_that_do_not_go_on_from_a_prompt_are_refused() -> None:
    with pytest.raises(Refused, match="no causal language model"):
        OptionDepth().needs(tiny("bert").anatomy)
