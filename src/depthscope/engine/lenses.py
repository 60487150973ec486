"""Several lenses side by side: the same few positions, the same classes of tokens, one decode a lens.

Analyses that compare lenses read through here, so that two of them share the decodes of a shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.guesses import OWN, usable
from depthscope.engine.needs import Needs
from depthscope.engine.shard import sampled
from depthscope.engine.tally import Rows
from depthscope.engine.view import Decoded, View
from depthscope.errors import BadInput, Refused
from depthscope.materials.data import data_path
from depthscope.materials.frequency import Buckets, FrequencyTable, vocabulary
from depthscope.materials.spelling import special_ids
from depthscope.runtime.head import Decode
from depthscope.runtime.lens import LOGIT, Lens
from depthscope.runtime.model import Model

MANY = 2**40
"""Rows are not capped: there is one a lens and shard."""


@dataclass(frozen=True)
class Compared:
    """One shard through every lens.

    Args:
        lenses: the logit lens first, then the others in the order given.
        decoded: the same positions through each. table, buckets: the frequencies of tokens, and their classes.
    """

    lenses: tuple[Lens, ...]
    decoded: tuple[Decoded, ...]
    table: FrequencyTable
    buckets: Buckets

    @property
    def units(self) -> tuple[str, ...]:
        """The independent unit of each position."""
        return self.decoded[0].units

    def items(self, name: str) -> Float[np.ndarray, "item lens state *cells"]:
        """A reduction of the trace through every lens."""
        parts = [getattr(d.trace, name).double().movedim(0, 1).cpu().numpy() for d in self.decoded]
        return np.stack(parts, 1)

    def probabilities(self, view: View, ids: Int[np.ndarray, " id"]) -> Float[np.ndarray, "lens state id"]:
        """Summed over positions, the probability of each of some ids; one state at a time, so memory stays small."""
        head, chosen = view.seen.model.head, torch.as_tensor(ids, device=view.seen.model.device)
        found = np.zeros((len(self.lenses), view.states.shape[0], len(ids)))
        for k, (lens, decoded) in enumerate(zip(self.lenses, self.decoded, strict=True)):
            states = view.states[:, decoded.rows, decoded.positions]
            for s, state in enumerate(states):
                log_p = head.logits(lens.at(s, state), chosen) - decoded.trace.logsumexp[s][:, None]
                found[k, s] = log_p.double().exp().sum(0).cpu().numpy()
        return found


def readable(anatomy: Anatomy, table: str, edges: Sequence[int]) -> Needs:
    """What analyses that compare lenses read: the states, which they decode themselves at positions of their own.

    Raises:
        Refused: without an unembedding, or with a frequency table of another vocabulary. What `usable` raises.
    """
    if not anatomy.has_unembedding():
        raise Refused("it has no unembedding, so no lens can be read out")
    usable(table, edges, anatomy)
    return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}))


def compared(model: Model, view: View, positions: int, table: str, edges: Sequence[int]) -> Compared | None:
    """What the shard shows through the logit lens and every lens of the run, at the first of the decoded positions.

    None where none of these positions is in the shard.

    Args:
        positions: over the whole text; the same ones that every analysis decodes first.
        table: path of a frequency table; "" counts the whole text. edges: last rank of each bucket but the last.

    Raises:
        Refused: when the table is of another tokenizer.
    """
    key = ("compared", positions, table, tuple(edges))
    if key not in view.kept:
        pairs = first(view, positions)
        view.kept[key] = _compared(model, view, pairs, table, edges) if len(pairs) else None
    return view.kept[key]


def _compared(model: Model, view: View, pairs: Tensor, table: str, edges: Sequence[int]) -> Compared:
    counted = frequencies(model, view, table)
    buckets = counted.buckets(edges)
    wanted = Decode(top_k=5, entropy=True, kl=True, target=True, final_rank=True, groups=_sets(buckets))
    lenses = beside_logit(view.lenses)
    return Compared(lenses, tuple(view.decode(pairs, wanted, lens=lens) for lens in lenses), counted, buckets)


def beside_logit(lenses: Sequence[Lens]) -> tuple[Lens, ...]:
    """The logit lens, whether given or not, then the others.

    Raises:
        BadInput: when a fitted lens has the logit lens's name.
    """
    others = tuple(lens for lens in lenses if lens.weight is not None)
    if any(lens.name == LOGIT.name for lens in others):
        raise BadInput(
            f"a fitted lens is called {LOGIT.name!r}, as the logit lens beside it is; give it another name"
        )
    return (LOGIT, *others)


def first(view: View, positions: int) -> Int[Tensor, "item 2"]:
    """The (row, position) pairs of this shard that are among the first n sampled positions of the whole text."""
    assert view.whole is not None
    chosen = sampled(view.whole, positions, view.seed)
    pairs = [(row, int(p)) for row, w in enumerate(view.shard.windows) for p in chosen.get(w, ())]
    return torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)


def frequencies(model: Model, view: View, table: str) -> FrequencyTable:
    """A stored table, or the counts of the whole text, special ids left out.

    Raises:
        Refused: when the stored table is of another tokenizer. EmptyMaterial: when the text has special ids only.
    """
    if table:
        found = FrequencyTable.load(data_path(table))
        found.check(model.tokenizer)
        return found
    assert view.whole is not None
    digest, size = vocabulary(model.tokenizer)
    found = view.whole.occurrences
    counts = np.pad(found, (0, max(0, size - len(found))))
    counts[[k for k in special_ids(model.tokenizer) if k < len(counts)]] = 0
    return FrequencyTable(counts, digest, OWN)


def _sets(buckets: Buckets) -> tuple[tuple[int, ...], ...]:
    """The ids of every bucket but the last, whose mass is what is left."""
    return tuple(tuple(np.flatnonzero(buckets.place == k).tolist()) for k in range(len(buckets.names) - 1))


def with_rest(mass: Float[np.ndarray, "*cells group"]) -> Float[np.ndarray, "*cells bucket"]:
    """Masses of all buckets but the last, with that of the last."""
    return np.concatenate([mass, np.maximum(1 - mass.sum(-1, keepdims=True), 0)], -1)


# ------------------------------------------------------------------------------------------------ what lenses are


def cards(view: View, lenses: Sequence[Lens]) -> Rows:
    """One row a lens: its name, and whether it was fitted on the text that is read ("same", "source", or "")."""
    columns = {
        "name": np.asarray([lens.name for lens in lenses], dtype=str),
        "fitted_on": np.asarray([_overlap(view, lens) for lens in lenses], dtype=str),
    }
    return Rows(np.arange(len(lenses)).astype(np.uint64), columns, MANY)


def names(found: Rows) -> tuple[str, ...]:
    """Names of the lenses in order; shards repeat them."""
    return tuple(str(found.columns["name"][k]) for k in _once(found))


def overlaps(found: Rows) -> tuple[str, ...]:
    """Sentences about lenses that know the text."""
    said = {
        "same": "The lens `{}` was fitted on this very text; its numbers here are not those of held-out text.",
        "source": "The lens `{}` was fitted on text of the same name; look whether it is the same text.",
    }
    kinds = {str(found.columns["name"][k]): str(found.columns["fitted_on"][k]) for k in _once(found)}
    return tuple(said[kind].format(name) for name, kind in kinds.items() if kind)


def _once(found: Rows) -> list[int]:
    _, place = np.unique(found.key, return_index=True)
    return place.tolist()


def _overlap(view: View, lens: Lens) -> str:
    data = lens.about.get("data")
    if view.whole is None or not isinstance(data, Mapping):
        return ""
    if data.get("hash") == view.whole.hash:
        return "same"
    return "source" if data.get("source") == view.whole.source else ""
