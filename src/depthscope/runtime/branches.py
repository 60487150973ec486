"""Branches: continuations of a row from some positions on, run in the same block call as the row they leave.

In a causal model two rows that agree before position t have equal states there. A continuation from t on needs no
prefix of its own: its places stand behind the row, look at the row's positions before t and at their own branch, and
carry their own positions. So one row of tokens and places replaces one whole row a branch. Blocks that mix tokens by
anything but recorded attention get whole rows, one a branch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depthscope.runtime.edits import Edit
from depthscope.runtime.hooks import hooked, put_stream, tensor_of
from depthscope.runtime.replay import call_block, expanded
from depthscope.runtime.run import Call, Seen
from depthscope.runtime.wiring import taps

_MASKS = ("attention_mask", "causal_mask")
_POSITIONS = {"position_ids": -1, "cache_position": -1, "position_embeddings": -2}
"""Recorded arguments that belong to positions, and the axis of the position."""


@dataclass(frozen=True, eq=False)
class Branches:
    """Where branches leave their rows.

    Args:
        splits: the first position of each branch, [row branch]; -1 where a row has fewer branches.
        positions: the position of each place, [row place]; places that are not valid hold some position.
        branch: which branch a place belongs to, [place]; places of one branch follow each other.
        valid: False at places beyond the end of the row.
    """

    splits: Int[Tensor, "row branch"]
    positions: Int[Tensor, "row place"]
    branch: Int[Tensor, " place"]
    valid: Bool[Tensor, "row place"]

    @classmethod
    def of(cls, splits: Int[Tensor, "row branch"], reach: int, length: int) -> Branches:
        """Branches of at most `reach` positions in rows of `length` tokens."""
        there = splits >= 0
        widths = torch.where(there, (length - splits).clamp(0, reach), 0).amax(0)
        branch = torch.repeat_interleave(torch.arange(len(widths), device=splits.device), widths)
        first = torch.cumsum(widths, 0) - widths
        offset = torch.arange(len(branch), device=splits.device) - first[branch]
        positions = splits[:, branch] + offset
        valid = there[:, branch] & (positions < length)
        return cls(splits, positions.clamp(0, length - 1), branch, valid)

    @property
    def places(self) -> int:
        """Places behind each row."""
        return len(self.branch)

    def taken(self, stream: Float[Tensor, "rows token d_model"]) -> Float[Tensor, "rows place d_model"]:
        """What stands at the positions of the places; more rows than there are branches' rows are copies of them."""
        index = self.positions.repeat(stream.shape[0] // len(self.positions), 1)
        return stream.gather(1, index[..., None].expand(-1, -1, stream.shape[-1]))

    def joined(self, stream: Float[Tensor, "rows token d_model"]) -> Float[Tensor, "rows entry d_model"]:
        """A row followed by branches that repeat it."""
        return torch.cat([stream, self.taken(stream)], 1)

    def visible(self, length: int) -> Bool[Tensor, "row entry entry"]:
        """Which entry may look at which, the order of positions apart: own branch, and the row before its split."""
        whole = length + self.places
        seen = torch.zeros(len(self.positions), whole, whole, dtype=torch.bool, device=self.branch.device)
        seen[:, :length, :length] = True
        before = torch.arange(length, device=self.branch.device) < self.splits[:, self.branch, None]
        seen[:, length:, :length] = before
        places = torch.arange(self.places, device=self.branch.device)
        own = (self.branch[:, None] == self.branch) & (places[:, None] >= places)
        seen[:, length:, length:] = own
        return seen


class Boughs:
    """Calls of blocks on rows with their branches behind them.

    Args:
        seen: the recorded pass.
        branches: where its rows branch.
    """

    def __init__(self, seen: Seen, branches: Branches) -> None:
        self.seen, self.branches, self.length = seen, branches, seen.batch.length
        self.whole_rows: set[int] = {
            layer for layer in seen.calls if branches.places and not self._attends(layer)
        }
        self._masks: dict[int, Tensor] = {}

    def entries(self, layer: int) -> int:
        """Layer-token evaluations of one row with its branches; without branches those of the row."""
        if layer not in self.whole_rows:
            return self.length + self.branches.places
        return self.length * (1 + self.branches.splits.shape[1])

    def call(
        self, layer: int, stream: Float[Tensor, "rows entry d_model"], edit: Sequence[Edit] = ()
    ) -> Float[Tensor, "rows entry d_model"]:
        """One block on rows of tokens, with or without places behind them; `at` of the edits is [rows entry]."""
        if stream.shape[1] == self.length:
            with torch.no_grad(), self._edited(edit, self.length):
                return call_block(self.seen, layer, stream)
        if layer in self.whole_rows:
            return self._unrolled(layer, stream, edit)
        with torch.no_grad(), self._edited(edit, stream.shape[1]):
            args, kwargs = put_stream(*self._recorded(layer, stream.shape[0]), stream)
            return tensor_of(self.seen.model.anatomy.layers[layer].block(*args, **kwargs))

    def _unrolled(self, layer: int, stream: Tensor, edit: Sequence[Edit]) -> Tensor:
        """Whole rows: the trunk, then for each branch a copy of the trunk that holds the branch's places."""
        rows, length, n = stream.shape[0], self.length, self.branches.splits.shape[1]
        trunk, places = stream[:, :length], stream[:, length:]
        copies = rows // self.seen.batch.rows
        inside = [self.branches.valid & (self.branches.branch == k) for k in range(n)]
        at = [mask.repeat(copies, 1) for mask in inside]
        index = self.branches.positions.repeat(copies, 1)
        stacked = [trunk, *(_placed(trunk, index, places, mask) for mask in at)]
        with torch.no_grad(), self._edited([self._before_splits(e, copies) for e in edit], length):
            out = call_block(self.seen, layer, torch.cat(stacked)).unflatten(0, (1 + n, rows))
        found = self.branches.taken(out[0])
        for k, mask in enumerate(at):
            found = torch.where(mask[..., None], self.branches.taken(out[1 + k]), found)
        return torch.cat([out[0], found], 1)

    def _before_splits(self, edit: Edit, copies: int) -> Edit:
        """The edit on whole rows: everywhere in the trunk, before the split in a branch's row."""
        assert edit.at is not None
        trunk = edit.at[:, : self.length]
        token = torch.arange(self.length, device=trunk.device)
        before = [token < split[:, None] for split in self.branches.splits.repeat(copies, 1).T]
        return replace(edit, at=torch.cat([trunk, *(trunk & b for b in before)]))

    def _edited(self, edit: Sequence[Edit], length: int):  # noqa: ANN202  (a context manager)
        return hooked(taps(self.seen.model.anatomy, (), edit, {}, length))

    def _attends(self, layer: int) -> bool:
        """True where attention is the only mixer and every recorded tensor is a mask or belongs to positions."""
        block = self.seen.model.anatomy.layers[layer]
        if block.attn is None or block.ssm is not None or block.pre is not None:
            return False
        named = self._named(layer)
        known = {*_MASKS, *_POSITIONS}
        return all(name in known or not _has_tensor(value) for name, value in named.items())

    def _named(self, layer: int) -> dict[str, object]:
        """The recorded arguments by name, the stream left out."""
        args, kwargs = self.seen.calls[layer]
        named = {**dict(zip(self._names(layer), args, strict=False)), **kwargs}
        return {
            name: value
            for name, value in named.items()
            if name not in ("hidden_states", self._names(layer)[0])
        }

    def _names(self, layer: int) -> list[str]:
        return list(inspect.signature(self.seen.model.anatomy.layers[layer].block.forward).parameters)

    def _recorded(self, layer: int, rows: int) -> Call:
        """The recorded call for longer rows, and more of them."""
        args, kwargs = expanded(self.seen, layer, self.seen.batch.rows)
        copies, names = rows // self.seen.batch.rows, self._names(layer)
        longer = tuple(self._longer(n, v, copies) for n, v in zip(names, args, strict=False))
        fresh = {n: self._longer(n, v, copies) for n, v in kwargs.items()}
        if not {*names[: len(args)], *fresh} & set(_MASKS):
            fresh[_MASKS[0]] = self._mask(None).repeat(copies, 1, 1, 1)
        return longer, fresh

    def _longer(self, name: str, value: object, copies: int) -> object:
        if name in _MASKS:
            return self._mask(value if isinstance(value, Tensor) else None).repeat(copies, 1, 1, 1)
        if name in _POSITIONS:
            return _mapped(value, lambda x: self._gathered(x, x.dim() + _POSITIONS[name], copies))
        return value

    def _gathered(self, value: Tensor, axis: int, copies: int) -> Tensor:
        """[row or 1, .., token, ..] -> [rows, .., entry, ..]: the places' positions behind those of the row."""
        value = value.expand(self.seen.batch.rows, *value.shape[1:])
        places = self.branches.places
        index = self.branches.positions.reshape(
            -1, *(places if k == axis else 1 for k in range(1, value.dim()))
        )
        wide = [places if k == axis else n for k, n in enumerate(value.shape)]
        found = torch.cat([value, value.gather(axis, index.expand(wide))], axis)
        return found.repeat(copies, *(1 for _ in wide[1:]))

    def _mask(self, recorded: Tensor | None) -> Tensor:
        """[row, 1 or head, entry, entry]: the recorded mask (None: causal) at positions, closed between branches."""
        key = id(recorded)
        if key not in self._masks:
            token = torch.arange(self.length, device=self.branches.branch.device)
            causal = (token[:, None] >= token)[None, None]
            base = causal if recorded is None else recorded
            base = self._gathered(self._gathered(base, 2, 1), 3, 1)
            closed = ~self.branches.visible(self.length)[:, None]
            nothing = False if base.dtype == torch.bool else torch.finfo(base.dtype).min
            self._masks[key] = base.masked_fill(closed, nothing)
        return self._masks[key]


def _placed(trunk: Tensor, index: Tensor, places: Tensor, at: Tensor) -> Tensor:
    """The trunk with the places of one branch put at their positions."""
    found = trunk.clone()
    row, place = at.nonzero(as_tuple=True)
    found[row, index[row, place]] = places[row, place]
    return found


def _has_tensor(value: object) -> bool:
    if isinstance(value, tuple | list):
        return any(map(_has_tensor, value))
    return isinstance(value, Tensor)


def _mapped(value: object, change: Callable[[Tensor], Tensor]) -> object:
    if isinstance(value, tuple | list):
        return type(value)(_mapped(v, change) for v in value)
    return change(value) if isinstance(value, Tensor) else value
