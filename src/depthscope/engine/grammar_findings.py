"""From the picks of all heads to what they say: heads chosen on one half of the sentences, judged on the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from depthscope.engine.grammar_items import MODES, OFFSETS
from depthscope.engine.measured import difference, mean
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument
from depthscope.errors import EmptyMaterial
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings

HALF = "judged on the half of the sentences that the head was not chosen on"
ARCS = 12
"""Example dependencies shown of each relation."""


class NoItems(EmptyMaterial):
    """No dependency of the sentences can be asked for."""


@dataclass(frozen=True)
class Group:
    """The questions of one relation in one mode.

    Args:
        at: their rows. head: the best head on the tuning half, as a number layer * heads + head. offset: the number of
            the best offset over all of them.
    """

    relation: str
    mode: int
    at: np.ndarray
    head: int
    offset: int


Cells = Sequence[tuple[Group, tuple[int, ...]]]
Values = Callable[[Group, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class GrammarFindings:
    """All questions with the hits of all heads, and the groups that are large enough.

    Args:
        hits: [item, head], NaN where the layer has no heads. offsets: [item, offset]. test: True on the judged half.
    """

    columns: Mapping[str, np.ndarray]
    rests: PerDocument
    hits: np.ndarray
    offsets: np.ndarray
    test: np.ndarray
    groups: tuple[Group, ...]
    facts: Facts

    @classmethod
    def of(
        cls, columns: Mapping[str, np.ndarray], rests: PerDocument, facts: Facts, fewest: int
    ) -> GrammarFindings:
        """Choose the best head of each relation and mode that has `fewest` questions in both halves."""
        n = len(columns["unit"])
        known = ~np.isnan(columns["weight"].reshape(n, -1)[0])
        hits = np.where(known, columns["hit"].reshape(n, -1), np.nan).astype(np.float32)
        offsets, test = columns["offset"].astype(np.float32), columns["half"] == 1
        groups: list[Group] = []
        for relation in np.unique(columns["relation"]).tolist():
            for mode in range(len(MODES[facts.causal])):
                at = np.flatnonzero((columns["relation"] == relation) & (columns["mode"] == mode))
                tune = at[~test[at]]
                if min(len(tune), len(at) - len(tune)) >= fewest:
                    head = int(np.nanargmax(hits[tune].mean(0)))
                    # the rival is the best offset of all sentences: an offset chosen on few would be easy to beat
                    groups.append(Group(relation, mode, at, head, int(offsets[at].mean(0).argmax())))
        return cls(columns, rests, hits, offsets, test, tuple(groups), facts)

    def findings(self) -> Findings:
        """All measurements, the chosen heads as a table, and example dependencies."""
        found = [*self._relations(), *self._heads(), *self._parse()]
        notes = (
            () if self.groups else ("No relation has enough questions in both halves: read more sentences.",)
        )
        return Findings(
            {m.name: m for m in found}, {"heads": self._best_table(), "arcs": self._arcs()}, notes=notes
        )

    def _relations(self) -> list[Measurement]:
        """What the chosen head of each relation is worth."""
        axes = self._relation_axes()
        cells = [(g, self._cell(g, axes)) for g in self.groups]
        judged = [self._filled(axes, cells, values) for values in (self._own, self._offset, self._mass)]
        seen = self._filled(axes, cells, self._own, test=False)
        rest = self._filled(axes, cells, self._rest)
        few = "too few questions in a half of the sentences"
        n_heads = self.facts.n_heads
        places: dict[str, Callable[[Group], float]] = {
            "relation_layer": lambda g: g.head // n_heads,
            "relation_head": lambda g: g.head % n_heads,
            "relation_offset": lambda g: OFFSETS[self.facts.causal][g.offset],
        }
        return [
            mean(judged[0], "relation_accuracy", axes, "probability", self.facts, HALF, few),
            mean(seen, "relation_seen", axes, "probability", self.facts, "on the half it was chosen on", few),
            mean(judged[1], "relation_offset_accuracy", axes, "probability", self.facts, HALF, few),
            difference(judged[1], judged[0], "relation_gain", axes, "probability", self.facts, HALF, few),
            mean(judged[2], "relation_weight", axes, "probability", self.facts, "attention on the right word", few),
            mean(rest, "relation_sink_with", axes, "probability", self.facts, "words with this partner", few),
            self._sink_none(axes, cells, few),
            *(_numbers(name, axes, cells, of, few) for name, of in places.items()),
            self._accuracy(axes),
        ]  # fmt: skip

    def _relation_axes(self) -> dict[str, np.ndarray]:
        relations = sorted({g.relation for g in self.groups}) or ["none"]
        return {"relation": np.array(relations), "mode": np.array(MODES[self.facts.causal])}

    def _cell(self, group: Group, axes: Mapping[str, np.ndarray]) -> tuple[int, int]:
        return int(np.flatnonzero(axes["relation"] == group.relation)[0]), group.mode

    def _own(self, group: Group, at: np.ndarray) -> np.ndarray:
        return self.hits[at, group.head]

    def _offset(self, group: Group, at: np.ndarray) -> np.ndarray:
        return self.offsets[at, group.offset]

    def _mass(self, group: Group, at: np.ndarray) -> np.ndarray:
        return self.columns["weight"].reshape(len(self.hits), -1)[at, group.head]

    def _rest(self, group: Group, at: np.ndarray) -> np.ndarray:
        return self.columns["rest"].reshape(len(self.hits), -1)[at, group.head]

    def _filled(
        self, axes: Mapping[str, np.ndarray], cells: Cells, values: Values, test: bool = True
    ) -> PerDocument:  # fmt: skip
        """Per sentence the values of each group in its cell; the same units whatever the values."""
        units = self.columns["unit"][self.test == test]
        names = np.unique(units) if len(units) else np.array(["none"])
        shape = (len(names), *(len(labels) for labels in axes.values()))
        sums, counts = np.zeros(shape), np.zeros(shape, np.int64)
        for group, cell in cells:
            at = group.at[self.test[group.at] == test]
            found = np.asarray(values(group, at), np.float64)
            place = np.searchsorted(names, self.columns["unit"][at])
            np.add.at(sums[(slice(None), *cell)], place, found)
            np.add.at(counts[(slice(None), *cell)], place, 1)
        return PerDocument(tuple(map(str, names)), sums, counts)

    def _sink_none(self, axes: Mapping[str, np.ndarray], cells: Cells, few: str) -> Measurement:
        """Rests of the chosen head over all words but those with the partner: all minus those, sentence by sentence."""
        every = self.rests
        names = np.array(every.units)
        shape = (len(names), *(len(labels) for labels in axes.values()))
        sums, counts = np.zeros(shape), np.zeros(shape, np.int64)
        for group, cell in cells:
            head = np.unravel_index(group.head, every.sums.shape[1:])
            own = (slice(None), *cell)
            sums[own], counts[own] = every.sums[(slice(None), *head)], every.counts[(slice(None), *head)]
            place = np.searchsorted(names, self.columns["unit"][group.at])
            np.subtract.at(sums[own], place, self._rest(group, group.at).astype(np.float64))
            np.subtract.at(counts[own], place, 1)
        found = PerDocument(every.units, sums, np.maximum(counts, 0))
        return mean(
            found, "relation_sink_none", axes, "probability", self.facts, "words without this partner", few
        )

    def _accuracy(self, axes: Mapping[str, np.ndarray]) -> Measurement:
        """The share of right picks of every head, over all sentences."""
        layers, heads = self.facts.n_layers, self.facts.n_heads
        shape = (*(len(labels) for labels in axes.values()), layers, heads)
        value, n, items = np.full(shape, np.nan), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for group in self.groups:
            cell = self._cell(group, axes)
            value[cell] = self.hits[group.at].mean(0).reshape(layers, heads)
            n[cell] = len(np.unique(self.columns["unit"][group.at]))
            items[cell] = len(group.at)
        grid = {"layer": np.arange(layers), "head": np.arange(heads)}
        missing = "too few questions, or the layer has no heads"
        return Measurement(
            "accuracy", {**axes, **grid}, value, "probability", n=n, n_items=items,
            note="over all sentences; heads are not chosen here", missing=missing,
        )  # fmt: skip

    def chosen(self) -> np.ndarray:
        """For each head the number of the group with the largest gain over its offset on the tuning half, -1: none."""
        gains = np.full((max(1, len(self.groups)), self.hits.shape[1]), -np.inf)
        for k, group in enumerate(self.groups):
            tune = group.at[~self.test[group.at]]
            gains[k] = self.hits[tune].mean(0) - self.offsets[tune, group.offset].mean()
        known = np.isfinite(gains).any(0)
        return np.where(known, np.where(np.isfinite(gains), gains, -np.inf).argmax(0), -1)

    def _heads(self) -> list[Measurement]:
        """Each head with the relation that suits it best on the tuning half."""
        grid = {"layer": np.arange(self.facts.n_layers), "head": np.arange(self.facts.n_heads)}
        own, rival = self._by_head()
        few = "the layer has no heads, or no relation has enough questions"
        note = f"its best relation, {HALF}"
        return [
            mean(own, "best_accuracy", grid, "probability", self.facts, note, few),
            difference(rival, own, "gain", grid, "probability", self.facts, f"over the best offset; {note}", few),
            mean(
                self.rests, "sink_share", grid, "probability", self.facts, "words whose strongest key is a sink",
                "the layer has no heads",
            ),
        ]  # fmt: skip

    def _by_head(self) -> tuple[PerDocument, PerDocument]:
        names = np.unique(self.columns["unit"][self.test])
        names = names if len(names) else np.array(["none"])
        shape = (len(names), self.hits.shape[1])
        own, rival, counts = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
        chosen = self.chosen()
        for k, group in enumerate(self.groups):
            heads = np.flatnonzero(chosen == k)
            at = group.at[self.test[group.at]]
            place = np.searchsorted(names, self.columns["unit"][at])[:, None]
            np.add.at(own, (place, heads), self.hits[at][:, heads])
            np.add.at(rival, (place, heads), self.offsets[at, group.offset][:, None])
            np.add.at(counts, (place, heads), 1)
        size = (len(names), self.facts.n_layers, self.facts.n_heads)
        units = tuple(map(str, names))
        return tuple(PerDocument(units, s.reshape(size), counts.reshape(size)) for s in (own, rival))  # type: ignore[return-value]

    def parse_sums(self, relation: str = "") -> PerDocument:
        """Right picks of the chosen heads on the judged half, sentence by sentence: of all relations, or of one."""
        plain = [
            (g, ()) for g in self.groups if (g.relation == relation if relation else ":" not in g.relation)
        ]
        return self._filled({}, plain, self._own)

    def _parse(self) -> list[Measurement]:
        """The implicit parse: the chosen heads of all relations together, subtypes left out as they count already."""
        plain = [(g, ()) for g in self.groups if ":" not in g.relation]
        own, rival = (self._filled({}, plain, values) for values in (self._own, self._offset))
        every = np.concatenate([g.at for g, _ in plain]) if plain else np.arange(0)
        tune = every[~self.test[every]]
        single = int(np.nanargmax(self.hits[tune].mean(0))) if len(tune) else 0

        def of_single(_: Group, at: np.ndarray) -> np.ndarray:
            return self.hits[at, single]

        alone = self._filled({}, plain, of_single)
        few = "no relation has enough questions"
        layer, head = divmod(single, self.facts.n_heads)
        return [
            mean(own, "uas", {}, "probability", self.facts, f"relation known; {HALF}", few),
            mean(rival, "uas_offset", {}, "probability", self.facts, f"best offset of each relation; {HALF}", few),
            difference(rival, own, "uas_gain", {}, "probability", self.facts, HALF, few),
            mean(alone, "single_head_uas", {}, "probability", self.facts, f"layer {layer} head {head}; {HALF}", few),
        ]  # fmt: skip

    def _best_table(self) -> Table:
        """Every head with its best relation."""
        chosen, n_heads = self.chosen(), self.facts.n_heads
        modes = MODES[self.facts.causal]
        rows = [(k, self.groups[c]) for k, c in enumerate(chosen.tolist()) if c >= 0 and self.groups]
        return Table(
            {
                "layer": np.array([k // n_heads for k, _ in rows], np.int64),
                "head": np.array([k % n_heads for k, _ in rows], np.int64),
                "relation": np.array([g.relation for _, g in rows], dtype=str),
                "mode": np.array([modes[g.mode] for _, g in rows], dtype=str),
            },
            "each head with the relation in which it gains most on the tuning half",
        )

    def _arcs(self) -> Table:
        """The first questions of each relation with what its chosen head made of them."""
        picks = [(g, k) for g in self.groups for k in g.at[self.test[g.at]][:ARCS].tolist()]
        n_heads, modes = self.facts.n_heads, MODES[self.facts.causal]
        return Table(
            {
                "relation": np.array([g.relation for g, _ in picks], dtype=str),
                "mode": np.array([modes[g.mode] for g, _ in picks], dtype=str),
                "layer": np.array([g.head // n_heads for g, _ in picks], np.int64),
                "head": np.array([g.head % n_heads for g, _ in picks], np.int64),
                **{name: self.columns[name][[k for _, k in picks]] for name in ("unit", "word", "partner")},
                "right": np.array([self.hits[k, g.head] for g, k in picks], np.float64),
                "weight": np.array([float(self._mass(g, np.array([k]))[0]) for g, k in picks], np.float64),
            },
            "a word, its partner in the parse, and whether the chosen head picked it",
        )


def _numbers(
    name: str, axes: Mapping[str, np.ndarray], cells: Cells, of: Callable[[Group], float], few: str
) -> Measurement:
    value = np.full(tuple(len(labels) for labels in axes.values()), np.nan)
    for group, cell in cells:
        value[cell] = of(group)
    return Measurement(name, axes, value, "1", note="of the head or offset chosen", missing=few)
