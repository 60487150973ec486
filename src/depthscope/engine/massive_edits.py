"""Massive entries taken away where they first appear: what it costs, and what becomes of sinks and entropy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.engine.massive_census import Criterion
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.engine.text_loss import text_loss
from depthscope.engine.view import View
from depthscope.measures.patterns import pattern_statistics
from depthscope.measures.sinks import bias_constancy, key_attention, same_number
from depthscope.runtime.attention import Heads, listening
from depthscope.runtime.edits import Edit
from depthscope.runtime.head_writes import layers_with_heads
from depthscope.runtime.model import Model
from depthscope.runtime.replay import replay

Producer = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Row, layer, neuron and share."""
EDITS = ("clean", "zero", "mean", "random")
"""What is put in the place of massive entries; `random` zeroes as many other channels of the same tokens."""
RESTS = 0.3
"""Mean attention above which a head rests on a massive position."""


def edits_tally(model: Model, seen: View, criterion: Criterion) -> Tally:
    """Each text's loss, sinks and entropy under every edit, what produces its entry, and how constant its draw is.

    A text without a massive entry is in none of them.
    """
    edited = _Edited.of(seen, criterion)
    rows, depth = seen.seen.batch.rows, model.anatomy.n_layers
    kept = edited.rows
    values = {name: np.full((rows, len(EDITS)), np.nan) for name in ("loss", "sink_share", "entropy_norm")}
    bias = np.full((rows, depth, 2), np.nan)
    producer: Producer = (np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0))
    if len(kept):
        heads = _Heads(model, seen, edited)
        end, producer = _replayed(model, seen, edited, heads)
        ids = seen.seen.batch.ids
        if model.anatomy.family.causal and model.anatomy.has_unembedding():
            for k, part in enumerate(end.split(rows)):
                values["loss"][kept, k] = text_loss(model, part[kept], ids[kept])
        values["sink_share"][kept] = heads.resting()[:, kept].T
        values["entropy_norm"][kept] = heads.spread()[:, kept].T
        bias = heads.bias
    windows = np.asarray([seen.windows[int(r)].index for r in producer[0]], np.uint64)
    columns: dict[str, np.ndarray] = dict(zip(("layer", "neuron", "share"), producer[1:], strict=True))
    tally = {name: PerDocument.of(seen.units, x) for name, x in values.items()}
    tally["bias_constancy"] = PerDocument.of(seen.units, bias)
    return Tally({**tally, "producers": Rows(windows, columns, 10**7)})


@dataclass(frozen=True)
class _Edited:
    """The massive entries of each row at the first state that has any.

    Args:
        onset: that state of each row, 0 for none. entries: [row token d_model] at it. states: all states.
    """

    onset: np.ndarray
    entries: Tensor
    states: Tensor
    there: tuple[Tensor, ...]

    @classmethod
    def of(cls, seen: View, criterion: Criterion) -> _Edited:
        """Looked for from state 1 on: what a block put out."""
        states, mask = seen.states, seen.seen.batch.mask
        there = tuple(criterion.of(state, mask) for state in states)
        onset = np.zeros(len(mask), np.int64)
        entries = torch.zeros_like(there[0])
        for state in range(len(states) - 1, 0, -1):
            rows = there[state].any((1, 2))
            onset[rows.cpu().numpy()] = state
            entries[rows] = there[state][rows]
        return cls(onset, entries, states, there)

    @property
    def rows(self) -> np.ndarray:
        """Rows that have a massive entry."""
        return np.nonzero(self.onset)[0]

    def edits(self, seed: int) -> list[Edit]:
        """One edit for each onset, on the four copies of the rows."""
        found = []
        for state in sorted(set(self.onset[self.rows].tolist())):
            rows = torch.from_numpy(self.onset == state).to(self.entries.device)
            where = self.entries & rows[:, None, None]
            values = self.states[state]
            put = torch.stack([values, torch.where(where, 0.0, values), _meaned(values, where), values])
            other = _others(where, seed)
            put[3] = torch.where(other, 0.0, values)
            changed = torch.stack([torch.zeros_like(where), where, where, other])
            site = Site(state - 1, "resid_post")
            found.append(Edit(site, _putting(put.flatten(0, 1), changed.flatten(0, 1)), f"massive at {site}"))
        return found


