"""What the memories of an MLP do where a fact is asked for: what they add to its answer, and what is lost without them.

A neuron's direct contribution to a token's logit is its hidden number times what its column adds to that logit, over
the size of the last stream: what it would add if nothing behind it changed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.engine.view import View
from depthscope.materials.window import Window
from depthscope.runtime.edits import Edit
from depthscope.runtime.memories import answer_directions, stream_size, values, write_scale
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import Seen, run

PLACES = ("subject", "end")
"""Where memories are looked at: the subject's last token, and the prompt's."""
OPTIONS = ("answer", "said")
"""Whose logit: the right answer's, and that of the token that the model says."""
VARIANTS = ("largest", "random")
KEPT = 16
"""Neurons of a layer that are kept of each prompt, place and option, those that add most."""
ZEROED = 10
NEAR = 10


@dataclass(frozen=True)
class Asked:
    """Prompts of one batch.

    Args:
        rows: of the batch. windows: what is asked. places: [prompt, place], positions.
        ids: [prompt, option], tokens. others: [prompt, other], answers of other facts.
    """

    rows: list[int]
    windows: list[Window]
    places: Tensor
    ids: Tensor
    others: Tensor

    @classmethod
    def of(cls, windows: Sequence[Window], said: Sequence[int]) -> Asked:
        """Of the rows that are prompts; `said` is the likeliest token behind each row."""
        rows = [k for k, w in enumerate(windows) if w.about["kind"] != "text"]
        chosen = [windows[k] for k in rows]
        places = torch.tensor([[w.about["subject"], len(w.ids) - 1] for w in chosen]).reshape(-1, 2)
        ids = torch.tensor([[w.about["answer"], said[k]] for k, w in zip(rows, chosen, strict=True)])
        others = torch.tensor([w.about["others"] for w in chosen])
        return cls(rows, chosen, places, ids.reshape(-1, 2), others)


def contributions(model: Model, seen: View, asked: Asked, layers: Sequence[int]) -> dict[str, np.ndarray]:
    """What neurons add to the logits of each prompt, the largest of each layer.

    Returns:
        "adds", "hidden", "neuron" [prompt, place, option, layer, kept]; "null" [prompt, place, layer, other], the
        largest addition to the answer of another fact; "ten" and "whole" [prompt, place, layer]: the sum of the ten
        largest additions to the answer, and of the sizes of all.
    """
    last = seen[Site(model.anatomy.n_layers - 1, "resid_post")][asked.rows, -1]
    size = stream_size(model, last)[:, None, None]
    tokens, place = torch.unique(torch.cat([asked.ids, asked.others], 1), return_inverse=True)
    directions = answer_directions(model, tokens.to(last.device))
    found: dict[str, list[Tensor]] = {
        name: [] for name in ("adds", "hidden", "neuron", "null", "ten", "whole")
    }
    for layer in layers:
        hidden = seen[Site(layer, "mlp_hidden")][asked.rows]
        hidden = hidden.gather(1, asked.places.to(hidden.device)[..., None].expand(-1, -1, hidden.shape[-1]))
        weight = hidden.to(directions) * write_scale(model, layer, hidden)[..., None].to(directions) / size
        each = (values(model, layer).to(directions) @ directions.T).T[
            place
        ]  # [prompt, option and other, neuron]
        own = weight[:, :, None] * each[:, None, :2]
        top = own.topk(min(KEPT, own.shape[-1]))
        found["adds"].append(top.values)
        found["neuron"].append(top.indices)
        found["hidden"].append(hidden[:, :, None].expand(own.shape).gather(-1, top.indices))
        found["null"].append((weight[:, :, None] * each[:, None, 2:]).amax(-1))
        found["ten"].append(top.values[:, :, 0, :ZEROED].sum(-1))
        found["whole"].append(own[:, :, 0].abs().sum(-1))
    return {
        name: _numbers(torch.stack(x, 3 if name in ("adds", "hidden", "neuron") else 2))
        for name, x in found.items()
    }


def _numbers(value: Tensor) -> np.ndarray:
    return value.detach().double().cpu().numpy()


