"""Tallies: what shards contribute, in parts that add up. Folding in shard order gives the same bytes always.

Every part is a frozen bundle of numpy arrays with `add` (both operands stay as they are), `arrays` and `of_arrays`.
Sums are float64, counts int64. Rows keep the items with the smallest keys and Vectors all items by key, so that merging
is exact and does not depend on order.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np

from depthscope.errors import BadInput
from depthscope.store.atomic import write_bytes
from depthscope.store.totals import arrays_in

Arrays = dict[str, np.ndarray]
Own = TypeVar("Own", bound="Part")
WIDE = 64
"""Cells of a row from which rows are added whole."""


@runtime_checkable
class Part(Protocol):
    """One kind of sufficient statistic."""

    kind: ClassVar[str]

    def add(self: Own, other: Own) -> Own:
        """Both together."""
        ...

    def arrays(self) -> Arrays:
        """For the disk."""
        ...


def _plus(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # numpy makes a scalar of the sum of two arrays without axes
    return np.asarray(a + b)


@dataclass(frozen=True)
class Sum:
    """Sums and their count: mean = total / count."""

    total: np.ndarray
    count: np.ndarray
    kind: ClassVar[str] = "sum"

    def add(self, other: Sum) -> Sum:
        """Element-wise sums."""
        return Sum(_plus(self.total, other.total), _plus(self.count, other.count))

    def arrays(self) -> Arrays:
        """For the disk."""
        return {"total": np.asarray(self.total, np.float64), "count": np.asarray(self.count, np.int64)}


def _add_rows(total: np.ndarray, place: np.ndarray, rows: np.ndarray) -> None:
    """total[place[k]] += rows[k], one k after the other."""
    if rows.ndim == 1 or rows[:1].size < WIDE:
        np.add.at(total, place, rows)
        return
    # the same sums in the same order, some ten times as fast where a row is long
    for where, row in zip(place, rows, strict=True):
        total[where] += row


@dataclass(frozen=True)
class PerDocument:
    """Sums and counts of each unit (document), from which means and bootstrap intervals follow.

    Args:
        units: sorted names, one a row. sums: [unit, *cells]. counts: [unit, *cells], finite items only.
        excluded: items left out because they were not finite.
    """

    units: tuple[str, ...]
    sums: np.ndarray
    counts: np.ndarray
    excluded: int = 0
    kind: ClassVar[str] = "per_document"

    @classmethod
    def of(cls, units: Sequence[str], values: np.ndarray) -> PerDocument:
        """From one value (or row of cells) an item; items that are not finite are left out and counted.

        Args:
            units: the unit of each item. values: [item, *cells].
        """
        values = np.asarray(values, np.float64)
        if len(units) != len(values):
            raise BadInput(f"{len(units)} units were given for {len(values)} items")
        names, place = np.unique(np.asarray(units, dtype=str), return_inverse=True)
        fine = np.isfinite(values)
        sums = np.zeros((len(names), *values.shape[1:]))
        counts = np.zeros(sums.shape, np.int64)
        _add_rows(sums, place, np.where(fine, values, 0.0))
        _add_rows(counts, place, fine)
        return cls(tuple(map(str, names)), sums, counts, int((~fine).sum()))

    @classmethod
    def of_sums(cls, units: Sequence[str], sums: np.ndarray, counts: np.ndarray) -> PerDocument:
        """From sums and counts that are already taken, one row a (not necessarily distinct) unit."""
        names, place = np.unique(np.asarray(units, dtype=str), return_inverse=True)
        total = np.zeros((len(names), *sums.shape[1:]))
        number = np.zeros(total.shape, np.int64)
        widened = counts.reshape(counts.shape + (1,) * (sums.ndim - counts.ndim))
        _add_rows(total, place, sums)
        _add_rows(number, place, np.broadcast_to(widened, sums.shape))
        return cls(tuple(map(str, names)), total, number)

    def add(self, other: PerDocument) -> PerDocument:
        """Units of both, sums and counts of equal units added."""
        names = tuple(sorted(set(self.units) | set(other.units)))
        place = {name: k for k, name in enumerate(names)}
        sums = np.zeros((len(names), *self.sums.shape[1:]))
        counts = np.zeros(sums.shape, np.int64)
        for part in (self, other):
            rows = [place[name] for name in part.units]
            sums[rows] += part.sums
            counts[rows] += part.counts
        return PerDocument(names, sums, counts, self.excluded + other.excluded)

    def arrays(self) -> Arrays:
        """For the disk."""
        excluded = np.asarray(self.excluded, np.int64)
        return {
            "units": np.asarray(self.units, dtype=str),
            "sums": self.sums,
            "counts": self.counts,
            "excluded": excluded,
        }


@dataclass(frozen=True)
class Histogram:
    """Counts of bins, int64, [*cells, bin]."""

    counts: np.ndarray
    kind: ClassVar[str] = "histogram"

    def add(self, other: Histogram) -> Histogram:
        """Counts added."""
        return Histogram(self.counts + other.counts)

    def arrays(self) -> Arrays:
        """For the disk."""
        return {"counts": np.asarray(self.counts, np.int64)}


@dataclass(frozen=True)
class Counts:
    """How often each id occurred: a histogram over a large vocabulary of which most bins are empty.

    Args:
        ids: int64, ascending and distinct. counts: int64, one an id, all above 0.
    """

    ids: np.ndarray
    counts: np.ndarray
    kind: ClassVar[str] = "counts"

    @classmethod
    def of(cls, ids: np.ndarray) -> Counts:
        """Occurrences in an array of any shape."""
        return cls(*np.unique(np.asarray(ids, np.int64), return_counts=True))

    def add(self, other: Counts) -> Counts:
        """Counts of equal ids added."""
        ids, place = np.unique(np.concatenate([self.ids, other.ids]), return_inverse=True)
        counts = np.zeros(len(ids), np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return Counts(ids, counts)

    def arrays(self) -> Arrays:
        """For the disk."""
        return {"ids": np.asarray(self.ids, np.int64), "counts": np.asarray(self.counts, np.int64)}


@dataclass(frozen=True)
class Moments:
    """Count, sum and sum of squares of each channel, float64."""

    count: np.ndarray
    total: np.ndarray
    square: np.ndarray
    kind: ClassVar[str] = "moments"

    def add(self, other: Moments) -> Moments:
        """Element-wise sums."""
        return Moments(_plus(self.count, other.count), self.total + other.total, self.square + other.square)

    def arrays(self) -> Arrays:
        """For the disk."""
        return {"count": np.asarray(self.count, np.int64), "total": self.total, "square": self.square}


@dataclass(frozen=True)
class Gram:
    """Count, sum and sum of outer products, float64: covariance and its spectrum follow."""

    count: np.ndarray
    total: np.ndarray
    outer: np.ndarray
    kind: ClassVar[str] = "gram"

    def add(self, other: Gram) -> Gram:
        """Element-wise sums."""
        return Gram(_plus(self.count, other.count), self.total + other.total, self.outer + other.outer)

    def arrays(self) -> Arrays:
        """For the disk."""
        return {"count": np.asarray(self.count, np.int64), "total": self.total, "outer": self.outer}


@dataclass(frozen=True)
class Extremes:
    """Largest value of each cell and where it was: `place` holds (window, position)."""

    value: np.ndarray
    place: np.ndarray
    kind: ClassVar[str] = "extremes"

    def add(self, other: Extremes) -> Extremes:
        """The larger of both; of equal values the one at the earlier place."""
        earlier = [
            tuple(a) <= tuple(b)
            for a, b in zip(self.place.reshape(-1, 2), other.place.reshape(-1, 2), strict=True)
        ]
        first = np.asarray(earlier).reshape(self.value.shape)
        own = (self.value > other.value) | ((self.value == other.value) & first)
        return Extremes(
            np.where(own, self.value, other.value), np.where(own[..., None], self.place, other.place)
        )

    def arrays(self) -> Arrays:
        """For the disk."""
        return {"value": self.value, "place": np.asarray(self.place, np.int64)}


@dataclass(frozen=True)
class Top:
    """The largest values of each cell, largest first, with where each was.

    Args:
        value: [*cells, k], -inf where a cell had fewer. place: whole numbers of each, [*cells, k, number]; they order
            equal values. text: words of each, [*cells, k].
    """

    value: np.ndarray
    place: np.ndarray
    text: np.ndarray
    kind: ClassVar[str] = "top"

    def add(self, other: Top) -> Top:
        """The largest of both; of equal values the one at the earlier place."""
        value = np.concatenate([self.value, other.value], axis=-1)
        place = np.concatenate([self.place, other.place], axis=-2)
        text = np.concatenate([self.text, other.text], axis=-1)
        keys = [*np.moveaxis(place, -1, 0)[::-1], -value]
        order = np.lexsort(keys, axis=-1)[..., : self.value.shape[-1]]
        return Top(
            np.take_along_axis(value, order, -1),
            np.take_along_axis(place, order[..., None], -2),
            np.take_along_axis(text, order, -1),
        )

    def arrays(self) -> Arrays:
        """For the disk."""
        return {"value": self.value, "place": np.asarray(self.place, np.int64), "text": self.text}


@dataclass(frozen=True)
class Rows:
    """A bounded sample of rows: the `cap` smallest keys are kept, so merging is exact in any order.

    Args:
        key: uint64, one a row, unique (a hash of window and position). columns: equal first axis.
    """

    key: np.ndarray
    columns: Mapping[str, np.ndarray]
    cap: int
    kind: ClassVar[str] = "rows"

    def add(self, other: Rows) -> Rows:
        """The smallest keys of both."""
        key = np.concatenate([self.key, other.key])
        order = np.argsort(key, kind="stable")[: self.cap]
        joined = {name: np.concatenate([self.columns[name], other.columns[name]]) for name in self.columns}
        return Rows(key[order], {name: values[order] for name, values in joined.items()}, self.cap)

    def arrays(self) -> Arrays:
        """For the disk."""
        stored = {f"column.{name}": values for name, values in self.columns.items()}
        return {"key": self.key, "cap": np.asarray(self.cap, np.int64), **stored}


@dataclass(frozen=True)
class Vectors:
    """All vectors of items, by key. Adding only collects; they are put in the order of their keys when asked for.

    Args:
        chunks: (key uint64 [item], unit [item], values float32 [item, *cells]) of each addend.
    """

    chunks: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]
    kind: ClassVar[str] = "vectors"

    @classmethod
    def of(cls, keys: np.ndarray, units: Sequence[str], values: np.ndarray) -> Vectors:
        """One key, one unit and one array of cells an item. A key names an item: of equal keys the first stays.

        Raises:
            BadInput: when the numbers of items differ.
        """
        if not len(keys) == len(units) == len(values):
            raise BadInput(f"{len(keys)} keys and {len(units)} units were given for {len(values)} vectors")
        chunk = (np.asarray(keys, np.uint64), np.asarray(units, dtype=str), np.asarray(values, np.float32))
        return cls((chunk,))

    def add(self, other: Vectors) -> Vectors:
        """The items of both."""
        return Vectors(self.chunks + other.chunks)

    @cached_property
    def _merged(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        every = np.concatenate([key for key, _, _ in self.chunks])
        _, first = np.unique(every, return_index=True)
        return (
            every[first],
            np.concatenate([units for _, units, _ in self.chunks])[first],
            np.concatenate([values for _, _, values in self.chunks])[first],
        )

    @property
    def key(self) -> np.ndarray:
        """uint64, ascending and distinct."""
        return self._merged[0]

    @property
    def units(self) -> np.ndarray:
        """The unit of each item, in the order of `key`."""
        return self._merged[1]

    @property
    def values(self) -> np.ndarray:
        """float32 [item, *cells], in the order of `key`."""
        return self._merged[2]

    def arrays(self) -> Arrays:
        """For the disk."""
        return {"key": self.key, "units": self.units, "values": self.values}


PARTS: dict[str, type] = {
    c.kind: c for c in (Sum, PerDocument, Histogram, Counts, Moments, Gram, Extremes, Top, Rows, Vectors)
}
"""Kind -> class; what a stored tally can hold."""


@dataclass(frozen=True)
class Tally(Mapping[str, Part]):
    """Named parts. An empty tally is the neutral element: it adds nothing."""

    parts: Mapping[str, Part]

    def __getitem__(self, name: str) -> Part:
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def add(self, other: Tally) -> Tally:
        """Parts of equal names added; a part that only one side has is kept."""
        names = list(dict.fromkeys([*self.parts, *other.parts]))
        return Tally({name: _added(self.parts.get(name), other.parts.get(name)) for name in names})

    def save(self, path: Path) -> None:
        """Write atomically; equal tallies give equal bytes."""
        flat = {
            f"{name}/{part.kind}/{field}": a
            for name, part in self.parts.items()
            for field, a in part.arrays().items()
        }
        buffer = io.BytesIO()
        np.savez(buffer, **flat)  # pyright: ignore[reportArgumentType]
        write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Tally:
        """Read what `save` wrote.

        Raises:
            StoreError: the file is gone or damaged.
        """
        with arrays_in(path) as stored:
            found: dict[tuple[str, str], Arrays] = {}
            for name in stored.files:
                part, kind, field = name.rsplit("/", 2)
                found.setdefault((part, kind), {})[field] = stored[name]
        return cls({name: _rebuilt(kind, arrays) for (name, kind), arrays in found.items()})


def _added(a: Part | None, b: Part | None) -> Part:
    if a is None or b is None:
        found = a if b is None else b
        assert found is not None
        return found
    return a.add(b)


def _rebuilt(kind: str, arrays: Arrays) -> Part:
    if kind == "per_document":
        return PerDocument(
            tuple(map(str, arrays["units"])), arrays["sums"], arrays["counts"], int(arrays["excluded"])
        )
    if kind == "rows":
        columns = {
            name.removeprefix("column."): a for name, a in arrays.items() if name.startswith("column.")
        }
        return Rows(arrays["key"], columns, int(arrays["cap"]))
    if kind == "vectors":
        return Vectors(((arrays["key"], arrays["units"], arrays["values"]),))
    return PARTS[kind](**arrays)


def fold(tallies: Sequence[Tally]) -> Tally:
    """Add tallies in the given order."""
    total = Tally({})
    for each in tallies:
        total = total.add(each)
    return total