def _putting(put: Tensor, where: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, _: torch.where(where, put.to(x), x)


def _meaned(values: Tensor, where: Tensor) -> Tensor:
    """Each massive entry replaced by the mean of its channel over the massive entries of all rows."""
    count = where.sum((0, 1)).clamp_min(1)
    means = torch.where(where, values, 0.0).sum((0, 1)) / count
    return torch.where(where, means, values)


def _others(where: Tensor, seed: int) -> Tensor:
    """As many channels of the same tokens, drawn among those that are not massive."""
    found = torch.zeros_like(where)
    draw = torch.Generator().manual_seed(seed)
    for row, token in where.any(-1).nonzero().tolist():
        order = torch.randperm(where.shape[-1], generator=draw).to(where.device)
        free = order[~where[row, token, order]]
        found[row, token, free[: int(where[row, token].sum())]] = True
    return found


@dataclass
class _Heads:
    """What heads do under every edit, reduced as each layer attends."""

    model: Model
    seen: View
    edited: _Edited
    layers: list[int] = field(default_factory=list[int])
    rest: list[Tensor] = field(default_factory=list[Tensor])
    wide: list[Tensor] = field(default_factory=list[Tensor])

    def __post_init__(self) -> None:
        rows, depth = self.seen.seen.batch.rows, self.model.anatomy.n_layers
        self.bias = np.full((rows, depth, 2), np.nan)
        self.waiting = iter(layers_with_heads(self.model.anatomy))

    def start(self, layer: int) -> None:
        """The replay begins at this layer."""
        self.waiting = (k for k in layers_with_heads(self.model.anatomy) if k >= layer)

    def keep(self, heads: Heads, _: Tensor | None) -> None:
        """One layer's rows, [edit x row, head, query, key]."""
        layer, rows = next(self.waiting), heads.rows()
        anatomy, batch = self.model.anatomy, self.seen.seen.batch
        window = anatomy.window_of_layer[layer]
        places = self.edited.entries.any(-1).repeat(len(EDITS), 1)
        alpha = key_attention(rows, window, anatomy.family.causal)
        rests = alpha.masked_fill(~places[:, None], 0.0).amax(-1) > RESTS
        mask = batch.mask.repeat(len(EDITS), 1)
        shape = pattern_statistics(rows, heads.queries, window, anatomy.family.causal, mask)["entropy_norm"]
        behind = torch.from_numpy(self.edited.onset).repeat(len(EDITS)) <= layer
        self.layers.append(layer)
        self.rest.append(rests.double().mean(1).cpu().where(behind, torch.nan))
        self.wide.append(shape.double().nanmean((1, 2)).cpu().where(behind, torch.nan))
        if window is None or window >= batch.length:
            self._constancy(layer, rows[: batch.rows], heads)

    def _constancy(self, layer: int, rows: Tensor, heads: Heads) -> None:
        """How constant what the clean rows draw from massive keys is, against as many others of the first half."""
        assert heads.value is not None
        count, half = len(rows), rows.shape[-1] // 2
        value = heads.value[:count].repeat_interleave(rows.shape[1] // heads.value.shape[1], 1)
        own = self.edited.there[layer].any(-1)
        early = torch.arange(rows.shape[-1], device=rows.device) < half
        keys = own & early & ~(own & ~early).any(-1, keepdim=True)
        later = (~early)[None].expand(count, -1) & self.seen.seen.batch.mask
        key = np.stack([
            self.seen.sampling_keys(torch.full((rows.shape[-1],), k), torch.arange(rows.shape[-1]))
            for k in range(count)
        ])  # fmt: skip
        order = torch.from_numpy(np.argsort(key, axis=1)).to(rows.device)
        among = early[None].expand(count, -1) & (torch.arange(rows.shape[-1], device=rows.device) > 0)
        for k, chosen in enumerate((keys, same_number(keys, among & ~own, order))):
            self.bias[:, layer, k] = bias_constancy(rows, value, chosen, later).nanmean(1).cpu().numpy()

    def resting(self) -> np.ndarray:
        """Share of heads behind the onset that rest on a massive position, [edit, row]."""
        return self._by_edit(self.rest)

    def spread(self) -> np.ndarray:
        """Mean normalised entropy of the rows behind the onset, [edit, row]."""
        return self._by_edit(self.wide)

    def _by_edit(self, found: list[Tensor]) -> np.ndarray:
        if not found:
            return np.full((len(EDITS), self.seen.seen.batch.rows), np.nan)
        return torch.stack(found).nanmean(0).reshape(len(EDITS), -1).numpy()


def _replayed(model: Model, seen: View, edited: _Edited, heads: _Heads) -> tuple[Tensor, Producer]:
    """Four copies of the rows resumed from the first onset: the last states, and which MLP neuron writes the entry."""
    start = int(edited.onset[edited.rows].min()) - 1
    onsets = sorted(set((edited.onset[edited.rows] - 1).tolist()))
    named = [k for k in onsets if (mlp := model.anatomy.layers[k].mlp) is not None and mlp.proj is not None]
    stream = edited.states[start].to(model.dtype).repeat(len(EDITS), 1, 1)
    queries = torch.arange(seen.seen.batch.length, device=model.device)
    heads.start(start)
    with listening(model, queries, heads.keep, values=True):
        again = replay(
            seen.seen,
            start,
            stream,
            edit=edited.edits(seen.seed),
            read=[Site(k, "mlp_hidden") for k in named],
        )
    end = again[Site(model.anatomy.n_layers - 1, "resid_post")]
    hidden = {k: again[Site(k, "mlp_hidden")] for k in named}
    return end, _producers(model, edited, hidden)


def _producers(model: Model, edited: _Edited, hidden: dict[int, Tensor]) -> Producer:
    """For each row: the layer before the onset, the neuron that adds most to its largest entry, and its share."""
    found: list[tuple[int, int, int, float]] = []
    for row in edited.rows.tolist():
        layer = int(edited.onset[row]) - 1
        if layer not in hidden:
            continue
        size = torch.where(edited.entries[row], edited.states[layer + 1][row].abs(), 0.0)
        token, channel = divmod(int(size.argmax()), size.shape[-1])
        parts = hidden[layer][row, token].double() * _weights(model, layer)[channel].double()
        neuron = int(parts.abs().argmax())
        found.append((row, layer, neuron, float(parts[neuron] / parts.sum())))
    columns = np.asarray(found, np.float64).reshape(-1, 4)
    return columns[:, 0].astype(np.int64), columns[:, 1], columns[:, 2], columns[:, 3]


def _weights(model: Model, layer: int) -> Tensor:
    """The MLP's last projection, [d_model d_mlp]."""
    mlp = model.anatomy.layers[layer].mlp
    assert mlp is not None
    assert mlp.proj is not None
    weight: Tensor = mlp.proj.weight.detach()  # pyright: ignore[reportAssignmentType, reportCallIssue]
    return weight if hasattr(mlp.proj, "in_features") else weight.T