def probabilities_without(
    model: Model, batch: Batch, asked: Asked, found: dict[str, np.ndarray], layers: Sequence[int], seed: int
) -> np.ndarray:
    """Probability of each fact's answer, [prompt, 1 + place x variant]: as it is, then without its memories.

    The ten neurons that add most to the answer at a place are set to zero there, or ten others of their layers whose
    numbers are about as large. NaN for invented subjects.
    """
    made = np.full((len(asked.rows), 1 + len(PLACES) * len(VARIANTS)), np.nan)
    real = [k for k, w in enumerate(asked.windows) if w.about["kind"] == "fact"]
    if not real:
        return made
    model, part = model.precise, batch.select([asked.rows[k] for k in real])
    reads = [Site(layer, "mlp_hidden") for layer in layers]
    end = Site(model.anatomy.n_layers - 1, "resid_post")
    clean = run(model, part, read=[end, *reads])
    ids = asked.ids[real, 0].tolist()
    made[real, 0] = _probability(model, clean[end], ids)
    column = 1
    for place in range(len(PLACES)):
        chosen = [_largest(found, k, place) for k in real]
        at = asked.places[real, place]
        alike = list(_alike(clean, chosen, at, layers, [asked.windows[k].index for k in real], seed))
        for neurons in (chosen, alike):
            edits = [_zeroing(layer, a, neurons, at, clean) for a, layer in enumerate(layers)]
            after = run(model, part, read=[end], edit=edits)
            made[real, column] = _probability(model, after[end], ids)
            column += 1
    return made


def _probability(model: Model, last: Tensor, ids: list[int]) -> np.ndarray:
    said = model.head.logits(last[:, -1]).double().softmax(-1)
    return _numbers(said[torch.arange(len(ids)), torch.tensor(ids)])


def _largest(found: dict[str, np.ndarray], prompt: int, place: int) -> list[tuple[int, int]]:
    """(place of the layer, neuron) of the ten that add most to the answer; only what adds something."""
    adds, neuron = found["adds"][prompt, place, 0], found["neuron"][prompt, place, 0]
    order = np.argsort(-adds, axis=None, kind="stable")[:ZEROED]
    cells = [np.unravel_index(k, adds.shape) for k in order]
    return [(int(a), int(neuron[a, b])) for a, b in cells if adds[a, b] > 0]


def _alike(
    clean: Seen,
    chosen: list[list[tuple[int, int]]],
    at: Tensor,
    layers: Sequence[int],
    keys: list[int],
    seed: int,
) -> Iterator[list[tuple[int, int]]]:
    """For each neuron another one of its layer, drawn among the nearest in size that are free."""
    for row, neurons in enumerate(chosen):
        draw, taken = np.random.default_rng([seed, 3, keys[row]]), set(neurons)
        found: list[tuple[int, int]] = []
        for a, neuron in neurons:
            hidden = _numbers(clean[Site(layers[a], "mlp_hidden")][row, at[row]])
            order = np.argsort(np.abs(np.abs(hidden) - abs(hidden[neuron])), kind="stable")
            free = [int(k) for k in order[: NEAR + 2 * ZEROED] if (a, int(k)) not in taken][:NEAR]
            if free:
                one = (a, free[int(draw.integers(len(free)))])
                taken.add(one)
                found.append(one)
        yield found


def _zeroing(layer: int, a: int, neurons: list[list[tuple[int, int]]], at: Tensor, clean: Seen) -> Edit:
    """Set each row's neurons of one layer to zero at the row's position."""
    like: Tensor = clean[Site(layer, "mlp_hidden")]
    keep = torch.ones_like(like)
    for row, chosen in enumerate(neurons):
        own = [neuron for b, neuron in chosen if b == a]
        if own:
            keep[row, at[row], own] = 0
    return Edit(Site(layer, "mlp_hidden"), _Times(keep), "zero memories")


@dataclass(frozen=True, eq=False)
class _Times:
    """A change: the number times a mask."""

    keep: Tensor

    def __call__(self, value: Tensor, stream: Tensor) -> Tensor:
        """[row token neuron]."""
        del stream
        return value * self.keep.to(value)
