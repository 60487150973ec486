"""Attention sinks: which keys swallow the attention of most heads.

Question: Do heads rest on the first token, in which layers, and does that need a start token or natural text?

Method: Attention rows of all queries of windows of T tokens give alpha_k, the mean attention that key k gets from the
queries that can see it. sink_share is the share of heads with alpha_k above a level (0.3 and 0.8), averaged over texts,
for every key but the last 8: theirs average few rows and are mostly attention to themselves. Natural text, random ids
and one id repeated are read, each with a start token in front and without. The sink set is every key with a sink_share
above a quarter at level 0.3; sink_mass is the attention of all queries from 1 on that goes to it, sink_mass_weighted
the same with each key counted by the length of what the head would write if it looked there alone, |W_O v_k|. In
layers with a sliding window only queries that can see a key count. learned_sink is what a learned sink without a key
takes.

How to read: sink_share at position 0 near 1 says that most heads rest on the first token. first_share by layer and head
says which. A gap in sink_by_layer is a layer whose heads do not rest there. sink_mass_weighted far below sink_mass says
that heads rest there because it adds little. A repeated token has no first position that a model with relative
positions could tell, so there sinks collapse.

What misleads: sink_share counts heads, not attention, and falls with T: compare equal T and levels only. A model that
needs its start token is broken without it. Attention to a sink is not importance.

Source: Gu et al. 2025 (arXiv 2410.10781); Xiao et al. 2024 (2309.17453); Barbero et al. 2025 (2504.02732), level 0.8.
The weights by value follow Kobayashi et al. 2020 (2004.10102); the sink set and the left-out tail are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.attending import must_attend
from depthscope.engine.measured import mean, part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.sink_findings import sink_set_findings
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.engine.view import View
from depthscope.materials.sink_texts import KINDS, STARTS, SinkTexts
from depthscope.measures.pattern_masses import weighted
from depthscope.measures.sinks import key_attention, share_above
from depthscope.ranges import above, check_ranges
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings, Result
from depthscope.runtime.head_writes import layers_with_heads, value_norms
from depthscope.runtime.model import Batch, Model

TAIL = 8
"""Last positions that are no candidates for a sink."""
IN_SET = 0.25
"""Share of heads from which on a key belongs to the sink set."""


@dataclass(frozen=True)
class AttentionSinks:
    """Sinks of natural, random and repeated text, with and without a start token.

    Args:
        source, texts, controls, length: see `materials.sink_texts.SinkTexts`.
        levels: mean attention above which a head rests on a key; the sink set is that of the first.
    """

    source: str = ""
    texts: int = 100
    controls: int = 24
    length: int = 64
    levels: tuple[float, ...] = (0.3, 0.8)

    def __post_init__(self) -> None:
        self._material()
        check_ranges(self, levels=above(0, below=1, what="mean attention"))

    def _material(self) -> SinkTexts:
        return SinkTexts(self.source, self.texts, self.controls, self.length)

    def needs(self, anatomy: Anatomy) -> Needs:
        """Attention rows of all queries, and the values; refused where no layer has softmax attention."""
        must_attend(anatomy, writing=True)
        return Needs(own_queries=True, values=True, material=self._material())

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Per text: alpha of every key by layer and head, and what each key takes, plain and by its value."""
        del given
        found = _Observed.of(model, batch, seen)
        cells = [(KINDS.index(w.about["kind"]), STARTS.index(w.about["start"])) for w in seen.windows]
        kept = batch.length - TAIL
        by_level = np.stack([found.share(level)[:, :, :kept] for level in self.levels], 1)
        with np.errstate(invalid="ignore"):
            shares = np.nanmean(by_level, 2)
        values = {
            "sink_share": shares,
            "sink_by_layer": by_level[..., 0],
            "first_share": found.alpha[..., 0],
            "taken": found.taken[..., :kept],
            "weighed": found.weighed[..., :kept],
            "learned_sink": found.learned,
        }
        tally = {name: PerDocument.of(seen.units, _spread(x, cells)) for name, x in values.items()}
        about = [w.about for w in seen.windows]
        # the first level decides which positions are worth a row in the table of examples
        return Tally({**tally, "sinks": _sinks(model, batch, seen, shares[:, 0], about)})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Shares of heads by key and by layer, what each head gives the first key, and the mass on the sink set."""
        inputs: dict[str, np.ndarray] = {"source": np.asarray(KINDS), "mode": np.asarray(STARTS)}
        levels = {"level": np.asarray(self.levels)}
        layers, heads = {"layer": np.arange(facts.n_layers)}, {"head": np.arange(facts.n_heads)}
        shares = part(total, "sink_share", PerDocument)
        positions = {"position": np.arange(shares.sums.shape[-1])}
        note = f"windows of {self.length} tokens; the last {TAIL} positions are left out"
        none = "no such text was read, or the layer has no attention heads"
        axes = {
            "sink_share": {**inputs, **levels, **positions},
            "sink_by_layer": {**inputs, **levels, **layers},
            "first_share_by_input": {**inputs, **layers, **heads},
            "learned_sink": {**inputs, **layers, **heads},
        }
        parts = {name: part(total, name.removesuffix("_by_input"), PerDocument) for name in axes}
        found = [mean(parts[n], n, axes[n], "probability", facts, note, none) for n in axes]
        found.append(_as_read(parts["first_share_by_input"], facts, note))
        taken, weighed = (part(total, n, PerDocument) for n in ("taken", "weighed"))
        sets = np.nan_to_num(found[0].value[:, :, 0]) > IN_SET
        found += sink_set_findings(taken, weighed, sets, {**inputs, **layers}, facts)
        table = part(total, "sinks", Rows)
        return Findings({m.name: m for m in found}, {"sinks": Table(dict(table.columns))})


@dataclass(frozen=True)
class _Observed:
    """What one shard showed. alpha, taken, weighed: [row, layer, (head,) key]; learned [row, layer, head]."""

    alpha: np.ndarray
    taken: np.ndarray
    weighed: np.ndarray
    learned: np.ndarray

    @classmethod
    def of(cls, model: Model, batch: Batch, seen: View) -> _Observed:
        """Layer by layer; layers without heads stay NaN."""
        anatomy = model.anatomy
        rows, depth, heads, length = batch.rows, anatomy.n_layers, anatomy.n_heads, batch.length
        alpha = np.full((rows, depth, heads, length), np.nan)
        taken, weighed = (np.full((rows, depth, length), np.nan) for _ in range(2))
        learned = np.full((rows, depth, heads), np.nan)
        for layer in layers_with_heads(anatomy):
            pattern, value = seen.pattern(layer), seen.seen.heads[layer].value
            assert value is not None
            window = anatomy.window_of_layer[layer]
            alpha[:, layer] = _numbers(key_attention(pattern, window, anatomy.family.causal))
            later = pattern[:, :, 1:]
            taken[:, layer] = _numbers(later.mean((1, 2)))
            # a row that looks at zero values only weighs nothing
            norms = value_norms(model, layer, value)
            weighed[:, layer] = _numbers(weighted(later, norms).nanmean(2).nanmean(1))
            learned[:, layer] = _numbers(1 - later.sum(-1).mean(-1))
        return cls(alpha, taken, weighed, learned)

    def share(self, level: float) -> np.ndarray:
        """Share of heads of each layer above a level, [row, layer, key]; NaN in layers without heads."""
        above = _numbers(share_above(torch.from_numpy(self.alpha), level))
        return np.where(np.isnan(self.alpha).all(2), np.nan, above)


def _numbers(x: Tensor) -> np.ndarray:
    return x.detach().double().cpu().numpy()


def _spread(values: np.ndarray, cells: list[tuple[int, int]]) -> np.ndarray:
    """[row, ...] -> [row, source, mode, ...]: a text fills the cell of its kind and start."""
    found = np.full((len(values), len(KINDS), len(STARTS), *values.shape[1:]), np.nan)
    for row, (kind, start) in enumerate(cells):
        found[row, kind, start] = values[row]
    return found


def _as_read(first: PerDocument, facts: Facts, note: str) -> Measurement:
    """What the first key of natural text gets, by layer and head; with a start token where there is one."""
    with_start = first.counts[:, 0, 0].sum() > 0
    kept = 0 if with_start else 1
    own = PerDocument(first.units, first.sums[:, 0, kept], first.counts[:, 0, kept])
    axes = {"layer": np.arange(facts.n_layers), "head": np.arange(facts.n_heads)}
    words = "natural text " + ("with a start token" if with_start else "without a start token")
    return mean(
        own, "first_share", axes, "probability", facts, f"{words}; {note}", "the layer has no attention heads"
    )


def _sinks(
    model: Model, batch: Batch, seen: View, shares: np.ndarray, about: list[Mapping[str, str]]
) -> Rows:
    """The keys of this shard that more than a quarter of the heads rest on, with their tokens and norms."""
    rows, positions = np.nonzero(np.nan_to_num(shares) > IN_SET)
    norms = seen.norms.amax(0).cpu().double().numpy()
    ids = batch.ids.cpu().numpy()
    tokens = (
        model.tokenizer.convert_ids_to_tokens([int(i) for i in ids[rows, positions]]) if len(rows) else []
    )
    columns = {
        "source": np.asarray([about[r]["kind"] for r in rows], dtype="U8"),
        "mode": np.asarray([about[r]["start"] for r in rows], dtype="U8"),
        "window": np.asarray([seen.windows[r].index for r in rows], np.int64),
        "position": positions.astype(np.int64),
        "token": np.asarray([str(t) for t in tokens], dtype="U24"),
        "share": shares[rows, positions],
        "norm": norms[rows, positions],
    }
    keys = seen.sampling_keys(torch.from_numpy(rows), torch.from_numpy(positions))
    return Rows(keys, columns, 400)
