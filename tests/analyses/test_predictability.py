"""Predictable shares on streams whose rule is known, against plain formulas; and indices that must not be shifted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from formulas import Plain, numbers
from planted import LENGTH, SLOT, WIDTH, V, axis, constant, look, planted, rising, says, text_of, value
from scipy.stats import norm, spearmanr

from depthscope.analyses.predictability import Predictability
from depthscope.engine.audit import audit
from depthscope.engine.predicted import position_groups
from depthscope.errors import BadInput, Refused
from depthscope.results.result import Result
from depthscope.runtime.model import Model
from depthscope.runtime.predictor import Design, Predictor, Predictors, save_predictors
from depthscope.runtime.tiny import tiny
from depthscope.store.atomic import read_json, write_json

LINEAR = Design(kind="linear", norm="none", rope=False, residual="none", window=1)
SMALL = 5
"""Surprising tokens a text."""


def linear(weight: np.ndarray, bias: np.ndarray) -> Predictor:
    """expected_(t+1) = W h_t + b."""
    found = Predictor(LINEAR, len(bias))
    with torch.no_grad():
        found.blocks[0].out.weight.copy_(torch.from_numpy(weight))  # type: ignore[union-attr, operator]
        found.blocks[0].out.bias.copy_(torch.from_numpy(bias))  # type: ignore[union-attr, operator]
    return found


def folder(path: Path, **by_state: Predictor) -> str:
    return str(save_predictors(path, Predictors({int(s[1:]): each for s, each in by_state.items()})))


def successor() -> np.ndarray:
    """The map of a one-hot stream of token t onto that of t + 1, in both blocks that hold the token."""
    one = np.roll(np.eye(V), 1, 0)
    weight = np.zeros((WIDTH, WIDTH))
    weight[:V, :V] = weight[V : 2 * V, V : 2 * V] = one
    return weight


def test_a_rule_that_holds_everywhere_explains_everything(tmp_path: Path) -> None:
    predictor = folder(tmp_path / "p", s1=linear(successor(), np.zeros(WIDTH)))
    result = look(planted({}, 2), Predictability(predictor, late=8, fewest=3), tmp_path, rising())
    assert result["r2"].axes["layer"].tolist() == [0]
    np.testing.assert_allclose(value(result, "r2"), 1, atol=1e-6)
    np.testing.assert_allclose(value(result, "mse"), 0, atol=1e-10)
    np.testing.assert_allclose(value(result, "cosine"), 1, atol=1e-6)
    np.testing.assert_allclose(value(result, "relative_novelty"), 0, atol=1e-5)


def test_knowing_the_mean_scores_0_by_dimension_and_high_by_element(tmp_path: Path) -> None:
    model = planted({0: constant(axis(SLOT.start, 30.0))}, 2)
    ids = [list(range(3 + 3 * k, 3 + 3 * k + LENGTH)) for k in range(10)]
    states = np.zeros((10, LENGTH, WIDTH))
    for row, tokens in enumerate(ids):
        states[row, np.arange(LENGTH), tokens] = states[row, np.arange(LENGTH), np.array(tokens) + V] = 1
    states[..., SLOT.start] = 30
    mean = states[:, 1:].mean((0, 1))
    predictor = folder(tmp_path / "p", s1=linear(np.zeros((WIDTH, WIDTH)), mean))
    result = look(model, Predictability(predictor, late=8, fewest=3), tmp_path, [text_of(t) for t in ids])
    by = dict(zip(result["r2"].axes["definition"].tolist(), value(result, "r2")[0], strict=True))
    assert by["dim"] == pytest.approx(0, abs=1e-6)
    # the whole variance of 2 / 192 ones beside one dimension of 30: what varies is a small part of it
    flat = states[:, 1:]
    expected = 1 - flat.var((0, 1)).sum() / (WIDTH * flat.var())
    assert by["element"] == pytest.approx(expected, rel=1e-5)
    assert expected > 0.95
    assert by["position"] < 0


def test_every_definition_is_the_formula_over_states_taken_by_hand(tmp_path: Path) -> None:
    model = tiny("llama", torch.float64, seed=3)
    texts = [f"{name}{k * 7} boats and {k + 3} birds at noon."[:20] for k, name in enumerate("abcdefgh")]
    d = model.anatomy.d_model
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(d, d)) / d, rng.normal(size=d) * 0.01
    predictor = folder(tmp_path / "p", s2=linear(weight, bias))
    run = audit(
        model,
        [Predictability(predictor, late=6, fewest=3)],
        out=tmp_path / "r",
        text=texts,
        tokens=10**6,
        window=20,
    )
    result = run["predictability"]
    plain, ids = Plain(model.net, "llama"), [model.tokenizer.encode(text) for text in texts]
    passes = [plain.run(one) for one in ids]
    h = np.stack([numbers(p.states[2]) for p in passes])
    novel = h[:, 1:] - (h[:, :-1] @ weight.T + bias)
    target = h[:, 1:]
    error = (novel**2).mean()
    by = dict(zip(result["r2"].axes["definition"].tolist(), value(result, "r2")[0], strict=True))
    wide = np.argsort(-target.var((0, 1)))[3:]
    expected = {
        "dim": 1 - error / target.var((0, 1)).mean(),
        "element": 1 - error / target.var(),
        "uniform": (1 - (novel**2).mean((0, 1)) / target.var((0, 1))).mean(),
        "position": 1 - error / target.var(0).mean(),
        "late": 1 - (novel[:, 5:] ** 2).mean() / target[:, 5:].var((0, 1)).mean(),
        "without_top": 1 - (novel[..., wide] ** 2).mean() / target[..., wide].var((0, 1)).mean(),
    }
    for name, number in expected.items():
        assert by[name] == pytest.approx(number, rel=1e-4), name
    copied = 1 - ((h[:, 1:] - h[:, :-1]) ** 2).mean() / target.var((0, 1)).mean()
    assert value(result, "baseline_r2")[0, 0] == pytest.approx(copied, rel=1e-4)
    assert value(result, "mse")[0] == pytest.approx(error, rel=1e-4)
    np.testing.assert_allclose(value(result, "mse_by_position")[0], (novel**2).mean((0, 2)), rtol=1e-4)
    surprise = np.stack(
        [
            [-torch.log_softmax(plain.logits(p.states[-1]), -1)[t - 1, one[t]].item() for t in range(1, 20)]
            for p, one in zip(passes, ids, strict=True)
        ]
    )
    length = np.linalg.norm(novel, axis=-1)
    by_hand = [spearmanr(length[:, t], surprise[:, t])[0] for t in range(19)]
    np.testing.assert_allclose(value(result, "surprisal_correlation")[0], by_hand, atol=1e-6)


def jumping(seed: int = 0) -> list[str]:
    """Texts that rise one by one and jump now and then: neither the model nor the predictor expects a jump."""
    rng = np.random.default_rng(seed)
    texts: list[str] = []
    for _ in range(30):
        steps = np.ones(LENGTH, int)
        steps[1 + rng.permutation(LENGTH - 1)[:SMALL]] = rng.integers(5, 20, SMALL)
        texts.append(text_of(3 + (rng.integers(V - 3) + steps.cumsum()) % (V - 3)))
    return texts


def after_wrapped() -> np.ndarray:
    """As `successor`, round the ring of ids 3 to V - 1."""
    one = np.zeros((V, V))
    one[3:, 3:] = np.roll(np.eye(V - 3), 1, 0)
    weight = np.zeros((WIDTH, WIDTH))
    weight[:V, :V] = weight[V : 2 * V, V : 2 * V] = one
    return weight


def aligned(tmp_path: Path) -> Result:
    # the model says the next token of the ring, so a jump surprises it where the jump is
    model = planted({1: says(lambda t: t @ torch.from_numpy(after_wrapped()[:V, :V].T), 6.0)}, 2)
    predictor = folder(tmp_path / "p", s1=linear(after_wrapped(), np.zeros(WIDTH)))
    return look(model, Predictability(predictor, late=4, fewest=5), tmp_path, jumping())


def test_novelty_and_surprisal_of_one_token_carry_one_index(tmp_path: Path) -> None:
    result = aligned(tmp_path)
    # both take two values, one at jumps and one elsewhere
    np.testing.assert_allclose(value(result, "surprisal_correlation"), 1, atol=1e-6)
    offsets = dict(
        zip(
            result["correlation_by_offset"].axes["offset"].tolist(),
            value(result, "correlation_by_offset")[0],
            strict=True,
        )
    )
    assert offsets[0] == pytest.approx(1, abs=1e-6)
    assert max(abs(offsets[k]) for k in (-2, -1, 1, 2)) < 0.4


@pytest.mark.parametrize("by", [-1, 1])
def test_a_shifted_index_is_caught(by: int, tmp_path: Path) -> None:
    from depthscope.analyses import predictability

    true = predictability._surprisal

    def shifted(*given: object) -> np.ndarray:
        return np.roll(true(*given), by, 1)  # type: ignore[arg-type]

    with mock.patch.object(predictability, "_surprisal", shifted):
        result = aligned(tmp_path)
    found = value(result, "correlation_by_offset")[0]
    assert abs(np.nanmean(value(result, "surprisal_correlation"))) < 0.4
    assert int(result["correlation_by_offset"].axes["offset"][found.argmax()]) == by
    assert found.max() > 0.9


def test_repeated_text_is_left_out_of_the_fresh_half(tmp_path: Path) -> None:
    predictor = folder(tmp_path / "p", s1=linear(successor(), np.zeros(WIDTH)))
    texts = [*rising(8), *rising(2, start=5, step=1)]  # the last two rise through what the first ones hold
    odd = "".join(reversed(texts[0]))
    result = look(planted({}, 2), Predictability(predictor, late=8, fewest=3), tmp_path, [*texts, odd])
    counts = result["r2"].n_items
    assert counts is not None
    by = dict(zip(result["r2"].axes["definition"].tolist(), counts[0].tolist(), strict=True))
    assert by["dim"] == 11 * (LENGTH - 1)
    # of the falling text every position is fresh, of the rising ones only starts and ends
    assert LENGTH - 1 <= by["fresh"] < 0.6 * by["dim"]
    falling = value(result, "r2")[0]
    assert falling[result["r2"].axes["definition"].tolist().index("fresh")] < falling[0]


def test_novelty_is_the_negative_log_density_in_nats(tmp_path: Path) -> None:
    predictor = Predictor(replace(LINEAR, variance=True), WIDTH)
    with torch.no_grad():
        for part in (predictor.blocks[0].out.weight, predictor.blocks[0].out.bias):  # type: ignore[union-attr]
            part.zero_()  # type: ignore[operator]
        predictor.spread.weight.zero_()  # type: ignore[union-attr]
        predictor.spread.bias.fill_(float(np.log(0.25)))  # type: ignore[union-attr]
    given = folder(tmp_path / "p", s1=predictor)
    result = look(planted({}, 2), Predictability(given, late=8, fewest=3), tmp_path, rising())
    # two ones and 190 zeros at a standard deviation of 1/2, against one of 1
    expected = [-(2 * norm.logpdf(1, 0, s) + (WIDTH - 2) * norm.logpdf(0, 0, s)) for s in (0.5, 1.0)]
    assert value(result, "novelty")[0] == pytest.approx(expected[0], rel=1e-5)
    assert value(result, "told")[0] == pytest.approx(expected[1] - expected[0], rel=1e-5)


def test_groups_of_positions_widen() -> None:
    groups = position_groups(64)
    assert groups[:33].tolist() == list(range(33))
    assert np.bincount(groups[32:])[32:].tolist() == [8, 10, 12, 2]


def guessed(model: Model, path: Path) -> str:
    return folder(path, s1=Predictor(Design(heads=1, head_dim=4), model.anatomy.d_model))


def test_what_cannot_be_predicted_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="train them with `depthscope fit predictor MODEL --layers"):
        Predictability().needs(tiny("llama").anatomy)
    bert = tiny("bert")
    with pytest.raises(Refused, match="a state has seen the tokens it would be predicted before"):
        Predictability(guessed(bert, tmp_path / "b")).needs(bert.anatomy)
    with pytest.raises(BadInput, match="late=0 must be 1 or more"):
        Predictability(late=0)


def test_predictors_of_another_model_are_refused(tmp_path: Path) -> None:
    model = tiny("llama", torch.float32)
    wide = folder(tmp_path / "w", s1=Predictor(LINEAR, 7))
    with pytest.raises(BadInput, match=r"of width 7, tiny-llama has states .*another model"):
        audit(model, [Predictability(wide)], out=tmp_path / "r", tokens=128, window=16)
    deep = folder(tmp_path / "d", s99=Predictor(LINEAR, model.anatomy.d_model))
    with pytest.raises(BadInput, match="they were trained on another model"):
        audit(model, [Predictability(deep)], out=tmp_path / "r2", tokens=128, window=16)


def test_newer_predictors_in_the_same_folder_are_not_taken_for_the_older(tmp_path: Path) -> None:
    model = tiny("llama", torch.float32)
    path = guessed(model, tmp_path / "p")
    before = Predictability(path)
    card = read_json(tmp_path / "p" / "predictor.json")
    assert before.digest == card["identity"]
    torch.manual_seed(5)
    assert Predictability(guessed(model, tmp_path / "p")).digest != before.digest
    assert Predictability(path, digest=before.digest) == before
    write_json(tmp_path / "p" / "predictor.json", json.loads(json.dumps(card)))
