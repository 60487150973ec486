"""Head patterns: where each attention head looks.

Question: Does a head look at the previous token, at the first, at itself, nearby or everywhere?

Method: Attention rows are recomputed from queries and keys at every 16th query from position 1 on and
averaged over queries: entropy in nats, entropy_norm = entropy over the log of the number of visible keys,
distance in tokens (distance_nosink: sinks taken out, the rest scaled up), mass on the previous token, on the
first, on itself, and on the nearest 8, 32 and 128 keys (the first token left out); mass on start tokens,
separators, punctuation and line ends; far_mass, beyond the first 4 and the last 256 keys, in longer windows;
the mass at every offset, and the offset with most. Scores with `_weighted` count each key by the length of
what the head would write if it looked there alone, |W_O v|. kv_spread is the mean Jensen-Shannon divergence
of a head's rows from those of the heads that share its keys. No full attention map is ever held.

How to read: Sort the grid by a score. `first` near 1 is a head that rests on the sink; `previous` near 1 a
previous-token head; entropy_norm near 1 a head that averages over everything. `first` high and first_weighted
low is a head that rests where it adds little.

What misleads: Attention says where a head looks, not what it writes. Means over queries hide heads that act
rarely. In layers with a sliding window `first` counts only queries that can still see the first token, and
far_mass is 0 beyond the window by construction. A learned sink takes mass that is in no column.

Source: Clark et al. 2019 (arXiv 1906.04341); Kobayashi et al. 2020 (2004.10102), weights by value; Xiao et al.
2024 (2309.17453).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.attending import must_attend
from depthscope.engine.measured import mean, part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.pattern_scores import UNITS, LayerScores, Shapes, divergences
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.view import View
from depthscope.errors import BadInput
from depthscope.ranges import at_least, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

BY_KIND = {
    "next": "a causal head sees no next token, or the layer has no heads",
    "far_mass": "no query sees so many keys: read longer windows, such as --window 1024; or the layer has no heads",
    "kv_spread": "no head shares its keys with another, or the layer has no heads",
}


@dataclass(frozen=True)
class HeadPatterns:
    """Pattern statistics of every attention head.

    Args:
        every_query: rows are taken at every n-th query from position 1 on.
        stream: first and recent keys; far_mass is what lies beyond them.
        offsets: how many offsets the profile has.
        pairs: the divergence of every head from every other too (slow: heads squared).
    """

    every_query: int = 16
    stream: tuple[int, int] = (4, 256)
    offsets: int = 64
    pairs: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, every_query=at_least(1))
        if len(self.stream) != 2 or self.stream[0] < 0 or self.stream[1] < 1 or self.offsets < 1:
            raise BadInput(
                f"stream={self.stream}, offsets={self.offsets}; give 0 or more first and 1 or more recent keys, and at "
                "least 1 offset"
            )

    def needs(self, anatomy: Anatomy) -> Needs:
        """Attention rows and values; refused where no layer has softmax attention."""
        must_attend(anatomy, writing=True)
        return Needs(every_query=self.every_query, values=True)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Statistics of each row, [row x query, layer, head]; masses by offset summed over the queries of a row."""
        del given
        anatomy, n_queries = model.anatomy, len(seen.queries)
        shape = (anatomy.n_layers, anatomy.n_heads)
        table = {n: np.full((batch.rows * n_queries, *shape), np.nan) for n in UNITS}
        sums, counts = (np.zeros((batch.rows, *shape, self.offsets), kind) for kind in (np.float64, np.int64))
        scores = LayerScores(model, batch, seen, Shapes(self.stream, self.offsets))
        for layers in scores.groups():
            found, masses = scores.of(layers)
            stacked = torch.stack([found[name] for name in table]).movedim(-1, 2).flatten(1, 2)
            for name, values in zip(table, stacked.double().cpu().numpy(), strict=True):
                table[name][:, layers] = values
            sums[:, layers] = masses.double().nansum(3).cpu().numpy()
            counts[:, layers] = masses.isfinite().sum(3).cpu().numpy()
        units = [unit for unit in seen.units for _ in range(n_queries)]
        parts = {name: PerDocument.of(units, values) for name, values in table.items()}
        parts["offset_profile"] = PerDocument.of_sums(seen.units, sums, counts)
        if self.pairs:
            rows = [seen.pattern(k) if k in seen.seen.heads else torch.zeros(0) for k in range(shape[0])]
            parts["divergence"] = PerDocument.of(seen.units, divergences(rows, shape))
        return Tally(parts)

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """One layer x head table a score, the profile of offsets, and the offset with most mass."""
        axes = {"layer": np.arange(facts.n_layers), "head": np.arange(facts.n_heads)}
        note = "mean over queries from position 1 on"
        missing = "the layer has no attention heads, or no sampled query could see the key in question"
        found = [
            mean(part(total, name, PerDocument), name, axes, unit, facts, note, BY_KIND.get(name, missing))
            for name, unit in UNITS.items()
        ]
        found += _offsets(part(total, "offset_profile", PerDocument), axes, note, missing)
        if self.pairs:
            both = {**axes, "later_layer": axes["layer"], "other": axes["head"]}
            found.append(
                mean(part(total, "divergence", PerDocument), "divergence", both, "nats", facts, note, missing)
            )
        return Findings({m.name: m for m in found})


def _offsets(
    profile: PerDocument, axes: Mapping[str, np.ndarray], note: str, missing: str
) -> list[Measurement]:
    """Mass at every offset, over queries that have such a key; no intervals, the profile is for reading.

    The best one is among the offsets that half of the queries can see: at the far end of a short window a single query
    on the first token would be a head of its own.
    """
    sums, counts = profile.sums.sum(0), profile.counts.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where(counts > 0, sums / counts, np.nan)
    units = (profile.counts > 0).sum(0)
    none = np.isnan(value).all(-1)
    often = 2 * counts >= counts.max(-1, keepdims=True)
    best = np.where(none, 0, np.where(often, np.nan_to_num(value, nan=-1.0), -1.0).argmax(-1))
    most = np.take_along_axis(value, best[..., None], -1)[..., 0]
    n, n_items = (np.take_along_axis(x, best[..., None], -1)[..., 0] for x in (units, counts))
    by = {**axes, "offset": np.arange(value.shape[-1])}
    return [
        Measurement(
            "offset_profile", by, value, "probability", n=units, n_items=counts, note=note, missing=missing
        ),
        Measurement(
            "best_offset", axes, np.where(none, np.nan, best), "tokens", n=n, n_items=n_items, missing=missing
        ),
        Measurement("best_offset_mass", axes, most, "probability", n=n, n_items=n_items, missing=missing),
    ]
