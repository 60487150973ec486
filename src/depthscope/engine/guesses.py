"""Guesses: the top-1 token of every state at the decoded positions, and the frequency table they are sorted by.

Analyses that count guesses keep the ids themselves, one row a position. Buckets are looked up at the end, when the
whole text has been counted: so no earlier pass is needed to know which tokens are frequent, and one decode serves all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import part
from depthscope.engine.tally import Counts, Part, PerDocument, Rows, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.materials.data import data_path
from depthscope.materials.frequency import FrequencyTable, bucket_names
from depthscope.materials.spelling import special_ids
from depthscope.runtime.model import Batch, Model

ALL = 2**40
"""Rows are not capped: how many positions are decoded is planned before anything runs."""
OWN = "the text that was read"


@dataclass(frozen=True)
class Guesses:
    """The top-1 token of each state at each decoded position, in an order that does not depend on shards.

    Args:
        top: its id. target: the true next id, -1 where there is none. units: the independent unit of each position.
        table: the frequencies that buckets are made from.
    """

    top: Int[np.ndarray, "item state"]
    target: Int[np.ndarray, " item"]
    units: Shaped[np.ndarray, " item"]
    table: FrequencyTable

    @classmethod
    def of(cls, total: Tally, table: str) -> Guesses:
        """What the parts of `observed` add up to."""
        rows = part(total, "guesses", Rows).columns
        return cls(rows["top"].astype(np.int64), rows["target"], rows["unit"], _table(total, table))

    def kept(self, keep: Shaped[np.ndarray, " item"]) -> Guesses:
        """The guesses at some positions."""
        return Guesses(self.top[keep], self.target[keep], self.units[keep], self.table)

    def summed(self, place: Int[np.ndarray, "item state"], size: int, value: np.ndarray) -> PerDocument:
        """Sums and counts of finite values [item, state] by the cell 0..size-1 each falls in, [state, cell]."""
        names, unit = np.unique(self.units, return_inverse=True)
        sums = np.zeros((len(names), place.shape[1], size))
        counts = np.zeros(sums.shape, np.int64)
        where = (unit[:, None], np.arange(place.shape[1]), place)
        np.add.at(sums, where, value)
        np.add.at(counts, where, 1)
        return PerDocument(tuple(map(str, names)), sums, counts)


def usable(table: str, edges: Sequence[int], anatomy: Anatomy) -> None:
    """Nothing, where buckets can be made: edges rise, and `table` is "" or a table that can be this model's.

    Raises:
        Refused: when the table has more ids than the model. BadInput: when it is no table, there is none, or edges do
            not rise.
    """
    bucket_names(edges)
    if not table:
        return
    found = FrequencyTable.load(data_path(table))
    if len(found.counts) > anatomy.d_vocab:
        raise Refused(
            f"the frequency table {Path(table).name} has {len(found.counts)} ids, the model {anatomy.d_vocab}: it was "
            "counted with another tokenizer; count again with depthscope fit frequency"
        )


def observed(model: Model, batch: Batch, seen: View, table: str) -> Mapping[str, Part]:
    """One shard's guesses, and where no table is given the count of its text.

    Raises:
        Refused: when the table was counted with another tokenizer.
    """
    decoded = seen.decoded
    assert decoded.trace.top_ids is not None
    has_target, target = decoded.has_target.cpu().numpy(), decoded.targets.cpu().numpy()
    columns = {
        "top": decoded.trace.top_ids[..., 0].T.cpu().numpy().astype(np.int32),
        "target": np.where(has_target, target, -1),
        "unit": np.asarray(decoded.units, dtype=str),
    }
    rows = {"guesses": Rows(seen.sampling_keys(decoded.rows, decoded.positions), columns, ALL)}
    if table:
        FrequencyTable.load(data_path(table)).check(model.tokenizer)
        return rows
    ids = batch.ids.cpu().numpy()[batch.mask.cpu().numpy()]
    return {**rows, "text": Counts.of(ids[~np.isin(ids, special_ids(model.tokenizer))])}


def spelled(model: Model, ids: np.ndarray) -> Rows:
    """How each distinct id is spelled, one row an id; shards may repeat an id, always with the same row."""
    distinct = np.unique(ids)
    names = np.asarray([model.tokenizer.decode([int(k)]) for k in distinct], dtype=str)
    return Rows(distinct.astype(np.uint64), {"name": names}, ALL)


def spelling(rows: Rows) -> dict[int, str]:
    """Id -> text, of the rows of `spelled`."""
    return {int(k): str(name) for k, name in zip(rows.key, rows.columns["name"], strict=True)}


def _table(total: Tally, table: str) -> FrequencyTable:
    if table:
        return FrequencyTable.load(data_path(table))
    text = part(total, "text", Counts)
    counts = np.zeros(int(text.ids[-1]) + 1 if len(text.ids) else 1, np.int64)
    counts[text.ids] = text.counts
    return FrequencyTable(counts, "", OWN)
