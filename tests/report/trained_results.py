"""Made-up results of studies of heads that train something, as pages, plots and verdicts read them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import numpy as np
from grammar_results import HEADS, LAYERS, N, made

from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result, Text

BY = {"layer": np.arange(LAYERS), "head": np.arange(HEADS)}


def study(name: str, module: str, found: Sequence[Measurement]) -> Result:
    text = Text.of(import_module(f"depthscope.fits.{module}").__doc__)
    return Result(name, {}, Findings({m.name: m for m in found}), text, {"documents": N})


def duo_gates(full: float = 0.3, between: float = 0.1) -> Result:
    gate = np.where(np.arange(LAYERS * HEADS) % 3 == 0, 1.0, 0.02).reshape(LAYERS, HEADS)
    gate[3] = np.nan
    found = [
        made("sensitivity", BY, 0.1 * gate, "1"),
        made("gate", BY, gate, "1"),
        made("share_full", {}, full),
        made("share_between", {}, between),
        made("difference", {"step": np.arange(0, 100, 10)}, np.linspace(0.2, 0.05, 10), "1"),
        made("agreement", {}, 0.7, "1"),
    ]
    return study("duo_gates", "duo_gates", found)


def tokens(variants: Sequence[str], bare: float, register: float, tells: float) -> list[Measurement]:
    """Background cells that get `bare` in the first variant and 0.9 in the others, where registers get `register`."""
    kinds = ("background", "foreground", "class_token", "register")
    got = np.ones((len(variants), 3, 4))
    got[..., 2] = np.nan if len(variants) < 3 else 1.5
    got[0, :, 0], got[1:, :, 0], got[1:, :, 3], got[0, :, 3] = bare, 0.9, register, np.nan
    probe = np.full(got.shape, 0.3)
    probe[..., 0], probe[0, :, 3] = tells, np.nan
    by = {"variant": variants, "layer": np.arange(3)}
    return [
        made("received", {**by, "token": kinds}, got, "1"),
        made("norm_ratio", by, np.full(got.shape[:2], 1.4), "1"),
        made("outlier_share", by, np.full(got.shape[:2], 0.1)),
        made("class_probe", {**by, "token": kinds}, probe),
        made("own_probe", {**by, "token": kinds}, probe),
    ]


def registers(bare: float = 2.0, register: float = 4.0, tells: float = 0.6) -> Result:
    names = ("0 registers", "1 registers", "4 registers")
    tasks = {"variant": names, "task": ("own_texture", "class_at_cells", "class_at_class_token")}
    found = [made("accuracy", tasks, np.full((3, 3), 0.9)), *tokens(names, bare, register, tells)]
    return study("registers", "registers", found)


def image_registers(bare: float = 2.0, tells: float = 0.6) -> Result:
    return study(
        "image_registers", "image_registers", tokens(("as it is", "random weights"), bare, 1.0, tells)
    )


def explicit_bias(plain: float = 0.9, left: float = 0.05, own: float = 0.8) -> Result:
    by = {"variant": ("plain", "explicit pair"), "layer": np.arange(2), "head": np.arange(2)}
    idle, pair = np.full((2, 2, 2), 0.02), np.full((2, 2, 2), 0.02)
    idle[:, 0, 1], pair[1, 0, 1], pair[0] = (plain, left), own, np.nan
    by_layer = {name: by[name] for name in ("variant", "layer")}
    found = [
        made(
            "loss",
            {"variant": by["variant"], "bucket": ("copies", "other")},
            [[0.1, 1.9], [0.1, 1.9]],
            "nats",
        ),
        made("first_share", by, 0.8 * idle),
        made("first_idle", by, idle),
        made("pair_share", by, pair),
        made("top_ratio", by_layer, np.full((2, 2), 5.0), "1"),
        made("first_norm", by_layer, np.full((2, 2), 0.8), "1"),
    ]
    return study("explicit_bias", "explicit_bias", found)


def iteration_transfer(after: float = 0.95, scratch: float = 0.1) -> Result:
    rise = (
        np.linspace(0, 1, 5)[None, :, None] * np.array([after, scratch])[:, None, None] * np.ones((1, 1, 8))
    )
    by = {"variant": ("after iteration-polynomial", "random weights"), "level": np.arange(1, 9)}
    first = np.array([[200.0] * 8, [np.nan] * 8])
    found = [
        made("right", {"variant": by["variant"], "step": np.arange(0, 500, 100), "level": by["level"]}, rise),
        made("first_step", by, first, "1"),
    ]
    return study("iteration_transfer", "iteration_transfer", found)


def results() -> dict[str, Result]:
    """All of them by name."""
    made_up = (duo_gates, registers, image_registers, explicit_bias, iteration_transfer)
    return {one.analysis: one for one in (make() for make in made_up)}
