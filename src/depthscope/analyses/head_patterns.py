"""Head patterns: where each attention head looks.

Question: Does a head look at the previous token, at the first, at itself, nearby or everywhere?

Method: Attention rows are recomputed from queries and keys at every 16th query from position 1 on and
averaged over queries: entropy in nats, entropy_norm = entropy over the log of the number of visible keys,
distance in tokens, mass on the previous token, on the first, on itself, and on the nearest 8 and 32 keys
(the first token left out). No full attention map is ever held.

How to read: Sort the grid by a score. `first` near 1 is a head that rests on the sink; `previous` near 1 a
previous-token head; entropy_norm near 1 a head that averages over everything.

What misleads: Attention says where a head looks, not what it writes. Means over queries hide heads that act
rarely. In layers with a sliding window `first` counts only queries that can still see the first token. A
learned sink takes mass that is in no column.

Source: Clark et al. 2019 (arXiv 1906.04341); Xiao et al. 2024 (2309.17453).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import mean, part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.measures.patterns import pattern_statistics
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

UNITS = {
    "entropy": "nats",
    "entropy_norm": "1",
    "distance": "tokens",
    "previous": "probability",
    "first": "probability",
    "self": "probability",
    "local_8": "probability",
    "local_32": "probability",
}


@dataclass(frozen=True)
class HeadPatterns:
    """Pattern statistics of every attention head.

    Args:
        every_query: rows are taken at every n-th query from position 1 on.
    """

    every_query: int = 16

    def needs(self, anatomy: Anatomy) -> Needs:
        """Attention rows; refused where no layer has softmax attention."""
        if not anatomy.attention_layers:
            kinds = ", ".join(dict.fromkeys(anatomy.kind_of_layer))
            raise Refused(f"no layer has softmax attention heads (its layers are: {kinds})")
        return Needs(every_query=self.every_query)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Statistics of each row, [row x query, layer, head]."""
        del given
        anatomy = model.anatomy
        n_queries = len(seen.queries)
        table = {
            n: np.full((batch.rows * n_queries, anatomy.n_layers, anatomy.n_heads), np.nan) for n in UNITS
        }
        for layer in anatomy.attention_layers:
            rows = seen.pattern(layer)
            window = anatomy.window_of_layer[layer]
            scores = pattern_statistics(
                rows, seen.queries.to(rows.device), window, anatomy.family.causal, batch.mask
            )
            for name, values in scores.items():
                table[name][:, layer] = (
                    values.permute(0, 2, 1).reshape(-1, anatomy.n_heads).double().cpu().numpy()
                )
        units = [unit for unit in seen.units for _ in range(n_queries)]
        return Tally({name: PerDocument.of(units, values) for name, values in table.items()})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """One layer x head table a score."""
        axes = {"layer": np.arange(facts.n_layers), "head": np.arange(facts.n_heads)}
        note = "mean over queries from position 1 on"
        missing = "the layer has no attention heads, or no sampled query could see the key in question"
        found = [
            mean(part(total, name, PerDocument), name, axes, unit, facts, note, missing)
            for name, unit in UNITS.items()
        ]
        return Findings({m.name: m for m in found})
