"""Fact depth on models that recall each answer token at a known layer, and against ranks taken one by one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from formulas import Plain
from planted import at_token, following, look, planted, rising, says, text_of, the_answer, value

from depthscope.analyses.fact_depth import FactDepth
from depthscope.errors import BadInput, Refused
from depthscope.results.result import Result
from depthscope.runtime.tiny import tiny

SPACE = 35
"""The id of a space under the plain tokenizer: the last token of every prompt, so a right answer begins with 36."""
ONCE = {"definition": "first", "k": 1}


def prompts(n: int) -> list[str]:
    """Different prompts of ids from 42 on."""
    pairs = [(start, length) for length in range(3, 20) for start in range(42, 64 - length)]
    return [text_of(range(start, start + length)) for start, length in pairs[:n]]


def written(folder: Path, answers: Sequence[Sequence[int]], relation: str = "r") -> str:
    rows = [
        {"cloze": cloze, "answer": text_of(ids), "relation": relation}
        for cloze, ids in zip(prompts(len(answers)), answers, strict=True)
    ]
    path = folder / "facts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def three_depths() -> dict:
    """Token 1 of an answer is said by layer 4, token 2 by layer 1, token 3 by layer 0."""
    return {
        4: at_token(SPACE, the_answer(10.0)),
        1: at_token(36, the_answer(10.0)),
        0: at_token(37, the_answer(10.0)),
    }


def asked(folder: Path, answers: Sequence[Sequence[int]], fewest: int = 50) -> Result:
    analysis = FactDepth(written(folder, answers), control=False, fewest=fewest)
    return look(planted(three_depths()), analysis, folder, rising())


def test_each_token_is_reached_after_the_layer_that_recalls_it(tmp_path: Path) -> None:
    result = asked(tmp_path, [[36]] * 50 + [[36, 37]] * 50 + [[36, 37, 38]] * 50)
    for definition in ("first", "first_dropped", "stable"):
        for mode in ("token_correct", "answer_correct", "all"):
            found = result["onset"].select(definition=definition, k=1, mode=mode)
            expected = [[5, np.nan, np.nan], [5, 2, np.nan], [5, 2, 1], [np.nan] * 3]
            np.testing.assert_array_equal(found.value, expected)
    assert result["onset"].n is not None
    assert result["onset"].select(mode="all", **ONCE).n[1].tolist() == [50, 50, 0]
    # only the current token outranks the answer from the start
    np.testing.assert_array_equal(result["onset"].select(definition="stable", k=10, mode="all").value[2], 0)
    curve = result["share_in_top"].select(k=1, bucket="3")
    np.testing.assert_array_equal(curve.value, np.arange(7) >= np.array([5, 2, 1])[:, None])


def test_differences_are_taken_within_the_same_fact(tmp_path: Path) -> None:
    result = asked(tmp_path, [[36, 37, 38]] * 60)
    np.testing.assert_array_equal(result["difference"].select(mode="all", **ONCE).value, [3, 4])
    assert result["difference"].select(mode="all", **ONCE).n.tolist() == [60, 60]
    assert result["first_minus_single"].select(mode="all", **ONCE).missing.startswith("insufficient: 0 facts")


def test_filters_keep_right_tokens_or_right_answers(tmp_path: Path) -> None:
    # in half of the facts token 2 is wrong: 50 after 36 is not what the model says
    result = asked(tmp_path, [[36, 37]] * 30 + [[36, 50]] * 30, fewest=20)
    n = {
        m: result["onset"].select(mode=m, **ONCE).n[1].tolist()
        for m in ("token_correct", "answer_correct", "all")
    }
    assert n == {"token_correct": [60, 30, 0], "answer_correct": [30, 30, 0], "all": [60, 60, 0]}
    np.testing.assert_allclose(value(result, "accuracy")[1, :2], [1.0, 0.5])
    assert value(result, "answer_accuracy")[1] == 0.5
    never = result["onset"].select(definition="first", k=1, mode="all").value[1, 1]
    assert never == (2 + 6) / 2  # what is never reached counts as the last state
    assert result["onset"].select(definition="first_dropped", k=1, mode="all").value[1, 1] == 2
    assert result["censored"].select(k=1, mode="all").value[1, 1] == 0.5
    assert result["difference"].select(mode="token_correct", **ONCE).value[0] == 3
    assert result["difference"].select(mode="token_correct", **ONCE).n[0] == 30


def test_longer_first_tokens_against_single_tokens(tmp_path: Path) -> None:
    early = planted({4: at_token(SPACE, the_answer(10.0)), 1: at_token(36, the_answer(10.0))})
    answers = [[36]] * 20 + [[36, 37]] * 20
    result = look(early, FactDepth(written(tmp_path, answers), control=False, fewest=20), tmp_path, rising())
    assert result["first_minus_single"].select(mode="all", **ONCE).value == 0


def test_a_cell_with_too_few_facts_is_missing_and_says_how_many_it_has(tmp_path: Path) -> None:
    result = asked(tmp_path, [[36]] * 49 + [[36, 37]] * 51)
    found = result["onset"].select(mode="all", **ONCE)
    assert np.isnan(found.value[0, 0])
    assert found.value[1, 0] == 5
    assert found.n is not None
    assert found.n[:2, 0].tolist() == [49, 51]
    assert result["onset"].missing == "insufficient: 0 to 49 facts where 50 are needed"
    assert np.isfinite(value(result, "accuracy")[0, 0])


def test_a_relation_is_known_above_what_its_commonest_answer_gives(tmp_path: Path) -> None:
    result = asked(tmp_path, [[36]] * 10 + [[38]] * 25 + [[39]] * 5)
    assert value(result, "relation_accuracy").tolist() == [0.25]
    assert value(result, "relation_baseline").tolist() == [0.625]


def test_everything_agrees_with_ranks_taken_one_by_one(tmp_path: Path) -> None:
    model = tiny("llama")
    result = look(model, FactDepth(facts=24, fewest=2), tmp_path, rising())
    ranks, entropy, windows = by_hand(model, FactDepth(facts=24).needs(model.anatomy).material)
    onset = {d: {} for d in ("first", "stable")}
    for key, row in ranks.items():
        for k in (1, 10):
            hits = [r <= k for r in row]
            onset["first"][key, k] = hits.index(True) if any(hits) else len(row) - 1
            late = [s for s in range(len(row)) if all(hits[s:])]
            onset["stable"][key, k] = late[0] if late else len(row) - 1
    for prefix, kind in (("", "fact"), ("control_", "continuation")):
        members = {w.document: w.about["length"] for w in windows if w.about["kind"] == kind}
        for (definition, reached), k in itertools.product(onset.items(), (1, 10)):
            of = {key: v for (key, q), v in reached.items() if q == k and key[0] in members}
            chosen = {"definition": definition, "k": k, "mode": "all"}
            found = result[f"{prefix}onset"].select(**chosen)
            for b, t in np.ndindex(4, 3):
                mine = [v for (u, j), v in of.items() if j == t + 1 and min(members[u], 4) == b + 1]
                np.testing.assert_allclose(found.value[b, t], np.mean(mine) if len(mine) >= 2 else np.nan)
            for t in (2, 3):
                pairs = [of[u, 1] - of[u, t] for u in members if (u, t) in of]
                apart = result[f"{prefix}difference"].select(**chosen, token=t).value
                np.testing.assert_allclose(apart, np.mean(pairs))
            several = [key for key in of if members[key[0]] > 1 and key[1] <= 3]
            design = [[1.0, entropy[key], key[1] == 2, key[1] == 3] for key in several]
            beta = np.linalg.lstsq(
                np.array(design, float), np.array([of[key] for key in several]), rcond=None
            )[0]
            np.testing.assert_allclose(
                result[f"{prefix}entropy_slope"].select(**chosen).value, beta[1], atol=1e-4
            )
            np.testing.assert_allclose(
                result[f"{prefix}token_effect"].select(**chosen).value, beta[2:], atol=1e-4
            )


def by_hand(model, material):
    """Rank of each answer token at every state, and entropy of its final prediction, by plain matrix products."""
    plain, windows = Plain(model.net, "llama"), material.windows(model, 0).items
    ranks: dict = {}
    entropy: dict = {}
    for window in windows:
        logits = np.stack([plain.logits(s).numpy() for s in plain.run(window.ids).states])
        start = len(window.ids) - window.about["length"]
        for j in range(window.about["length"]):
            z, own = logits[:, start + j - 1], window.ids[start + j]
            ranks[window.document, j + 1] = [1 + int((row > row[own]).sum()) for row in z]
            p = np.exp(z[-1] - z[-1].max())
            p /= p.sum()
            entropy[window.document, j + 1] = float(-(p * np.log(p)).sum())
    return ranks, entropy, windows


def test_encoders_and_empty_answers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no causal language model"):
        FactDepth().needs(tiny("bert").anatomy)
    path = tmp_path / "facts.jsonl"
    path.write_text('{"cloze": "A is", "answer": ""}\n')
    with pytest.raises(BadInput, match="row 1 has the answer ''"):
        look(tiny("llama"), FactDepth(str(path)), tmp_path, rising())


def test_an_effect_of_place_needs_enough_first_tokens_too(tmp_path: Path) -> None:
    # 20 first tokens are right, and 40 second ones behind right first ones
    answers = [[36, 37]] * 20 + [[38, 39]] * 20
    model = planted({4: at_token(SPACE, the_answer(10.0)), 1: says(following, 10.0)})
    result = look(model, FactDepth(written(tmp_path, answers), control=False, fewest=30), tmp_path, rising())
    n = result["token_effect"].select(mode="token_correct", **ONCE).n
    assert n.tolist() == [20, 0]
    assert np.isnan(result["token_effect"].select(mode="token_correct", **ONCE).value).all()
    assert result["entropy_slope"].select(mode="token_correct", **ONCE).n == 40
