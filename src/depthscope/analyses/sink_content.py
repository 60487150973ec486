"""Sink content: what the vectors of sink tokens hold.

Question: Do sink tokens hold their own position and word, as other tokens do, or something about the whole text?

Method: Documents with a label (domain, register) are read in windows behind one and the same first token. Three kinds
of tokens are compared: first, position 0; sink, later positions whose norm exceeds 4 times the window's median at some
state; normal, for each of those the nearest other token of the window. From their vectors at nine states, linear
probes (ridge, inputs standardised, penalty by left-out training items) read the position, the own word (the vector of
the token at state 0), and the document's label. Each kind is trained and judged on its own, on equally many tokens, in
three splits of 80 and 20 % of the documents. label_gap, own_gap and position_gap are sink minus normal.

How to read: A label_gap above zero says that sinks know more of the text than other tokens; an own_gap below zero that
they know less of themselves. In a causal model position 0 sees nothing but itself: first_spread must be 0 and its label
accuracy that of the largest label, label_majority. An encoder's first token may know everything.

What misleads: Sinks are found by their norm, which few tokens have: with few sinks every gap is wide. A probe that
fails says that a linear map of this many tokens does not find it, not that it is absent. Later sinks are mostly
punctuation, and punctuation differs between kinds of text.

Source: Darcet et al. 2024 (arXiv 2309.16588), section 2, probes of outlier tokens; the causal control is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.sink_probes import KINDS, probed
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.engine.view import View
from depthscope.materials.sink_documents import SinkDocuments
from depthscope.ranges import at_least, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

EIGHTHS = 8
POSITIONS = 2**16


@dataclass(frozen=True)
class SinkContent:
    """Probes of sinks and of other tokens.

    Args:
        source, documents, length: see `materials.sink_documents`. most: tokens of a kind that a probe reads at most.
    """

    source: str = ""
    documents: int = 0
    length: int = 64
    most: int = 1000

    def __post_init__(self) -> None:
        check_ranges(self, documents=at_least(0))
        check_ranges(self, length=at_least(16, what="tokens a window"), most=at_least(10, what="tokens"))

    def needs(self, anatomy: Anatomy) -> Needs:
        """All states of labelled documents."""
        del anatomy
        states = frozenset({"L0.resid_pre", "L*.resid_post"})
        return Needs(states, material=SinkDocuments(self.source, self.documents, self.length))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """The vectors of the tokens of each kind at nine states, and how far position 0 differs between windows."""
        del batch, given
        chosen = depths(model.anatomy.n_layers)
        picked = [(row, *pair) for row in range(len(seen.windows)) for pair in _picked(seen, row)]
        rows = torch.tensor([p[0] for p in picked])
        places = torch.tensor([p[1] for p in picked])
        vectors = seen.states[chosen][:, rows, places].transpose(0, 1).float().cpu().numpy()
        index = np.array([seen.windows[p[0]].index for p in picked], np.uint64)
        columns = {
            "vectors": vectors,
            "kind": np.array([p[2] for p in picked], np.int8),
            "position": np.array([p[1] for p in picked], np.int32),
            "label": np.array([seen.windows[p[0]].about["label"] for p in picked], dtype="U48"),
            "unit": np.asarray(seen.units, dtype=str)[rows.numpy()],
        }
        keys = index * np.uint64(POSITIONS) + np.array([p[1] for p in picked], np.uint64)
        starts = seen.states[chosen][:, :, 0].double().cpu().numpy()
        spread = np.abs(starts - starts[:, :1]).max((1, 2)) / np.maximum(np.abs(starts).max((1, 2)), 1e-300)
        return Tally({
            "tokens": Rows(keys, columns, 3 * self.most + 10**5),
            "spread": PerDocument.of([seen.units[0]], spread[None]),
        })  # fmt: skip

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Probes of each kind and state, and sinks minus others."""
        tokens, spread = part(total, "tokens", Rows), part(total, "spread", PerDocument)
        return probed(tokens.columns, spread, depths(facts.n_layers), facts, self.most)


def depths(n_layers: int) -> list[int]:
    """Nine states at equal distances, fewer in shallow models."""
    return sorted({round(k * n_layers / EIGHTHS) for k in range(EIGHTHS + 1)})


def _picked(seen: View, row: int) -> list[tuple[int, int]]:
    """(position, kind) of the first token, of every later sink, and of the nearest other token of each."""
    sinks = seen.sinks[row].cpu().numpy()
    later = [int(p) for p in np.flatnonzero(sinks) if p > 0]
    free = [p for p in range(1, len(sinks)) if not sinks[p]]
    found = [(0, KINDS.index("first"))]
    for place in later:
        if free:
            near = min(free, key=lambda p: (abs(p - place), p))
            free.remove(near)
            found += [(place, KINDS.index("sink")), (near, KINDS.index("normal"))]
    return found
