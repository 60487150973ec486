"""Made-up scores and ablations of induction and retrieval heads: one strong head each, idle controls."""

from __future__ import annotations

import numpy as np
from synthetic import TEXTS, H, L, measurement, result

from depthscope.results.measurement import Measurement
from depthscope.results.result import Result, Text

BY = {"layer": np.arange(L), "head": np.arange(H)}
MODES, SIZES = ("zero", "mean"), np.array([1, 3, 5])
GONE = "layer 3 has no attention heads"
for name, question in {
    "induction_heads": "Which heads look at what followed the last time?",
    "induction_ablation": "What is lost without them?",
    "head_composition": "Whose writes do they match by?",
    "retrieval_heads": "Which heads fetch an answer?",
    "retrieval_ablation": "Does the model still answer without them?",
}.items():
    TEXTS[name] = Text(
        name.replace("_", " ").capitalize(),
        question,
        "Random blocks and hidden sentences.",
        "A score near 1 is a head that does mostly this.",
        "A score is no proof of need.",
        "Olsson et al. 2022, arXiv:2209.11895; Wu et al. 2024, arXiv:2404.15574",
    )


def scores(names: dict[str, str], strong: tuple[int, int], size: float) -> list[Measurement]:
    chance = np.random.default_rng(1)
    found: list[Measurement] = []
    for name, unit in names.items():
        value = chance.beta(1, 12, (L, H))
        value[strong] = size
        value[3] = np.nan
        found.append(measurement(name, BY, value, unit, missing=GONE))
    return found


def induction_heads(second: float = 3.0, strong: float = 0.9) -> Result:
    names = dict.fromkeys(
        ("induction", "prefix_matching", "induction_argmax", "duplicate", "echo", "own_share"), "probability"
    )
    found = scores({**names, "copying": "1", "ov_eigenvalue": "1"}, (7, 2), strong)
    loss = np.concatenate([np.full(10, 12.0), np.full(10, second)])
    found += [
        measurement("first_copy_loss", {}, 12.0, "nats"),
        measurement("second_copy_loss", {}, second, "nats"),
        measurement("second_copy_accuracy", {}, 0.6, "probability"),
        measurement("loss", {"position": np.arange(20)}, loss, "nats"),
    ]
    return result("induction_heads", found)


def induction_ablation(rise: float = 1.0, control: float = 0.02) -> Result:
    by = {"mode": MODES, "criterion": ("induction", "previous", "random"), "k": SIZES}
    value = np.stack([np.stack([size * SIZES for size in (rise, 1.5 * rise, control)])] * 2)
    found = [
        measurement("second_copy_loss_increase", by, value, "nats"),
        measurement("first_copy_loss_increase", by, 0.01 * value, "nats"),
        measurement("intact_second_copy_loss", {}, 3.0, "nats"),
    ]
    return result("induction_ablation", found)


def head_composition() -> Result:
    value = np.zeros((2, L, H))
    value[:, 2, 4] = 0.6, 0.3
    value[:, 7:] = np.nan
    by = {"other": ("L7H2", "L7H3"), **BY}
    return result("head_composition", [measurement("key_drop", by, value, "probability", missing=GONE)])


def retrieval_heads() -> Result:
    names = ("retrieval", "needle_mass", "activation_frequency", "sink_argmax", "echo", "echo_induction")
    found = scores({**dict.fromkeys(names, "probability"), "full_cache": "1"}, (8, 1), 0.8)
    where = {"length": np.array([256, 512]), "depth": np.array([0.1, 0.5, 0.9])}
    found.append(measurement("token_accuracy", where, [[0.9, 0.8, 1.0], [0.8, 0.6, 0.9]], "probability"))
    return result("retrieval_heads", found)


def retrieval_ablation(margin: float = 0.4, spread: float = 0.2) -> Result:
    groups = ("retrieval", "random", "streaming", "largest")
    by = {"mode": ("uniform",), "criterion": groups, "k": SIZES}
    recall = np.stack([0.9 - margin * SIZES / 5, *[np.full(3, 0.88)] * 3])[None]
    less = np.broadcast_to(margin * SIZES / 5, (1, 3, 3))
    found = [
        measurement("recall", by, recall, "probability"),
        measurement("margin", {**by, "criterion": groups[1:]}, less, "probability", spread),
        measurement("intact_recall", {}, 0.9, "probability"),
    ]
    return result("retrieval_ablation", found)
