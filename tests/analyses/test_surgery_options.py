"""Surgery on questions against reordered networks of transformers, and normalised scores by hand."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from planted import look, value
from torch import nn

from depthscope.analyses.surgery_options import SurgeryOptions
from depthscope.engine.needs import Facts
from depthscope.engine.tally import Rows, Tally
from depthscope.materials.options import OptionPrompts
from depthscope.runtime.surgery import PLANS
from depthscope.runtime.tiny import tiny


@torch.no_grad()
def test_accuracy_is_that_of_the_reordered_network(tmp_path: Path) -> None:
    model = tiny("llama", torch.float64, seed=1)
    result = look(model, SurgeryOptions(items=6, shots=0, kept=(1,)), tmp_path, ["a text of some length"] * 9)
    windows = OptionPrompts("", 6, 0, controls=False, longest=512).windows(model, 0).items
    tasks = np.asarray(result["accuracy"].axes["task"]).tolist()
    for name, order in {"skip": [0], "reverse": [0, 3, 2, 1], "loop": [0, 1, 2, 3, 1, 2, 3]}.items():
        net: Any = copy.deepcopy(model.net)
        net.model.layers = nn.ModuleList(net.model.layers[k] for k in order)
        net.config.num_hidden_layers = len(order)
        right: dict[str, list[bool]] = {task: [] for task in tasks}
        for w in windows:
            logits = net(torch.tensor([w.ids]), use_cache=False).logits[0, -1, list(w.about["candidates"])]
            right[w.about["task"]].append(int(logits.argmax()) == w.about["gold"])
        expected = [np.mean(right[task]) for task in tasks]
        np.testing.assert_allclose(value(result, "accuracy")[0, PLANS.index(name)], expected)


def test_normalised_is_the_share_of_what_lies_above_chance() -> None:
    n = 40
    intact = np.r_[
        np.ones(20), np.arange(20) % 2.0
    ]  # task a: always right; task b: half of the time, which is chance
    hit = np.zeros((n, 1, len(PLANS)))
    hit[:15, 0, 0] = 1  # of task a 15 of 20 are left: (0.75 - 0.5) / (1 - 0.5)
    columns = {
        "hit": hit, "intact": intact, "chance": np.full(n, 0.5), "task": np.repeat(["a", "b"], 20),
        "unit": np.array([f"q{k}" for k in range(n)]),
    }  # fmt: skip
    facts = Facts.of(tiny("llama").anatomy, "documents", 0)
    total = Tally({"questions": Rows(np.arange(n, dtype=np.uint64), columns, 10**6)})
    found = replace(SurgeryOptions(), kept=(1,)).conclude(total, facts).measurements
    assert found["normalised"].at(kept=1, variant="skip", task="a") == 0.5
    assert found["normalised"].at(kept=1, variant="loop", task="a") == -1
    assert np.isnan(found["normalised"].select(task="b").value).all()
    assert "not above chance" in found["normalised"].missing
    assert found["intact_accuracy"].value.tolist() == [1.0, 0.5]
    assert found["chance"].value.tolist() == [0.5, 0.5]
