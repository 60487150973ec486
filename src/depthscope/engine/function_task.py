"""One in-context task: what heads give at the last token, what each mean output does, and the vector they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.engine.tally import Rows
from depthscope.runtime.head_writes import head_write, layers_with_heads
from depthscope.runtime.injection import injected_ends
from depthscope.runtime.last_token import last_token_effects
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run

Asked = Sequence[Any]
"""Ids, and the first token of the answer."""


@dataclass(frozen=True)
class Shown:
    """What prompts showed at their last tokens.

    Args:
        z: outputs of heads, [prompt layer head d_head], 0 in layers without heads. states: [prompt state d_model].
        rank: of the first answer token, 1 is the most likely one. probability: of it.
    """

    z: Float[Tensor, "prompt layer head d_head"]
    states: Float[Tensor, "prompt state d_model"]
    rank: np.ndarray
    probability: np.ndarray

    def only(self, kept: np.ndarray) -> Shown:
        """Some of the prompts."""
        at = torch.from_numpy(np.flatnonzero(kept))
        return Shown(self.z[at], self.states[at], self.rank[kept], self.probability[kept])


def shown(model: Model, prompts: Sequence[Asked]) -> Shown:
    """Read prompts one by one."""
    anatomy, layers = model.anatomy, layers_with_heads(model.anatomy)
    sites = [Site(layer, "head_out") for layer in layers]
    z = torch.zeros(
        len(prompts), anatomy.n_layers, max(1, anatomy.n_heads), max(1, anatomy.d_head), dtype=model.dtype
    )
    states: list[Tensor] = []
    found: list[tuple[float, float]] = []
    for k, (ids, answer) in enumerate(prompts):
        seen = run(model, Batch.of_ids([list(ids)]), read=[*anatomy.states(), *sites])
        states.append(torch.stack([seen[site][0, -1] for site in anatomy.states()]).cpu())
        for layer, site in zip(layers, sites, strict=True):
            z[k, layer] = seen[site][0, -1].cpu()
        rank, probability = scored(model, states[-1][-1:].to(model.device), int(answer))
        found.append((float(rank[0]), float(probability[0])))
    ranks, probabilities = np.array(found).reshape(-1, 2).T
    return Shown(z, torch.stack(states), ranks, probabilities)


def scored(model: Model, ends: Float[Tensor, "row d_model"], answer: int) -> tuple[np.ndarray, np.ndarray]:
    """Rank (1 + tokens that are likelier) and probability of one id after each last state."""
    ranks, probabilities = [], []
    for part in ends.split(32):
        logits = model.head.logits(part).float()
        own = logits[:, answer, None]
        ranks.append(1 + (logits > own).sum(-1))
        probabilities.append((own[:, 0] - logits.logsumexp(-1)).double().exp())
    return torch.cat(ranks).double().cpu().numpy(), torch.cat(probabilities).cpu().numpy()


def effects(
    model: Model, prompts: Sequence[Asked], z: Float[Tensor, "layer head d_head"]
) -> Float[np.ndarray, "prompt layer head"]:
    """Gain in probability of the answer where one head's output at the last token is z; NaN in layers without heads."""
    found = [
        last_token_effects(model, ids, z, partial(_probability, int(answer))).effect
        for ids, answer in prompts
    ]
    return torch.stack(found).numpy()


def _probability(answer: int, logits: Float[Tensor, "row d_vocab"]) -> Float[Tensor, " row"]:
    return torch.softmax(logits.double(), dim=-1)[:, answer]


