"""Head composition: which earlier heads feed the induction heads.

Question: Whose writes do the induction heads match by, and is it the previous-token heads?

Method: For each of the k strongest induction heads the keys are computed anew without what one earlier head wrote,
with queries, all else of the keys and the sink as they were, and its mass on what followed is read again: key_drop
is the mass lost. One earlier head at a time; the stream before the reader's norm loses that head's exact write and
nothing besides, so effects through layers in between stay. key_composition is the same question to the weights,
|W_QKᵀ W_OV| over |W_QK| |W_OV| with the norm's gain folded in and without position encoding, and key_composition_z
how many standard deviations of heads with Gaussian weights it lies above their mean. previous_drop correlates
key_drop with the earlier heads' mass on the previous token, over all pairs.

How to read: The feeder of an induction head is the earlier head with the largest drop. A reader that no single head
feeds has drops near zero: several share the work. Where weights and drops rank alike, the weights are enough.

What misleads: Keys lose one head's direct write; a head that acts through a later one shows little. The weights know
no rotation of positions and no norm of single tokens: they are a heuristic. A reader with little mass to lose loses
little.

Source: Elhage et al. 2021 (A Mathematical Framework for Transformer Circuits); Olsson et al. 2022 (arXiv 2209.11895).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.attending import must_attend
from depthscope.engine.cell_sums import Cells
from depthscope.engine.chosen_heads import top
from depthscope.engine.measured import mean, part
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.view import View
from depthscope.errors import BadInput, Refused
from depthscope.materials.repeats import Repeats
from depthscope.measures.composition import composition, null_composition
from depthscope.measures.induction import repeat_scores
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.head_circuits import head_weights
from depthscope.runtime.head_writes import head_outputs, head_write
from depthscope.runtime.key_patch import rows_with_keys
from depthscope.runtime.model import Batch, Model

ABSENT = "the writer stands no earlier than the reader, or one of them has no heads, or its weights are not told apart"
"""Why a pair has no number."""


@dataclass(frozen=True)
class HeadComposition:
    """Feeders of the strongest induction heads.

    Args:
        readers: how many induction heads. length: tokens of the repeated block. examples: blocks. bos: see
            `materials.repeats`.
    """

    readers: int = 4
    length: int = 50
    examples: int = 4
    bos: str = "always"

    def needs(self, anatomy: Anatomy) -> Needs:
        """Recorded windows, behind the scores of induction heads and of patterns."""
        must_attend(anatomy)
        if not anatomy.family.causal:
            raise Refused("it is no causal language model: what comes again stands on both sides of a token")
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so its heads have no induction scores")
        if self.readers < 1 or self.length < 2:
            raise BadInput(
                f"readers={self.readers}, length={self.length}; 1 reader or more, 2 tokens or more"
            )
        sweep = SweepNeed((), (), 0, 1, replays=self.readers * anatomy.n_heads // 2)
        material = Repeats(self.length, 0, self.examples, self.bos)
        return Needs(sweeps=frozenset({sweep}), after=("head_patterns", "induction_heads"), material=material)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Drops of each example, and on the first shard what the weights say."""
        anatomy = model.anatomy
        readers = top(given["induction_heads"]["induction"].value, self.readers)
        found = Cells(seen.units, (self.readers, anatomy.n_layers, anatomy.n_heads))
        writes = head_outputs(model, batch)
        for layer in sorted({layer for layer, _ in readers}):
            mine = [(place, head) for place, (at, head) in enumerate(readers) if at == layer]
            for writer, drops in _drops(model, seen, writes, layer):
                for place, head in mine:
                    found.add("key_drop", drops[:, :, head], (place, writer))
        tally = found.tally()
        if 0 in seen.shard.windows:
            names = [1000 * layer + head for layer, head in readers]
            codes = np.full(self.readers, np.nan)
            codes[: len(names)] = names
            said = {"readers": codes, "previous": given["head_patterns"]["previous"].value}
            said["weights"] = _weights(model, readers, self.readers)
            one = {name: PerDocument.of(["weights"], values[None]) for name, values in said.items()}
            tally = tally.add(Tally(one))
        return tally

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Drops by reader and writer, the same of the weights, and whether previous-token heads are the feeders."""
        codes = part(total, "readers", PerDocument)
        known = codes.counts.sum(0) > 0
        names = [
            f"L{int(code) // 1000}H{int(code) % 1000}" if there else f"none {place}"
            for place, (code, there) in enumerate(zip(codes.sums.sum(0), known, strict=True))
        ]
        heads = {"layer": np.arange(facts.n_layers), "head": np.arange(facts.n_heads)}
        axes = {"other": np.array(names), **heads}
        shape = tuple(len(labels) for labels in axes.values())
        drop = total.get("key_drop")
        if not isinstance(drop, PerDocument):
            drop = PerDocument(("none",), np.zeros((1, *shape)), np.zeros((1, *shape), np.int64))
        note = "mass on what followed that the reader loses when its keys lack what the head wrote"
        found = [mean(drop, "key_drop", axes, "probability", facts, note, ABSENT)]
        weights = part(total, "weights", PerDocument)
        said = {"key_composition": "of the weights", "key_composition_z": "deviations above Gaussian weights"}
        for place, (name, words) in enumerate(said.items()):
            one = PerDocument(weights.units, weights.sums[:, place], weights.counts[:, place])
            found.append(mean(one, name, axes, "1", facts, words, ABSENT))
        previous = part(total, "previous", PerDocument)
        found.append(
            _agreement(found[0], previous, "previous_drop", "rank correlation of drop and previous mass")
        )
        found.append(_agreement(found[0], weights, "weights_drop", "rank correlation of drop and weights"))
        return Findings({m.name: m for m in found})


def _drops(
    model: Model, seen: View, outputs: Mapping[int, Tensor], layer: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(writing layer, lost mass [row, writing head, reading head]) for every layer before one."""
    anatomy, about = model.anatomy, seen.windows[0].about
    queries = torch.as_tensor(about["queries"][:-1])
    stream = seen.seen.states()[layer]
    rows = len(stream)

    def stripe(pattern: Tensor) -> Tensor:
        found = repeat_scores(
            pattern, queries, about["start"], about["length"], anatomy.window_of_layer[layer]
        )
        return torch.nanmean(found["induction"].double(), -1)

    clean = stripe(rows_with_keys(seen.seen, layer, stream, stream, queries))
    for writer, z in outputs.items():
        if writer < layer:
            write = head_write(model, writer, z).movedim(2, 0)
            without = (stream - write.to(stream)).reshape(-1, *stream.shape[1:])
            left = stripe(rows_with_keys(seen.seen, layer, stream, without, queries))
            drop = clean - left.reshape(-1, rows, clean.shape[1])
            yield writer, drop.movedim(0, 1).cpu().numpy()


