"""Text written under steering: one prompt continued unchanged, with another text's expectations, and under controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from depthscope.fits.steering_effects import Cell, Recipe, Wanted
from depthscope.fits.steering_reference import Reference
from depthscope.materials.window import Window
from depthscope.runtime.generate import Generated, generate
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.predictor import Predictor
from depthscope.runtime.run import run
from depthscope.runtime.steering import random_directions, steering, taken_apart

SWAPS = ("predictable", "novel", "raw", "random", "shuffled")
VECTORS = ("predictable", "novel", "raw", "random")
WRITTEN = ("plain", "nothing", "other", *(f"swap_{v}" for v in SWAPS), *(f"vector_{v}" for v in VECTORS))
"""plain: no steering. nothing: a change of nothing. other: the other text's prompt, unsteered: the most one can ask."""


@dataclass(frozen=True)
class Writing:
    """How texts are written.

    Args:
        prompt: tokens of the text that are read; new: tokens that are written. strength: of vectors, in mean |h|.
        first: positions that are left alone.
    """

    prompt: int
    new: int
    strength: float
    temperature: float
    first: int
    seed: int


def written(
    model: Model,
    predictor: Predictor,
    state: int,
    own: Window,
    other: Window,
    wanted: Wanted,
    reference: Reference,
    how: Writing,
) -> Mapping[str, Mapping[str, Any]]:
    """Each variant's continuation of the own text: ids, text, log-probabilities under the steered model.

    The other text is read once, as it is; where the own text is at position t, the swap takes the other one's
    expectation of position t.
    """
    site = model.anatomy.states()[state]
    stream = run(model, Batch.of_ids([other.ids]), read=[site])[site]
    random = random_directions(stream.shape[1], stream.shape[2], how.seed)
    recipe = Recipe(reference, random, wanted, taken_apart(predictor, stream))
    found: dict[str, Mapping[str, Any]] = {}
    for variant in WRITTEN:
        prompt = (other if variant == "other" else own).ids[: how.prompt]
        cell = _cell(variant, how.strength)
        edit = (
            [] if cell is None
            else [steering(predictor, state, recipe.change(cell), model.anatomy, how.first)]
        )  # fmt: skip
        said = generate(
            model, torch.tensor(prompt), max_new_tokens=how.new, stop=(), edit=edit, temperature=how.temperature,
            seed=how.seed + own.index,
        )  # fmt: skip
        found[variant] = _kept(said)
    return found


def _cell(variant: str, strength: float) -> Cell | None:
    kind, _, name = variant.partition("_")
    if kind == "swap":
        return Cell("swap", name)
    if kind == "vector":
        return Cell("vector", name, strength)
    return Cell("nothing", "nothing") if kind == "nothing" else None


def _kept(said: Generated) -> Mapping[str, Any]:
    text = said.text if said.text is not None else " ".join(map(str, said.ids))
    return {"ids": list(said.ids), "text": text, "logprobs": list(said.logprobs)}
