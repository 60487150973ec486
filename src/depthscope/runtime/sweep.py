"""A staircase of counterfactuals: one sweep over the layers in which rows join the batch as depth grows.

A variant differs from the clean pass only from its first edited layer on, so its row joins there with the cached clean
stream. At each layer ONE block call serves all rows that have joined. Whole-layer skips need no call of their own:
their stream after the layer is the layer's input. What a measure needs is reduced while the block's output is at hand.

Future rows, edited before a split and measured from it on, share the prefix of the row that is edited everywhere, so
they hang on it as branches (branches.py). Until after its first layer nothing has moved at the places of a branch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.errors import BadInput, Refused
from depthscope.runtime.branches import Boughs, Branches
from depthscope.runtime.edits import Edit, skip
from depthscope.runtime.effects import Effects, Writes
from depthscope.runtime.output import OutputChange, output_change
from depthscope.runtime.run import Seen

CLEAN = -1
"""The place of the clean stream, which rides along: what it gains against itself is the noise floor."""
BUDGET = 512 * 2**20
"""Bytes that one block call of the sweep may take beyond the model, by an estimate of its widest tensors."""
SAME = 1e-3
"""What the clean stream may differ from itself by, relative, when its branches share a call with it."""
_READ = ("resid_pre", "attn_in", "embed")
"""Parts whose edit at one position reaches later positions within the layer."""


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


def sweep(
    seen: Seen,
    variants: Sequence[Variant],
    at: Bool[Tensor, "row token"],
    measured: Bool[Tensor, "row token"],
    budget: int = BUDGET,
    *,
    splits: Int[Tensor, "row branch"] | None = None,
    reach: int = 64,
    local: bool = False,
) -> Effects:
    """Run all variants in one staircase and reduce their effects.

    Args:
        seen: a clean pass with `record=True` that read all states.
        at: positions where the edits apply; elsewhere (sinks, position 0) the clean stream goes on.
        measured: positions that effects are measured at.
        splits: for effects on the future: in each row the positions before which the edits apply, -1 for none;
            effects are then measured at `reach` positions from each split on.
        local: whether direct effects are measured too: one more block call a pair of layers.

    Raises:
        BadInput: when `seen` lacks the recorded calls, two variants share a name, or splits are given together with an
            edit of what a layer reads, which reaches the future within its own layer.
        Refused: for splits in a model that is not causal: its states before a split know what comes after it.
    """
    if len({v.name for v in variants}) != len(variants):
        raise BadInput("two variants of a sweep share a name")
    if splits is not None:
        _check_splits(seen, variants, splits)
    stairs = _Stairs(seen, tuple(v.at(at) for v in variants), measured, budget, splits, reach, local)
    for layer in range(seen.model.anatomy.n_layers):
        stairs.climb(layer)
    return stairs.effects()


def _check_splits(seen: Seen, variants: Sequence[Variant], splits: Tensor) -> None:
    if not seen.model.anatomy.family.causal:
        raise Refused(
            f"{seen.model.anatomy.name} is no causal model: every position sees every other, so it has no future tokens"
        )
    rows, length, last = seen.batch.rows, seen.batch.length, max(splits.flatten().tolist(), default=-1)
    if len(splits) != rows or last >= length:
        raise BadInput(
            f"splits are positions in each of {rows} rows of {length} tokens; found {len(splits)} rows, the last "
            f"split at {last}"
        )
    bad = [str(e.site) for v in variants for e in v.edits if e.site.part in _READ]
    if bad:
        raise BadInput(
            f"an edit of {bad[0]} reaches later positions in its own layer; splits need edits of writes"
        )


class _Stairs:
    """The rows that have joined so far and the sums of their effects.

    A row that has joined is its tokens followed by the places of its branches; it joins after its first layer, where
    the places still hold the clean stream.
    """

    def __init__(
        self,
        seen: Seen,
        variants: tuple[Variant, ...],
        measured: Tensor,
        budget: int,
        splits: Tensor | None,
        reach: int,
        local: bool,
    ) -> None:
        self.seen, self.variants, self.measured, self.budget = seen, variants, measured, budget
        self.local, self.length = local, seen.batch.length
        self.states = [seen[site] for site in seen.model.anatomy.states()]
        none = measured.new_zeros(len(measured), 0, dtype=torch.long)
        self.branches = Branches.of(
            none if splits is None else splits.to(measured.device), reach, self.length
        )
        self.boughs = Boughs(seen, self.branches)
        self.streams: dict[int, Tensor] = {}
        self.taken: dict[int, Tensor] = {}
        depth = seen.model.anatomy.n_layers
        self.first = min((v.start() for v in variants), default=depth)
        later = measured.gather(1, self.branches.positions) & self.branches.valid
        self.now, self.future = (Writes(len(variants), depth, at) for at in (measured, later))
        self.direct = Writes(len(variants) if local else 0, depth, measured)
        self.layer_tokens = 0

    def climb(self, layer: int) -> None:
        """Run one layer for all joined rows, then let what starts here join."""
        before, after = self.states[layer], self.states[layer + 1]
        write = after - before
        self.now.begin(layer, write)
        self.future.begin(layer, self.branches.taken(write))
        self.direct.begin(layer, write)
        if layer == self.first:
            self.streams[CLEAN] = self.branches.joined(before)
        joined = self.branches.joined(write)
        for group in self._groups(sorted(self.streams), self.boughs.entries(layer)):
            self._run(layer, group, joined)
        self._read_directly(layer)
        starting = [k for k, v in enumerate(self.variants) if v.start() == layer]
        jumping = [k for k in starting if self.variants[k].skips_only_block()]
        for k in jumping:
            left = torch.where(self.variants[k].edits[0].at[..., None], before, after)  # pyright: ignore[reportOptionalSubscript]
            self._join(layer, k, left)
        for group in self._groups([k for k in starting if k not in jumping], self.length):
            for k, out in zip(group, self._called(layer, group, [before] * len(group)), strict=True):
                self._join(layer, k, out)

    def _join(self, layer: int, variant: int, out: Tensor) -> None:
        """Take what a variant leaves after its first layer."""
        after = self.states[layer + 1]
        self._note(layer, variant, out - after, None)
        if self.local:
            at = self.variants[variant].edits[0].at
            assert at is not None
            self.taken[variant] = torch.where(at[..., None], after - out, 0.0)
            self.direct.note(variant, layer, out - after)
        self.streams[variant] = torch.cat([out, self.branches.taken(after)], 1)

    def _run(self, layer: int, group: list[int], write: Tensor) -> None:
        """One call for joined rows; where the clean stream comes back changed, branches get whole rows instead."""
        found = self._called(layer, group, [self.streams[k] for k in group])
        if CLEAN in group and self._strays(layer, found[group.index(CLEAN)]):
            self.boughs.whole_rows.add(layer)
            for some in self._groups(group, self.boughs.entries(layer)):
                self._run(layer, some, write)
            return
        for k, out in zip(group, found, strict=True):
            change = out - self.streams[k] - write
            self._note(layer, k, change[:, : self.length], change[:, self.length :])
            self.streams[k] = out

    def _strays(self, layer: int, out: Tensor) -> bool:
        """True where the layer cannot be called with branches behind its rows."""
        if not self.branches.places or layer in self.boughs.whole_rows:
            return False
        expected = self.branches.taken(self.states[layer + 1])[self.branches.valid]
        found = out[:, self.length :][self.branches.valid]
        return bool(torch.linalg.vector_norm(found - expected) > SAME * torch.linalg.vector_norm(expected))

    def _note(self, layer: int, variant: int, change: Tensor, later: Tensor | None) -> None:
        if variant == CLEAN:
            self.now.note_drift(layer, change)
            if later is not None:
                self.future.note_drift(layer, later)
            return
        self.now.note(variant, layer, change)
        if later is not None:
            self.future.note(variant, layer, later)

    def _read_directly(self, layer: int) -> None:
        """What the layer makes of the clean stream without what each variant took away at its first layer."""
        before, write = self.states[layer], self.states[layer + 1] - self.states[layer]
        for group in self._groups(sorted(self.taken), self.length):
            streams = [before - self.taken[k] for k in group]
            for k, stream, out in zip(
                group, streams, self._called(layer, group, streams, edited=False), strict=True
            ):
                self.direct.note(k, layer, out - stream - write)

    def _called(
        self, layer: int, group: list[int], streams: list[Tensor], edited: bool = True
    ) -> tuple[Tensor, ...]:
        """One block call on the streams of a group, each variant's edits of this layer acting on its own rows."""
        stacked = torch.cat(streams)
        edits = (
            [e for place, k in enumerate(group) for e in self._placed(layer, k, place, stacked)]
            if edited
            else []
        )
        entries = self.boughs.entries(layer) if stacked.shape[1] > self.length else self.length
        self.layer_tokens += stacked.shape[0] * entries
        return self.boughs.call(layer, stacked, edits).split(self.seen.batch.rows)

    def _placed(self, layer: int, variant: int, place: int, stacked: Tensor) -> list[Edit]:
        """A variant's edits of a layer at its rows of a stacked batch; never at the places of branches."""
        rows, found = self.seen.batch.rows, []
        for edit in self.variants[variant].edits if variant != CLEAN else ():
            if (edit.site.layer or 0) == layer:
                at = stacked.new_zeros(stacked.shape[:2], dtype=torch.bool)
                at[place * rows : (place + 1) * rows, : self.length] = True if edit.at is None else edit.at
                found.append(replace(edit, at=at))
        return found

    def _groups(self, joined: list[int], entries: int) -> list[list[int]]:
        """Rows in groups whose widest tensors fit the budget."""
        anatomy, batch = self.seen.model.anatomy, self.seen.batch
        width = 4 * anatomy.d_model + 3 * max(anatomy.d_mlp, anatomy.d_model)
        each = batch.rows * entries * width * self.states[0].element_size()
        size = max(1, self.budget // max(1, each))
        return [joined[k : k + size] for k in range(0, len(joined), size)]

    def effects(self) -> Effects:
        """Decode the last states at the measured positions and finish the sums."""
        now = _Output.of(self, self.now, self.now.measured.nonzero(), slice(0, self.length))
        later = _Output.of(self, self.future, self.future.measured.nonzero(), slice(self.length, None))
        return Effects(
            names=tuple(v.name for v in self.variants),
            output_kl=now.kl,
            loss_increase=now.loss,
            shift=now.shift,
            changed=self.now.changed,
            clean=self.now.clean,
            positions=now.positions,
            targets=now.targets,
            future_kl=later.kl,
            future_loss=later.loss,
            future_shift=later.shift,
            future_changed=self.future.changed,
            future_clean=self.future.clean,
            future_positions=later.positions,
            future_targets=later.targets,
            local_changed=self.direct.changed if self.local else torch.zeros_like(self.now.changed),
            floor_kl=now.floors[0],
            floor_loss=now.floors[1],
            floor_shift=now.floors[2],
            floor_changed=self.now.floor(),
            future_floor_kl=later.floors[0],
            future_floor_loss=later.floors[1],
            future_floor_shift=later.floors[2],
            future_floor_changed=self.future.floor(),
            relative=self.now.relative,
            shifts=now.shifts,
            future_relative=self.future.relative,
            future_shifts=later.shifts,
            layer_tokens=self.layer_tokens,
        )


@dataclass(frozen=True)
class _Output:
    """Changes of the output at the tokens of rows, or at the places of their branches."""

    kl: Tensor
    loss: Tensor
    shift: Tensor
    positions: Tensor
    targets: Tensor
    floors: tuple[float, float, float]
    shifts: Tensor

    @classmethod
    def of(cls, stairs: _Stairs, writes: Writes, index: Tensor, part: slice) -> _Output:
        """Decode all variants, and the clean stream that rode along, at the (row, place) pairs of `index`."""
        row, place = index.unbind(1)
        position = place if part.start == 0 else stairs.branches.positions[row, place]
        final = stairs.states[-1][row, position]
        targets, has_target = next_ids(stairs.seen, torch.stack([row, position], 1))
        riding = stairs.streams.get(CLEAN, stairs.branches.joined(stairs.states[-1]))
        streams = [riding, *(stairs.streams[k] for k in range(len(stairs.variants)))]
        ends = torch.stack([final, *(stream[:, part][row, place] for stream in streams)])
        found = output_change(stairs.seen.model.head, ends, final, targets)
        loss = found.cross_entropy - found.cross_entropy[:1]
        rows = stairs.seen.batch.rows
        counted = row.cpu()[None] == torch.arange(rows)[:, None]
        shifts = torch.full((len(ends) - 2, *writes.measured.shape), torch.nan, dtype=torch.float32)
        shifts[:, row.cpu(), place.cpu()] = found.shift[2:].float().cpu()
        return cls(
            kl=_by_row(found.kl[2:], row, rows),
            loss=_by_row(loss[2:] * has_target, row, rows),
            shift=_by_row(found.shift[2:], row, rows),
            positions=counted.sum(-1),
            targets=(counted & has_target.cpu()).sum(-1),
            floors=_floors(found, loss),
            shifts=shifts,
        )


def _floors(found: OutputChange, loss: Tensor) -> tuple[float, float, float]:
    """What the clean stream that rode along gains against itself: KL, absolute loss difference, shift."""
    return _mean(found.kl[1]), _mean(loss[1].abs()), _mean(found.shift[1])


def _by_row(values: Tensor, row: Tensor, rows: int) -> Tensor:
    """Sums over the items of each row, [variant row], float64."""
    total = torch.zeros(values.shape[0], rows, dtype=torch.float64)
    return total.index_add_(1, row.cpu(), values.double().cpu())


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if values.numel() else 0.0


def next_ids(seen: Seen, index: Tensor) -> tuple[Tensor, Tensor]:
    """Next-token ids at (row, position) pairs, and whether there is one (last and padded positions have none)."""
    batch = seen.batch
    following = torch.zeros_like(batch.ids)
    following[:, :-1] = batch.ids[:, 1:]
    exists = torch.zeros_like(batch.mask)
    exists[:, :-1] = batch.mask[:, 1:]
    return following[index[:, 0], index[:, 1]], exists[index[:, 0], index[:, 1]]