def _weights(model: Model, readers: tuple[tuple[int, int], ...], most: int) -> np.ndarray:
    """[score, reader, layer, head]: composition of keys and its z-score; NaN where there is none."""
    anatomy = model.anatomy
    found = np.full((2, most, anatomy.n_layers, anatomy.n_heads), np.nan)
    for place, (layer, head) in enumerate(readers):
        for writer in range(layer):
            try:
                read, write = head_weights(model, layer), head_weights(model, writer)
            except Refused:
                continue
            outer, inner = (part[head : head + 1] for part in (read.query, read.key))
            one = composition(outer, inner, write.output, write.value)[0].double().cpu().numpy()
            widths = anatomy.d_model, inner.shape[1], write.value.shape[1]
            centre, spread = null_composition(*widths)
            found[:, place, writer] = one, (one - centre) / spread
    return found


def _agreement(drop: Measurement, other: PerDocument, name: str, note: str) -> Measurement:
    """Spearman correlation over all pairs of drop and another score of the writer."""
    from scipy.stats import spearmanr

    values = np.where(other.counts.sum(0) > 0, other.sums.sum(0), np.nan)
    values = values[0] if values.ndim == 4 else np.broadcast_to(values, drop.value.shape)
    both = np.isfinite(drop.value) & np.isfinite(values)
    if both.sum() < 3 or np.ptp(drop.value[both]) == 0 or np.ptp(values[both]) == 0:
        return Measurement(
            name, {}, np.asarray(np.nan), "1", note=note, missing="fewer than 3 different pairs"
        )
    rho = np.asarray(spearmanr(drop.value[both], values[both])[0])
    return Measurement(name, {}, rho, "1", n_items=np.asarray(int(both.sum())), note=note)
