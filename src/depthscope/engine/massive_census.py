"""Which entries of a text's states are massive, and what many texts say of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from depthscope.engine.measured import mean, part
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.engine.view import View
from depthscope.measures.sinks import massive, median_size, peak_score
from depthscope.results.measurement import Measurement, Table
from depthscope.runtime.model import Model

KEPT = 2000
"""Massive entries in the table of examples."""


@dataclass(frozen=True)
class Criterion:
    """An entry is massive above `magnitude` and from `ratio` times the median size of its text's state on."""

    magnitude: float
    ratio: float

    def of(self, state: Tensor, mask: Tensor) -> Bool[Tensor, "row token d_model"]:
        """Massive entries of one state."""
        return massive(state, mask, self.magnitude, self.ratio)


def census(model: Model, seen: View, criterion: Criterion) -> Tally:
    """One item a text and state: its largest entry, its median, whether and how many entries are massive."""
    mask, states = seen.seen.batch.mask, seen.states
    cells: dict[str, list[np.ndarray]] = {name: [] for name in _CELLS}
    tops: dict[str, list[np.ndarray]] = {name: [] for name in ("channel", "position", "value")}
    for state in states:
        real = torch.where(mask[..., None], state, 0.0)
        flat = real.abs().flatten(1)
        size, place = flat.max(1)
        median, there = median_size(state, mask), criterion.of(state, mask)
        values = (size, median, size / median, peak_score(state, mask), there.any((1, 2)), there.sum((1, 2)))
        for name, x in zip(_CELLS, values, strict=True):
            cells[name].append(x.double().cpu().numpy())
        width = state.shape[-1]
        top = (place % width, place // width, real.flatten(1).gather(1, place[:, None])[:, 0])
        for name, x in zip(tops, top, strict=True):
            tops[name].append(x.double().cpu().numpy())
    stacked = {name: np.stack(x, 1) for name, x in (cells | tops).items()}
    first = _first(stacked["massive_share"])
    parts = {name: PerDocument.of(seen.units, stacked[name]) for name in _CELLS}
    at_first = np.where(stacked["massive_share"] > 0, stacked["position"] == 0, np.nan)
    windows = np.asarray([w.index for w in seen.windows], np.uint64)
    columns = {name: stacked[name] for name in (*tops, "massive_share")}
    return Tally({
        **parts,
        "first_position_share": PerDocument.of(seen.units, at_first),
        "onset_share": PerDocument.of(seen.units, first),
        "tops": Rows(windows, columns, 10**7),
        "entries": _entries(model, seen, stacked),
    })  # fmt: skip


_CELLS = (
    "top_magnitude", "median_magnitude", "ratio", "log_score", "massive_share", "massive_entries",
)  # fmt: skip
UNITS = {
    "massive_share": "probability",
    "first_position_share": "probability",
    "onset_share": "probability",
}


def _first(there: np.ndarray) -> np.ndarray:
    """[row, state]: 1 at the first state that is massive."""
    found = np.zeros_like(there)
    rows = np.nonzero(there.any(1))[0]
    found[rows, there[rows].argmax(1)] = 1.0
    return found


def _entries(model: Model, seen: View, stacked: Mapping[str, np.ndarray]) -> Rows:
    """The largest entry of every text and state where it is massive, with its token."""
    rows, states = np.nonzero(stacked["massive_share"])
    positions = stacked["position"][rows, states].astype(np.int64)
    ids = seen.seen.batch.ids.cpu().numpy()[rows, positions]
    spelled = model.tokenizer.convert_ids_to_tokens([int(i) for i in ids]) if len(ids) else []
    columns = {
        "window": np.asarray([seen.windows[r].index for r in rows], np.int64),
        "state": states.astype(np.int64),
        "position": positions,
        "channel": stacked["channel"][rows, states].astype(np.int64),
        "value": stacked["value"][rows, states],
        "ratio": stacked["ratio"][rows, states],
        "token": np.asarray([str(t) for t in spelled], dtype="U24"),
    }
    keys = seen.sampling_keys(torch.from_numpy(rows), torch.from_numpy(states))
    return Rows(keys, columns, KEPT)


def census_findings(total: Tally, facts: Facts) -> tuple[list[Measurement], Table]:
    """Curves over states, the channel that is massive most often, how steady it is, and the table of entries."""
    by = {"state": np.arange(facts.n_layers + 1)}
    none = "no text has a massive entry at this state"
    names = (*_CELLS, "first_position_share", "onset_share")
    found = [
        mean(part(total, name, PerDocument), name, by, UNITS.get(name, "1"), facts, missing=none)
        for name in names
    ]
    found += _channels(part(total, "tops", Rows).columns, by, none)
    entries = part(total, "entries", Rows).columns
    return found, Table(dict(entries), "a row is the largest entry of a text at a state where it is massive")


def _channels(tops: Mapping[str, np.ndarray], by: Mapping[str, np.ndarray], none: str) -> list[Measurement]:
    """The channel most texts are massive in, its share of them, and the variation of its size over texts."""
    depth = len(by["state"])
    channel, share, variation, sign = (np.full(depth, np.nan) for _ in range(4))
    count = np.zeros(depth, np.int64)
    for state in range(depth):
        there = tops["massive_share"][:, state] > 0
        count[state] = there.sum()
        if not there.any():
            continue
        ids, often = np.unique(tops["channel"][there, state], return_counts=True)
        channel[state], share[state] = ids[often.argmax()], often.max() / there.sum()
        value = tops["value"][there & (tops["channel"][:, state] == channel[state]), state]
        variation[state], sign[state] = np.abs(value).std() / np.abs(value).mean(), np.sign(value.mean())
    said = {
        "massive_channel": (channel, "1", "the channel of the largest entry in most texts"),
        "channel_share": (
            share,
            "probability",
            "texts with a massive entry whose largest is in that channel",
        ),
        "variation": (variation, "1", "standard deviation over mean of that channel's size, over texts"),
        "sign": (sign, "1", "of that channel's mean"),
    }
    return [
        Measurement(name, by, value, unit, n=count, n_items=count, note=note, missing=none)
        for name, (value, unit, note) in said.items()
    ]
