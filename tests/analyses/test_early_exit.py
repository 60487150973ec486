"""Early exits on models whose prediction is made at a known layer, and against a simulation position by position."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from formulas import Plain, lens_of
from planted import LENGTH, WIDTH, V, a_mistake, look, planted, rising, the_answer, value

from depthscope.analyses.early_exit import EarlyExit
from depthscope.engine.audit import audit
from depthscope.engine.exit_policies import POLICIES, Simulation, block_flops
from depthscope.engine.needs import Facts
from depthscope.engine.reading import Reading
from depthscope.engine.shard import sampled
from depthscope.errors import BadInput
from depthscope.measures.statistics import bootstrap_ratio
from depthscope.results.result import Result
from depthscope.runtime.lens import Lens
from depthscope.runtime.tiny import tiny

EVERY = EarlyExit(positions=10**6, targets=(90, 99), every=(1, 2))


def cells(result: Result, name: str, policy: str, every: int = 1) -> np.ndarray:
    """Values at both targets."""
    return result[name].select(policy=policy, every=every).value


# ------------------------------------------------------------------------------------------------------- planted truth


def test_a_prediction_made_at_layer_2_is_left_at_state_3(tmp_path: Path) -> None:
    result = look(planted({2: the_answer(10.0)}), EVERY, tmp_path, rising())
    for policy in ("prob", "margin", "entropy", "classifier"):
        np.testing.assert_array_equal(cells(result, "exit_state", policy), 3)
        np.testing.assert_array_equal(cells(result, "agreement", policy), 1)
        np.testing.assert_allclose(cells(result, "gross_saving", policy), 0.5)
        np.testing.assert_array_equal(cells(result, "accuracy", policy), 1)
    # looks at 1, 2, 3, 4, 5: the current token twice, then the answer: only 3 in a row are safe
    np.testing.assert_array_equal(cells(result, "threshold", "patience"), 3)
    np.testing.assert_array_equal(cells(result, "exit_state", "patience"), 5)
    assert result["oracle_gross_saving"].at(policy="first_agree", every=1) == 0.5
    assert result["oracle_gross_saving"].at(policy="stable", every=1) == 0.5
    assert value(result, "full_accuracy") == 1


def test_looking_every_second_state_skips_the_state_of_the_answer(tmp_path: Path) -> None:
    result = look(planted({1: the_answer(10.0)}), EVERY, tmp_path, rising())
    np.testing.assert_array_equal(cells(result, "exit_state", "prob", 1), 2)
    np.testing.assert_array_equal(cells(result, "exit_state", "prob", 2), 3)
    assert result["oracle_gross_saving"].at(policy="stable", every=2) == 0.5


def test_a_policy_without_a_safe_threshold_never_stops_and_saves_nothing(tmp_path: Path) -> None:
    # the stream stands still before the answer comes: a cosine of 1 says nothing
    result = look(planted({5: the_answer(10.0)}), EVERY, tmp_path, rising())
    assert np.isnan(cells(result, "threshold", "cosine")).all()
    assert "no threshold was safe" in result["threshold"].missing
    for policy in POLICIES:
        np.testing.assert_array_equal(cells(result, "exit_state", policy), 6)
        np.testing.assert_array_equal(cells(result, "net_saving", policy), 0)
        np.testing.assert_array_equal(cells(result, "agreement", policy), 1)
    assert "early exits do not pay" in result.findings.notes[0]


def test_an_early_right_answer_that_is_spoiled_later_has_more_accuracy_than_agreement(tmp_path: Path) -> None:
    spoiled = planted({1: the_answer(10.0), 4: a_mistake(30.0)})
    result = look(spoiled, EVERY, tmp_path, rising())
    assert value(result, "full_accuracy") == 0
    assert result["oracle_gross_saving"].at(policy="stable", every=1) == pytest.approx(1 / 6)


def test_net_saving_is_counted_from_the_models_own_sizes(tmp_path: Path) -> None:
    model = planted({2: the_answer(10.0)})
    result = look(model, EVERY, tmp_path, rising())
    blocks = [2 * sum(p.numel() for p in b.parameters()) for b in model.net.model.layers]
    head = 2 * WIDTH * V
    whole = sum(blocks) + head
    # stops at state 3 after looking at 1, 2 and 3: three blocks and three decodes, the last of which is the output
    expected = 1 - (sum(blocks[:3]) + 3 * head) / whole
    np.testing.assert_allclose(cells(result, "net_saving", "prob"), expected)
    np.testing.assert_allclose(value(result, "check_cost"), head / np.mean(blocks))
    np.testing.assert_allclose(
        result["oracle_net_saving"].at(policy="stable", every=1), 1 - (sum(blocks[:3]) + head) / whole
    )


def test_a_lens_costs_its_matrix_at_every_look(tmp_path: Path) -> None:
    model = planted({2: the_answer(10.0)})
    nothing = Lens("ridge", "none", torch.zeros(6, WIDTH, WIDTH), torch.zeros(6, WIDTH))
    texts = rising()
    run = audit_planted(model, nothing, tmp_path, texts)
    blocks = [2 * sum(p.numel() for p in b.parameters()) for b in model.net.model.layers]
    head, lens = 2 * WIDTH * V, 2 * WIDTH**2
    expected = 1 - (sum(blocks[:3]) + 3 * (head + lens)) / (sum(blocks) + head)
    np.testing.assert_allclose(cells(run, "net_saving", "prob"), expected)
    np.testing.assert_allclose(value(run, "check_cost"), (head + lens) / np.mean(blocks))


def audit_planted(model, lens: Lens, out: Path, texts: list[str]) -> Result:
    from unittest import mock

    with mock.patch("depthscope.engine.audit.verify", return_value=()):
        run = audit(model, [EVERY], out=out / "run", text=texts, tokens=10**6, window=LENGTH, lens=lens)
    return run["early_exit"]


def test_experts_count_only_where_a_token_is_sent() -> None:
    model = tiny("mixtral", torch.float32)
    config, block = model.net.config, model.net.model.layers[0]
    every = sum(p.numel() for p in block.parameters())
    experts = sum(
        p.numel() for p in block.parameters() if p.dim() == 3 and p.shape[0] == config.num_local_experts
    )
    assert experts > 0
    share = config.num_experts_per_tok / config.num_local_experts
    assert block_flops(model)[0] == pytest.approx(2 * (every - experts + share * experts))


def test_a_sure_mistake_fools_every_score_of_a_state_but_not_the_classifier_which_knows_the_depth(
    tmp_path: Path,
) -> None:
    result = look(planted({0: a_mistake(30.0), 3: the_answer(60.0)}), EVERY, tmp_path, rising())
    # the mistake is as sure as the answer: whoever stops by the probability stops at a mistake
    np.testing.assert_array_equal(cells(result, "exit_state", "prob"), 6)
    np.testing.assert_array_equal(cells(result, "exit_state", "classifier"), 4)
    np.testing.assert_array_equal(cells(result, "agreement", "classifier"), 1)


def test_the_classifier_is_trained_calibrated_and_judged_on_different_documents() -> None:
    units = np.repeat([f"d{k}" for k in range(12)], 3)
    facts = Facts(4, 1, 1, ("attention",) * 4, (None,) * 4, True, False, False, True, "documents", 0)
    split = Simulation({"unit": units}, np.ones(7), (95,), (1,), 1, facts)
    parts = [set(units[at]) for at in (split.learns, split.chooses("classifier"), ~split.calibrates)]
    assert [len(part) for part in parts] == [3, 3, 6]
    assert not parts[0] & parts[1]
    assert set(units[split.chooses("prob")]) == parts[0] | parts[1]


def test_halves_are_of_documents_and_even() -> None:
    units = np.repeat([f"d{k}" for k in range(11)], 3)
    facts = Facts(4, 1, 1, ("attention",) * 4, (None,) * 4, True, False, False, True, "documents", 0)
    split = Simulation({"unit": units}, np.ones(7), (95,), (1,), 1, facts).calibrates
    halves = [set(units[split]), set(units[~split])]
    assert [len(h) for h in halves] == [6, 5]
    assert not halves[0] & halves[1]


# ------------------------------------------------------------------------------------------------- independent formula

TEXTS = [
    f"{name} took {'the tide and ' * (1 + k % 3)}{k * k} boats." for k, name in enumerate("abcdefghijklmnop")
]


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_policies_equal_a_simulation_position_by_position(kind: str, tmp_path: Path) -> None:
    model = tiny(kind, torch.float64, seed=3, num_hidden_layers=8)
    reading = Reading(text=TEXTS, tokens=600, window=40)
    windows = reading.windows(model)
    asked = EarlyExit(targets=(60, 80), every=(1, 3), positions=300)
    run = audit(model, [asked], out=tmp_path / "run", text=TEXTS, tokens=600, window=40)["early_exit"]
    plain = Plain(model.net, kind)
    at = sampled(windows, 300, seed=0)
    ids = [w.ids for w in windows.items]
    passes = [plain.run(row) for row in ids]
    lens = lens_of(plain, passes, ids, at)
    units = np.asarray([windows.items[w].document for w, places in at.items() for _ in places])
    states = np.concatenate([np.stack([s[p].numpy() for s in passes[w].states]) for w, p in at.items()], 1)
    facts = Facts(8, 1, 1, ("attention",) * 8, (None,) * 8, True, False, False, True, "documents", 0)
    test = ~Simulation({"unit": units}, np.ones(11), (60,), (1,), 1, facts).calibrates
    for policy in POLICIES[:-1]:  # the classifier's scores have a test of their own
        for every in (1, 3):
            for target in (60, 80):
                cell = {"policy": policy, "every": every, "target": target}
                limit = run["threshold"].at(**cell)
                exits = [stop(policy, lens, states[:, k], k, limit, every) for k in range(len(units))]
                top = lens.top1.numpy()
                agreed = np.asarray([top[e, k] == top[-1, k] for k, e in enumerate(exits)])
                right = np.asarray([top[e, k] == lens.targets[k] for k, e in enumerate(exits)])
                loss = [-float(lens.log_p[e, k, lens.targets[k]]) for k, e in enumerate(exits)]
                for name, mean in {
                    "agreement": agreed[test].mean(), "accuracy": right[test].mean(),
                    "exit_state": np.asarray(exits)[test].mean(),
                    "gross_saving": (1 - np.asarray(exits) / 8)[test].mean(),
                    "cross_entropy": np.asarray(loss)[test].mean(),
                }.items():  # fmt: skip
                    np.testing.assert_allclose(
                        run[name].at(**cell), mean, rtol=1e-6, err_msg=f"{name} {cell}"
                    )
                if np.isfinite(limit):
                    safe = low_of(units[~test], agreed[~test])
                    assert safe >= target / 100 - 0.03


def stop(policy: str, lens, states: np.ndarray, item: int, limit: float, every: int) -> int:
    """The state at which one position stops; the last one where the threshold is missing."""
    in_a_row, before = 0, None
    for s in () if np.isnan(limit) else range(1, 8, every):
        log_p = lens.log_p[s, item]
        p = log_p.exp().sort(descending=True).values
        token = int(log_p.argmax())
        in_a_row = in_a_row + 1 if token == before else 1
        before = token
        a, b = states[s], states[s - 1]
        score = {
            "prob": float(p[0]), "margin": float(p[0] - p[1]), "entropy": float((log_p.exp() * log_p).sum()),
            "patience": in_a_row, "cosine": float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)),
        }[policy]  # fmt: skip
        # scores are kept in float32, so a threshold is one of them rounded
        if np.float32(score) >= np.float32(-limit if policy == "entropy" else limit):
            return s
    return 8


def low_of(units: np.ndarray, agreed: np.ndarray) -> float:
    names, place = np.unique(units, return_inverse=True)
    sums, counts = np.bincount(place, agreed), np.bincount(place)
    return float(bootstrap_ratio(sums, counts, seed=7).low) if len(names) > 1 else 0.0


# -------------------------------------------------------------------------------------------------------- wrong inputs


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"targets": (0,)}, "percentages.*above 0 and below 100"),
        ({"targets": (100,)}, "percentages.*above 0 and below 100"),
        ({"targets": ()}, "percentages.*above 0 and below 100"),
        ({"every": (0,)}, "must be (one number or more, each )?1 or more"),
        ({"every": ()}, "must be (one number or more, each )?1 or more"),
        ({"start": 0}, "must be (one number or more, each )?1 or more"),
    ],
)
def test_wrong_parameters_are_told(wrong: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        EarlyExit(**wrong)


def test_a_start_behind_the_last_layer_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="start=9 leaves no state to stop at"):
        audit(tiny("llama"), [EarlyExit(start=9)], out=tmp_path / "run", text=TEXTS, tokens=300, window=24)
    assert not (tmp_path / "run").exists()


def test_one_document_is_too_few_for_two_halves(tmp_path: Path) -> None:
    one = audit(tiny("llama"), [EarlyExit()], out=tmp_path / "run", text=[TEXTS[0]], tokens=300, window=40)
    result = one["early_exit"]
    assert np.isnan(value(result, "net_saving")).all()
    assert "too few documents for two halves" in result["net_saving"].missing
    assert "not decided" in result.findings.notes[0]