@dataclass(frozen=True)
class Writes:
    """Mean writes of heads at the last tokens of some prompts, without biases, and mean states there.

    Args:
        heads: [layer head d_model]; what a norm behind the projection does to each prompt's sum is held fixed.
        states: [state d_model].
    """

    heads: Float[Tensor, "layer head d_model"]
    states: Float[Tensor, "state d_model"]

    @classmethod
    def of(cls, model: Model, found: Shown) -> Writes:
        """From prompts that were read."""
        anatomy = model.anatomy
        heads = torch.zeros(anatomy.n_layers, max(1, anatomy.n_heads), anatomy.d_model, dtype=model.dtype)
        for layer in layers_with_heads(anatomy):
            heads[layer] = (
                head_write(model, layer, found.z[:, None, layer].to(model.device)).detach().mean((0, 1)).cpu()
            )
        return cls(heads, found.states.mean(0))

    def vector(self, chosen: Sequence[tuple[int, int]]) -> Float[Tensor, " d_model"] | None:
        """The sum of some heads' mean writes; None of no heads."""
        if not chosen:
            return None
        return torch.stack([self.heads[layer, head] for layer, head in chosen]).sum(0)


def strongest(effect: Float[np.ndarray, "layer head"], count: int) -> list[tuple[int, int]]:
    """The heads of the largest mean effects, largest first; a negative effect is no reason to be chosen."""
    flat = np.where(np.isfinite(effect), effect, -np.inf).ravel()
    order = np.argsort(-flat, kind="stable")[: min(count, int(np.isfinite(flat).sum()))]
    return [(int(k) // effect.shape[1], int(k) % effect.shape[1]) for k in order]


def others(
    effect: Float[np.ndarray, "layer head"], chosen: Sequence[tuple[int, int]], seed: int
) -> list[tuple[int, int]]:
    """As many heads at random among those not chosen; fewer where so many are not left."""
    left = [pair for pair in strongest(effect, effect.size) if pair not in set(chosen)]
    order = np.random.default_rng([seed, 3]).permutation(len(left))[: len(chosen)]
    return [left[k] for k in order]


@dataclass(frozen=True)
class Injected:
    """Vectors by name: the same at every state [d_model], one for each [state d_model], or None where there is none."""

    vectors: Mapping[str, Tensor | None]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Their names in order."""
        return tuple(self.vectors)

    def at(self, name: str, state: int) -> Float[Tensor, " d_model"] | None:
        """What is added at one state."""
        found = self.vectors[name]
        return found if found is None or found.dim() == 1 else found[state]

    def scores(
        self, model: Model, ids: Sequence[int], answer: int, states: Sequence[int]
    ) -> Float[np.ndarray, "vector state 2"]:
        """Rank and probability of an answer, each vector added at each of the states; NaN where there is no vector."""
        found = np.full((len(self.names), len(states), 2), np.nan)
        there = [k for k, vector in enumerate(self.vectors.values()) if vector is not None]
        rows = [self.at(self.names[k], s) for k in there for s in states]
        if rows:
            added = torch.stack([row for row in rows if row is not None]).to(model.device)
            ends = injected_ends(model, ids, list(states) * len(there), added)
            found[there] = np.stack(scored(model, ends, answer), axis=-1).reshape(len(there), len(states), 2)
        return found


def task_rows(index: int, name: str, columns: Mapping[str, np.ndarray]) -> Rows:
    """Rows of one task, whose place among the tasks is `index`, each a unit of its own unless it names one."""
    count = len(next(iter(columns.values())))
    key = np.arange(count, dtype=np.uint64) + np.uint64(index << 24)
    unit = np.array([f"{name}/{k:05d}" for k in range(count)], dtype=str)
    return Rows(key, {"task": np.full(count, name), "unit": unit, **columns}, 10**6)


def times(vector: Tensor | None, factor: float) -> Tensor | None:
    """A vector so many times as long; None stays."""
    return None if vector is None else factor * vector


def random_like(vector: Float[Tensor, " d_model"] | None, seed: int) -> Float[Tensor, " d_model"] | None:
    """A random direction of the same length; None of None."""
    if vector is None:
        return None
    drawn = torch.randn(len(vector), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        vector
    )
    return drawn * (torch.linalg.vector_norm(vector) / torch.linalg.vector_norm(drawn))
