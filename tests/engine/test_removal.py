"""The search for layers to remove, against a search in plain words over forwards of transformers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from depthscope.engine import removal
from depthscope.engine.journal import Journal
from depthscope.engine.protect import protected
from depthscope.engine.removal import removal_order
from depthscope.errors import BadInput, Refused
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

L = 6
GENERATOR = torch.Generator().manual_seed(5)
WINDOWS = [torch.randint(3, 96, (n,), generator=GENERATOR).tolist() for n in (12, 12, 9, 12, 7)]
ENDS = {0, L - 1}


@pytest.fixture(scope="module")
def model() -> Model:
    model = tiny("llama", torch.float64, seed=2, num_hidden_layers=L)
    with torch.no_grad():  # layers of random weights are all alike; these are not
        for layer in model.anatomy.layers:
            for weight in layer.block.parameters():
                weight.mul_(1 + 0.4 * ((5 * layer.index) % L))
    return model


@torch.no_grad()
def loss(model: Model, removed: Sequence[int]) -> float:
    """Mean loss of a network without some of its blocks, one forward a window."""
    net: Any = copy.copy(model.net)
    net._modules = dict(net._modules)
    net._modules["model"] = copy.copy(net.model)
    net.model._modules = dict(net.model._modules)
    kept = [k for k in range(L) if k not in removed]
    net.model.layers = nn.ModuleList(net.model.layers[k] for k in kept)
    net.model.config = copy.copy(net.model.config)
    net.model.config.num_hidden_layers = len(kept)
    total = n = 0.0
    for window in WINDOWS:
        ids = torch.tensor([window])
        logits = net(ids, use_cache=False).logits[0, :-1]
        total += float(nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        n += len(window) - 1
    return total / n


def searched(model: Model, size: int, lazy: int, beam: int) -> list[tuple[float, list[int]]]:
    """Best set of each size: (rise of the loss, layers in order of removal)."""
    clean, best = loss(model, ()), []
    states: list[tuple[list[int], list[int]]] = [([], [k for k in range(L) if k not in ENDS])]
    for step in range(size):
        costs: dict[tuple[int, ...], tuple[float, list[int], list[int]]] = {}
        for removed, ranking in states:
            for layer in ranking[:lazy] if lazy and step else ranking:
                key = tuple(sorted([*removed, layer]))
                if key not in costs:
                    costs[key] = (loss(model, key) - clean, [*removed, layer], ranking)
        order = sorted(costs, key=lambda key: (costs[key][0], key))[:beam]
        best.append(costs[order[0]][:2])
        states = []
        for key in order:
            _, removed, ranking = costs[key]
            others = [k for k in ranking if k != removed[-1]]
            at = {k: costs.get(tuple(sorted([*removed[:-1], k]))) for k in others}
            known = sorted((k for k in others if at[k]), key=lambda k: at[k][0])  # type: ignore[index]
            states.append((removed, [*known, *(k for k in others if not at[k])]))
    return best


@pytest.mark.parametrize(("lazy", "beam"), [(0, 1), (2, 2)])
def test_the_search_finds_what_a_plain_one_finds(model: Model, lazy: int, beam: int) -> None:
    found = removal_order(model, WINDOWS, 3, protect=ENDS, lazy=lazy, beam=beam)
    for level, (cost, removed) in zip(found.levels, searched(model, 3, lazy, beam), strict=True):
        assert level.removed == tuple(removed)
        np.testing.assert_allclose(level.loss_increase, cost, rtol=1e-6)
    assert found.removed(3) == found.levels[2].removed


def test_each_level_says_what_it_took(model: Model) -> None:
    first, second = removal_order(model, WINDOWS, 2, protect=ENDS, lazy=0, beam=1).levels
    assert first.tried == 4
    assert first.separate == 4 * (L - 1)
    # without layer 1 four blocks run, without layer 4 one
    assert first.calls == 4 + 3 + 2 + 1
    assert second.tried == 3
    assert second.calls < second.separate == 3 * (L - 2)


def test_intervals_are_over_the_units_that_are_given(model: Model) -> None:
    units = ["a", "a", "b", "c", "c"]
    (level,) = removal_order(model, WINDOWS, 1, units=units, protect=ENDS).levels
    assert level.increase.units == ("a", "b", "c")
    assert level.increase.counts.tolist() == [22, 8, 17]


def test_a_second_search_in_a_journal_runs_nothing(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal", "model", "data")
    first = removal_order(model, WINDOWS, 2, journal=journal)
    assert set(first.kept_back) >= ENDS
    monkeypatch.setattr(removal, "recorded", None)
    assert removal_order(model, WINDOWS, 2, journal=journal).removed(2) == first.removed(2)
    with pytest.raises(TypeError):
        removal_order(model, WINDOWS[:2], 2, journal=journal)


def test_passes_that_do_not_fit_are_made_anew_with_equal_numbers(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = removal_order(model, WINDOWS, 2, protect=ENDS)
    monkeypatch.setattr(removal, "BUDGET", 0)
    again = removal_order(model, WINDOWS, 2, protect=ENDS)
    assert [level.loss_increase for level in kept.levels] == [level.loss_increase for level in again.levels]


def test_the_first_the_last_and_those_that_touch_a_sink_are_protected() -> None:
    found = protected(np.array([300.0, 2.0, 160.4, 1.0, 12.0, 0.5]), np.array([0, 0, 1, 0, 0, 0]), asked=[3])
    assert found == {
        0: "first",
        2: "writes the sink, 160 times the median stream",
        3: "asked for",
        4: "changes the sink by 12 times the median stream",
        5: "last",
    }
    with pytest.raises(BadInput, match=r"protect=\[6\]: there are no such layers, the model has 0 to 5"):
        protected(np.ones(6), asked=[6])


def test_impossible_searches_are_clear_errors(model: Model) -> None:
    with pytest.raises(BadInput, match=r"5 layers are to go, 4 of 6 are free; protected: 0 \(asked for\), 5"):
        removal_order(model, WINDOWS, 5, protect=ENDS)
    with pytest.raises(BadInput, match="remove=0, lazy=5, beam=3; 1, 0 and 1 are the least"):
        removal_order(model, WINDOWS, 0)
    with pytest.raises(BadInput, match="at least 2 tokens"):
        removal_order(model, [[5]], 1)
    with pytest.raises(Refused, match="no causal language model"):
        removal_order(tiny("bert"), WINDOWS, 1)
