"""Criteria on layers whose worth is known, ranks against scipy, and removals against networks without the blocks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from planted import SLOT, at_token, axis, constant, look, planted, rising, the_answer, value
from scipy.stats import spearmanr
from torch import Tensor, nn

from depthscope.analyses.pruning_criteria import PruningCriteria
from depthscope.analyses.pruning_damage import PruningDamage, removals
from depthscope.engine.audit import audit
from depthscope.engine.criteria import CRITERIA, correlations, flattest, lowest, ranks
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result, Text
from depthscope.runtime.model import Model

SMALL = PruningCriteria(tokens=192, future_tokens=192, gradient_tokens=192, documents=8, future=1)
TEXTS = rising(8)
SINK, ANSWER = 1, 3
TURN = 2 / math.sqrt(2 * 102)
"""Cosine of a stream (1 in `said`, 1 in `token`) with itself after a write of 10 elsewhere in `said`."""


def model() -> Model:
    """Layer 1 makes a sink of the first token of each text, layer 3 says the answer; the others are dead."""

    def sink(x: Tensor) -> Tensor:
        firsts = range(3, 27, 3)
        return sum((at_token(t, constant(axis(SLOT.start, 1000.0)))(x) for t in firsts), torch.zeros_like(x))

    return planted({SINK: sink, ANSWER: the_answer(10.0)})


def apart() -> list[str]:
    """Texts whose first token occurs nowhere else, so that it alone becomes the sink."""
    from planted import text_of

    return [text_of([3 + 3 * k, *range(30, 53)]) for k in range(8)]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return look(model(), SMALL, tmp_path_factory.mktemp("criteria"), apart())


def test_a_layer_that_says_the_answer_turns_the_stream_by_a_known_angle(found: Result) -> None:
    expected = np.zeros(6)
    expected[ANSWER] = 1 - TURN
    np.testing.assert_allclose(value(found, "influence"), expected, atol=1e-6)
    np.testing.assert_allclose(
        value(found, "sublayer_influence"), np.stack([np.zeros(6), expected], 1), atol=1e-6
    )
    # stretches of one and of two layers; the last has no partner
    angle = math.acos(TURN) / math.pi
    assert np.asarray(found["angular"].axes["kept"]).tolist() == [5, 4]
    np.testing.assert_allclose(
        value(found, "angular")[0], np.where(np.arange(6) == ANSWER, angle, 0), atol=1e-6
    )
    np.testing.assert_allclose(value(found, "angular")[1, :5], [0, 0, angle, angle, 0], atol=1e-6)
    assert np.isnan(value(found, "angular")[1, 5])
    assert value(found, "angular_start").tolist() == [0, 0]


def test_the_sink_writer_is_protected_though_no_criterion_sees_it(found: Result) -> None:
    written = value(found, "sink_write")
    np.testing.assert_allclose(written[SINK], 1000 / math.sqrt(2), rtol=1e-6)
    assert (written[[0, 2, 4, 5]] == 0).all()
    assert value(found, "protected").tolist() == [1, 1, 0, 0, 0, 1]
    assert any(
        "layer 1 (changes the sink by 707 times the median stream)" in note for note in found.findings.notes
    )
    assert value(found, "influence")[SINK] < 1e-6


def test_every_criterion_of_whole_layers_removes_the_one_that_matters_last(found: Result) -> None:
    order = dict(zip(CRITERIA, value(found, "rank"), strict=True))
    for name in ("influence", "loss"):
        assert order[name].argmax() == ANSWER
    assert order["deepest"].tolist() == [5, 4, 3, 2, 1, 6]
    assert value(found, "loss_increase")[ANSWER] > 1
    # its MLP alone answers at its own position: no later token notices
    np.testing.assert_allclose(value(found, "future_shift"), 0, atol=1e-9)
    np.testing.assert_allclose(value(found, "taylor"), 0, atol=1e-12)  # what is planted has no weights


def test_paper_mode_counts_every_position_and_only_the_last_one_for_angles(tmp_path: Path) -> None:
    paper = PruningCriteria(
        "paper", tokens=192, future_tokens=192, gradient_tokens=192, documents=8, future=1
    )
    result = look(model(), paper, tmp_path, apart())
    sink_turn = 1 - 2 / math.sqrt(2 * (2 + 1e6))
    # one of 24 positions is the sink; at layer 3 its stream of length 1000 hardly turns
    first = 1 - (2 + 1e6) / math.sqrt((2 + 1e6) * (102 + 1e6))
    expected = {SINK: sink_turn / 24, ANSWER: (23 * (1 - TURN) + first) / 24}
    for layer, size in expected.items():
        np.testing.assert_allclose(value(result, "influence")[layer], size, rtol=1e-5)
    counted = result["angular"].n_items
    assert counted is not None
    assert counted[0].tolist() == [8] * 6


def test_ranks_correlate_as_scipy_says() -> None:
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(size=9) for name in ("influence", "loss_increase", "future_shift", "taylor")}
    sub = rng.normal(size=(9, 2))
    sub[[1, 4], 1] = np.nan
    order = ranks(scores, sub)
    assert order[0].tolist() == (scores["influence"].argsort().argsort() + 1).tolist()
    assert np.isnan(order[6]).tolist() == np.isnan(sub[:, 1]).tolist()
    found = correlations(order)
    np.testing.assert_allclose(found[0, 1], spearmanr(scores["influence"], scores["loss_increase"])[0])
    here = np.isfinite(sub[:, 1])
    np.testing.assert_allclose(found[2, 6], spearmanr(scores["future_shift"][here], sub[here, 1])[0])
    assert np.isnan(correlations(order[:, :2])).all()


def test_the_lowest_layers_and_the_flattest_stretch_pass_by_what_stays() -> None:
    rank = np.array([3.0, 1.0, np.nan, 2.0, 4.0])
    assert lowest(rank, 2) == (1, 3)
    assert lowest(rank, 2, stays=[1]) == (3, 0)
    assert lowest(rank, 4, stays=[1]) is None
    angles = np.array([0.5, 0.1, 0.2, 0.4, np.nan])
    assert flattest(angles, 2) == (1, 2)
    assert flattest(angles, 2, stays=[2]) == (3, 4)
    assert flattest(angles, 2, stays=[1, 3]) is None


# ---------------------------------------------------------------------------------------------------------- damage


def given(rank: np.ndarray, protected: list[int], writers: list[int]) -> dict[str, Result]:
    """Results as pruning_criteria and corpus_statistics leave them; every criterion ranks alike but `influence`."""
    depth = rank.shape[1]
    layer = {"layer": np.arange(depth)}
    angular = {"kept": np.array([depth - 1]), **layer}
    parts = {
        "pruning_criteria": [
            Measurement("rank", {"criterion": np.array(CRITERIA), **layer}, rank, "1"),
            Measurement("angular", angular, np.arange(depth, dtype=float)[None] + 1, "1"),
            Measurement("protected", layer, np.isin(np.arange(depth), protected).astype(float), "1"),
        ],
        "corpus_statistics": [
            Measurement("sink_writer", layer, np.isin(np.arange(depth), writers).astype(float), "1")
        ],
    }
    words = Text("t", "q?", "m", "h", "w", "s")
    return {
        name: Result(name, {}, Findings({m.name: m for m in ms}), words, {}) for name, ms in parts.items()
    }


def test_protected_removals_pass_by_first_last_and_sink_writers() -> None:
    rank = np.tile(np.array([2.0, 1.0, 3.0, 4.0, 5.0]), (len(CRITERIA), 1))
    found = removals(given(rank, [0, 4], [1]), (1, 2, 3), seed=0)
    by = {(m, s): found.get((m, 0, s)) for m in range(2) for s in range(3)}
    assert by == {(0, 0): (1,), (0, 1): (1, 0), (0, 2): (1, 0, 2), (1, 0): (2,), (1, 1): (2, 3), (1, 2): None}
    angular = len(CRITERIA)
    assert found[0, angular, 0] == (0,)
    assert found[1, angular, 0] == (2,)
    assert (0, angular, 1) not in found  # no stretch of two was measured


@pytest.fixture(scope="module")
def damage(tmp_path_factory: pytest.TempPathFactory) -> Result:
    asked = [SMALL, PruningDamage(sizes=(1, 2), tokens=192)]
    with mock.patch("depthscope.engine.audit.verify", return_value=()):
        run = audit(
            model(),
            asked,
            out=tmp_path_factory.mktemp("damage") / "run",
            text=apart(),
            tokens=10**6,
            window=24,
        )
    return run["pruning_damage"]


@torch.no_grad()
def loss(removed: tuple[int, ...]) -> float:
    """Mean loss of the network without some of its blocks."""
    net: Any = model().net
    net.model.layers = nn.ModuleList(block for k, block in enumerate(net.model.layers) if k not in removed)
    net.config.num_hidden_layers = len(net.model.layers)
    from planted import V

    ids = torch.tensor([[3 + ord(c) - 2 * (V - 3) for c in text] for text in apart()])
    logits = net(ids, use_cache=False).logits[:, :-1]
    return float(nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()))


def test_damage_is_that_of_the_network_without_those_blocks(damage: Result) -> None:
    names = np.asarray(damage["loss_increase"].axes["criterion"]).tolist()
    found = value(damage, "loss_increase")
    assert np.asarray(damage["loss_increase"].axes["kept"]).tolist() == [5, 4]
    # deepest at its word takes layers 4 and 3, of which 3 says the answer; protected it does the same
    deepest = names.index("deepest")
    for mode in (0, 1):
        np.testing.assert_allclose(found[mode, deepest, 0], 0, atol=1e-9)
        np.testing.assert_allclose(found[mode, deepest, 1], loss((3, 4)) - loss(()), rtol=1e-5)
    # influence removes dead layers, at its word the sink writer may be among them
    np.testing.assert_allclose(found[1, names.index("influence")], 0, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: PruningCriteria(mode="exact"), UnknownName, "unknown value of mode 'exact'"),
        (lambda: PruningCriteria(future=0), BadInput, "future=0 must be 1 or more"),
        (lambda: PruningCriteria(longest=6), Refused, "a stretch of 6 layers is all of its 6"),
        (lambda: PruningCriteria(protect=(7,)), BadInput, r"protect=\[7\]: there are no such layers"),
        (lambda: PruningDamage(sizes=(6,)), BadInput, r"sizes=\[6\]; of 6 layers 1 to 5 can be removed"),
    ],
)
def test_impossible_parameters_are_clear_errors(make: Any, error: type, words: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        look(planted({}), make(), tmp_path, TEXTS)
