"""A staircase of counterfactuals: one sweep over the layers in which rows join the batch as depth grows.

A variant differs from the clean pass only from its first edited layer on, so its row joins there with the cached clean
stream. At each layer ONE block call serves all rows that have joined. Whole-layer skips need no call of their own:
their stream after the layer is the layer's input. What a measure needs is reduced while the block's output is at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.errors import BadInput
from depthscope.runtime.edits import Edit, skip
from depthscope.runtime.head import Decode
from depthscope.runtime.hooks import hooked
from depthscope.runtime.replay import call_block
from depthscope.runtime.run import Seen
from depthscope.runtime.wiring import taps

CLEAN = -1
"""The place of the clean stream, which rides along: what it gains against itself is the noise floor."""
BUDGET = 512 * 2**20
"""Bytes that one block call of the sweep may take beyond the model, by an estimate of its widest tensors."""


@dataclass(frozen=True)
class Variant:
    """One counterfactual: a name and the edits that make it. Variants of equal name are the same."""

    name: str
    edits: tuple[Edit, ...]

    def start(self) -> int:
        """The first layer whose computation differs from the clean pass."""
        return min(edit.site.layer or 0 for edit in self.edits)

    def skips_only_block(self) -> bool:
        """True where the variant is one whole-layer skip."""
        return len(self.edits) == 1 and self.edits[0].label == f"skip {self.edits[0].site.layer}"

    def at(self, positions: Tensor) -> Variant:
        """The variant restricted to some positions."""
        return replace(self, edits=tuple(replace(edit, at=positions) for edit in self.edits))


def skip_variants(anatomy: Anatomy, sublayers: Iterable[str] = ("block",)) -> tuple[Variant, ...]:
    """One variant for each layer and each of `block`, `attention` (any mixer), `mlp` that it has."""
    found: list[Variant] = []
    for layer in anatomy.layers:
        for sublayer in sublayers:
            words = {"block": ["block"], "mlp": ["mlp"] if layer.mlp else []}
            mixers = ["attention" if part == "attn_out" else "ssm" for part, _ in layer.mixers()]
            parts = words.get(sublayer, mixers)
            if parts:
                found.append(
                    Variant(f"{layer.index}.{sublayer}", tuple(skip(layer.index, word) for word in parts))
                )
    return tuple(found)


@dataclass(frozen=True)
class Effects:
    """Reduced effects of each variant on each row of the batch; sums over that row's measured positions.

    Args:
        names: the variants, in order.
        output_kl: sum of KL(clean || variant), nats, [variant row]. loss_increase: sum of the rise of cross-entropy.
        changed: sum of the norms of the change of each layer's block write, [variant layer row]; 0 before the variant.
        clean: sum of the norms of the clean block writes, [layer row].
        positions: measured positions a row; targets: those with a next token.
        floor_kl, floor_loss: mean output KL and mean absolute loss difference of the clean pass against itself riding
            in the batches of the sweep: the noise floor, nats. floor_changed: the same for each layer's write,
            relative, [layer].
    """

    names: tuple[str, ...]
    output_kl: Tensor
    loss_increase: Tensor
    changed: Tensor
    clean: Tensor
    positions: Tensor
    targets: Tensor
    floor_kl: float
    floor_loss: float
    floor_changed: Tensor


def sweep(
    seen: Seen,
    variants: Sequence[Variant],
    at: Bool[Tensor, "row token"],
    measured: Bool[Tensor, "row token"],
    budget: int = BUDGET,
) -> Effects:
    """Run all variants in one staircase and reduce their effects.

    Args:
        seen: a clean pass with `record=True` that read all states.
        at: positions where the edits apply; elsewhere (sinks, position 0) the clean stream goes on.
        measured: positions that effects are measured at.

    Raises:
        BadInput: when `seen` lacks the recorded calls or two variants share a name.
    """
    if len({v.name for v in variants}) != len(variants):
        raise BadInput("two variants of a sweep share a name")
    stairs = _Stairs(seen, tuple(v.at(at) for v in variants), measured, budget)
    for layer in range(seen.model.anatomy.n_layers):
        stairs.climb(layer)
    return stairs.effects()


class _Stairs:
    """The rows that have joined so far and the sums of their effects."""

    def __init__(self, seen: Seen, variants: tuple[Variant, ...], measured: Tensor, budget: int) -> None:
        self.seen, self.variants, self.measured, self.budget = seen, variants, measured, budget
        self.states = [seen[site] for site in seen.model.anatomy.states()]
        self.streams: dict[int, Tensor] = {}
        rows, depth = seen.batch.rows, seen.model.anatomy.n_layers
        self.first = min((v.start() for v in variants), default=depth)
        self.drift = torch.zeros(depth, rows, dtype=torch.float64)
        self.changed = torch.zeros(len(variants), depth, rows, dtype=torch.float64)
        self.clean = torch.zeros(depth, rows, dtype=torch.float64)

    def climb(self, layer: int) -> None:
        """Run one layer for all joined rows, then let whole-layer skips of this layer join."""
        before, after = self.states[layer], self.states[layer + 1]
        if layer == self.first:
            self.streams[CLEAN] = before
        starting = [k for k, v in enumerate(self.variants) if v.start() == layer]
        jumping = [k for k in starting if self.variants[k].skips_only_block()]
        for k in set(starting) - set(jumping):
            self.streams[k] = before
        write = after - before
        self.clean[layer] = self._summed(_norms(write))
        for group in self._groups(sorted(self.streams)):
            self._run(layer, group, write)
        for k in jumping:
            self.streams[k] = torch.where(self.variants[k].edits[0].at[..., None], before, after)  # pyright: ignore[reportOptionalSubscript]
            self.changed[k, layer] = self._summed(_norms(self.streams[k] - after))

    def _run(self, layer: int, group: list[int], write: Tensor) -> None:
        stacked = torch.cat([self.streams[k] for k in group])
        edits = [e for k in group if k != CLEAN for e in self._placed(k, layer, group)]
        with torch.no_grad(), hooked(taps(self.seen.model.anatomy, (), edits, {}, self.seen.batch.length)):
            out = call_block(self.seen, layer, stacked)
        rows = self.seen.batch.rows
        change = (out - stacked).view(len(group), rows, *out.shape[1:]) - write
        norms = _norms(change)
        for place, k in enumerate(group):
            self.streams[k] = out[place * rows : (place + 1) * rows]
            (self.drift if k == CLEAN else self.changed[k])[layer] = self._summed(norms[place])

    def _placed(self, variant: int, layer: int, group: list[int]) -> list[Edit]:
        """The variant's edits of this layer, acting on its own rows of the stacked batch only."""
        place, rows = group.index(variant), self.seen.batch.rows
        found = []
        for edit in self.variants[variant].edits:
            if (edit.site.layer or 0) == layer:
                at = torch.zeros(
                    len(group) * rows, self.seen.batch.length, dtype=torch.bool, device=self.measured.device
                )
                at[place * rows : (place + 1) * rows] = edit.at if edit.at is not None else True
                found.append(replace(edit, at=at))
        return found

    def _groups(self, joined: list[int]) -> list[list[int]]:
        """Joined rows in groups whose widest tensors fit the budget."""
        anatomy, batch = self.seen.model.anatomy, self.seen.batch
        width = 4 * anatomy.d_model + 3 * max(anatomy.d_mlp, anatomy.d_model)
        each = batch.rows * batch.length * width * self.states[0].element_size()
        size = max(1, self.budget // max(1, each))
        return [joined[k : k + size] for k in range(0, len(joined), size)]

    def _summed(self, values: Float[Tensor, "row token"]) -> Tensor:
        return (values * self.measured).double().sum(-1).cpu()

    def effects(self) -> Effects:
        """Decode the last states at the measured positions and finish the sums."""
        index = self.measured.nonzero()
        final = self.states[-1][index[:, 0], index[:, 1]]
        targets, has_target = next_ids(self.seen, index)
        want = Decode(kl=True, target=True)
        head = self.seen.model.head
        riding = self.streams.get(CLEAN, self.states[-1])
        streams = [riding, *(self.streams[k] for k in range(len(self.variants)))]
        ends = torch.stack([final, *(stream[index[:, 0], index[:, 1]] for stream in streams)])
        found = head.decode(ends, final, want, targets)
        kl = self._by_row(_there(found.kl)[2:], index)
        loss = _there(found.cross_entropy)
        rise = self._by_row((loss[2:] - loss[:1]) * has_target, index)
        rows = torch.arange(self.seen.batch.rows)
        counted = index[:, 0].cpu()[None] == rows[:, None]
        return Effects(
            names=tuple(v.name for v in self.variants),
            output_kl=kl,
            loss_increase=rise,
            changed=self.changed,
            clean=self.clean,
            positions=counted.sum(-1),
            targets=(counted & has_target.cpu()).sum(-1),
            floor_kl=_mean(_there(found.kl)[1]),
            floor_loss=_mean((loss[1] - loss[0]).abs()),
            floor_changed=self.drift.sum(-1) / self.clean.sum(-1).clamp_min(1e-30),
        )

    def _by_row(self, values: Float[Tensor, "variant item"], index: Tensor) -> Tensor:
        """Sums over the items of each row, [variant row], float64."""
        total = torch.zeros(values.shape[0], self.seen.batch.rows, dtype=torch.float64)
        return total.index_add_(1, index[:, 0].cpu(), values.double().cpu())


def _norms(vectors: Float[Tensor, "*items d_model"]) -> Float[Tensor, "*items"]:
    return torch.linalg.vector_norm(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if values.numel() else 0.0


def _there(values: Tensor | None) -> Tensor:
    assert values is not None
    return values


def next_ids(seen: Seen, index: Tensor) -> tuple[Tensor, Tensor]:
    """Next-token ids at (row, position) pairs, and whether there is one (last and padded positions have none)."""
    batch = seen.batch
    following = torch.zeros_like(batch.ids)
    following[:, :-1] = batch.ids[:, 1:]
    exists = torch.zeros_like(batch.mask)
    exists[:, :-1] = batch.mask[:, 1:]
    return following[index[:, 0], index[:, 1]], exists[index[:, 0], index[:, 1]]
