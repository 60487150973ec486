"""Residual contribution: how much each layer changes the stream.

Question: How large is what attention, the MLP and the whole block add, relative to the stream they read,
and does it strengthen, leave or erase what is there?

Method: Per token and layer, attention_relative_norm = |a| / |h|, mlp_relative_norm = |m| / |h + a| (|h| in
parallel blocks), block_relative_norm = |h' - h| / |h|, with a and m the tensors that are ADDED (after post-
norms and scales), and the cosines of each write with the stream it is added to. Means of per-token ratios
over positions that are no sinks (position 0 and massive positions left out, see `sinks`); beside them medians
and percentiles, norm_ratio = mean |w| / mean |h|, and both kinds with sinks left out, included, and alone
(`_by_sinks`). growth = (|h'|^2 - |h|^2) / |h|^2 is the sum of parallel_gain = 2 <c, h> / |h|^2 and
orthogonal_energy = |c|^2 / |h|^2, c = h' - h, each a ratio of sums. A write erases where its cosine is below
-t, strengthens above t, and is new between them, t = max(0.05, 3 / sqrt(d)): mode_share counts tokens, mode is
the class of the mean cosine. cosine_crossing is the last layer after which the mean of the three cosine
curves rises through zero. norm_change_layer is where the logarithm of block_relative_norm changes level,
over layers 2 to L - 2, accepted if two levels beat one (permutation p < 0.05) and fit better than a straight
line. `attention` is the token mixer of the layer, whatever its kind.

How to read: Ratios well below 1 mean small steps on a large stream. A cosine near 0 writes something new,
above 0 strengthens, below 0 erases. A drop of the ratios in the second half, if there is one, is the sign
of depth used less: norm_change_ratio below 1. "None found" is an answer: small models often have no such change.

What misleads: The first layer's ratio is huge because embeddings are small; leave it and the last out of
summaries. With sinks included one layer can look ten times as large as it is. Cosine is weak evidence about
features that overlap in few dimensions. Layers are not exchangeable, so the permutation p is too small where
neighbours are alike. Largest values grow with the number of positions.

Source: Csordas, Manning and Potts 2025, Do Language Models Use Their Depth Efficiently? (arXiv 2505.13898),
section 3; Hu et al. 2025 (arXiv 2512.14064) for the crossing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import Axes, layers, mean, part, ratio
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import Extremes, PerDocument, Rows, Tally
from depthscope.engine.transitions import cosine_crossing, norm_change
from depthscope.engine.view import View
from depthscope.engine.written import WRITERS, summed, written
from depthscope.errors import BadInput
from depthscope.measures.quantiles import bootstrap_quantiles
from depthscope.measures.residual import Against
from depthscope.measures.transitions import resampled
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

SINKS = ("exclude", "include", "only")
MODES = ("erase", "write", "strengthen")
SHARES = {"p10": 0.1, "median": 0.5, "p90": 0.9}
DRAWS = 1000


@dataclass(frozen=True)
class ResidualContribution:
    """Sizes and angles of each layer's writes.

    Args:
        sinks: what every measurement but the `_by_sinks` ones counts: "exclude" leaves position 0 and massive
            positions out, "include" counts all positions, "only" counts just the sinks.
        sample: positions kept for medians and percentiles.
    """

    sinks: str = "exclude"
    sample: int = 2048

    def __post_init__(self) -> None:
        if self.sinks not in SINKS:
            raise BadInput(f"sinks={self.sinks!r}; it is one of {', '.join(SINKS)}")
        if self.sample < 1:
            raise BadInput(f"sample={self.sample}; at least one position is needed for a median")

    def needs(self, anatomy: Anatomy) -> Needs:
        """States and every write; post-norm blocks have no additive writes, their states suffice."""
        writes = () if anatomy.family.post_norm else anatomy.write_parts()
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post", *(f"L*.{p}" for p in writes)}))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Sums by row, the largest values, and a sample of positions."""
        del given
        found = written(model.anatomy, seen)
        ratios, cosines = found.ratio(), found.cosine()
        kept = {"exclude": seen.plain, "include": batch.mask, "only": batch.mask & seen.sinks}
        chosen = kept[self.sinks]
        border = threshold(model.anatomy.d_model)
        classes = [cosines < -border, cosines.abs() <= border, cosines > border]
        shares = torch.where(
            cosines.isnan()[:, :, None], torch.nan, torch.stack(classes, 2).to(cosines.dtype)
        )
        return Tally({
            **{f"ratio_{name}": summed(ratios, at, seen.units) for name, at in kept.items()},
            **{f"cosine_{name}": summed(cosines, at, seen.units) for name, at in kept.items()},
            "size": summed(found.size, chosen, seen.units),
            "stream": summed(found.stream, chosen, seen.units),
            "mode": summed(shares, chosen, seen.units),
            **{name: summed(v, chosen, seen.units) for name, v in _growth(found, seen.norms).items()},
            "rows": self._rows(seen, chosen, ratios, cosines),
            "largest": _largest(seen, chosen, torch.stack([ratios, found.size])),
        })  # fmt: skip

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Curves over layers for each writer, and where they change over."""
        ratios, cosines = (part(total, f"{name}_{self.sinks}", PerDocument) for name in ("ratio", "cosine"))
        found = [
            *_curves(ratios, "relative_norm", facts, self.sinks),
            *_curves(cosines, "cosine", facts, self.sinks),
            _by_sinks(total, "ratio", "relative_norm", facts),
            _by_sinks(total, "cosine", "cosine", facts),
            *_quantiles(part(total, "rows", Rows), facts, self.sinks),
            *_sizes(total, facts, self.sinks),
            *_changes(total, facts, self.sinks),
            *_modes(part(total, "mode", PerDocument), cosines, facts, self.sinks),
            *cosine_crossing(cosines, facts),
            *norm_change(_of(ratios, "block"), facts),
        ]
        return Findings({m.name: m for m in found})

    def _rows(self, seen: View, chosen: Tensor, ratios: Tensor, cosines: Tensor) -> Rows:
        rows, positions = chosen.nonzero(as_tuple=True)
        keys = seen.sampling_keys(rows, positions)
        first = np.argsort(keys, kind="stable")[: self.sample]
        at = torch.from_numpy(first).to(rows.device)
        columns = {
            name: values[..., rows[at], positions[at]].permute(2, 0, 1).float().cpu().numpy()
            for name, values in (("ratio", ratios), ("cosine", cosines))
        }
        columns["unit"] = np.asarray(seen.units, dtype=str)[rows[at].cpu().numpy()]
        return Rows(keys[first], columns, self.sample)


def threshold(d_model: int) -> float:
    """Below this absolute cosine a write counts as new: three deviations of random directions, 0.05 at least."""
    return max(0.05, 3 / d_model**0.5)


def _growth(found: Against, norms: Tensor) -> dict[str, Tensor]:
    """Energy of the stream before, both terms of its growth, its growth measured, and the cosine of both states."""
    size, stream, product = (each[:, WRITERS.index("block")].double() for each in found)
    before, after = stream.square(), norms[1:].double().square()
    length = (norms[1:].double() * stream).clamp_min(1e-30)
    return {
        "energy": before,
        "gain": 2 * product,
        "added": size.square(),
        "grown": after - before,
        "kept": ((before + product) / length).clamp(-1, 1),
    }


def _largest(seen: View, chosen: Tensor, values: Tensor) -> Extremes:
    """Largest ratio and size of each layer and writer, and where it was."""
    flat = torch.where(chosen & ~values.isnan(), values, -torch.inf).flatten(-2)
    value, at = flat.max(-1)
    row, position = at // values.shape[-1], at % values.shape[-1]
    window = torch.tensor(seen.shard.windows)[row.cpu()]
    return Extremes(value.double().cpu().numpy(), torch.stack([window, position.cpu()], -1).numpy())


def _of(found: PerDocument, writer: str) -> PerDocument:
    """One writer's part, [unit, layer]."""
    k = WRITERS.index(writer)
    return PerDocument(found.units, found.sums[..., k], found.counts[..., k])


def _axes(facts: Facts) -> dict[str, np.ndarray]:
    return {**layers(facts), "sublayer": np.asarray(WRITERS)}


def _note(facts: Facts, sinks: str) -> str:
    kinds = ", ".join(dict.fromkeys(facts.kind_of_layer))
    said = {"exclude": "sinks left out", "include": "sinks included", "only": "sinks only"}[sinks]
    return f"{said}; attention is the mixer, here: {kinds}"


def _missing(facts: Facts, writer: str = "") -> str:
    if writer == "block":
        return ""
    if facts.post_norm:
        return "the stream is normalised after each add, so only the whole block has a contribution"
    return f"these layers have no {({'mlp': 'MLP', 'attention': 'mixer'}).get(writer, 'such sublayer')}"


def _curves(found: PerDocument, kind: str, facts: Facts, sinks: str) -> list[Measurement]:
    """Means over tokens, one curve a writer."""
    return [
        mean(
            _of(found, writer), f"{writer}_{kind}", layers(facts), "1", facts,
            _note(facts, sinks) if writer == "attention" else _note(facts, sinks).partition(";")[0],
            _missing(facts, writer),
        )
        for writer in WRITERS
    ]  # fmt: skip


def _by_sinks(total: Tally, source: str, kind: str, facts: Facts) -> Measurement:
    parts = [part(total, f"{source}_{name}", PerDocument) for name in SINKS]
    whole = PerDocument(
        parts[0].units, np.stack([p.sums for p in parts], 1), np.stack([p.counts for p in parts], 1)
    )
    axes = {"sinks": np.asarray(SINKS), **_axes(facts)}
    return mean(whole, f"{kind}_by_sinks", axes, "1", facts, "mean over tokens", _missing(facts))


def _quantiles(rows: Rows, facts: Facts, sinks: str) -> list[Measurement]:
    """Tenth percentile, median and ninetieth of both kinds."""
    found, units = [], rows.columns["unit"]
    for column, kind in (("ratio", "relative_norm"), ("cosine", "cosine")):
        values = rows.columns[column].astype(np.float64)
        shape = values.shape[1:]
        interval = bootstrap_quantiles(
            values.reshape(len(values), -1), units, tuple(SHARES.values()), DRAWS, facts.seed
        )
        n, items = np.full(shape, len(np.unique(units))), np.full(shape, len(values))
        for k, name in enumerate(SHARES):
            value, low, high = (end[k].reshape(shape) for end in interval)
            gone = _missing(facts) if np.isnan(value).any() else ""
            note = f"over {len(values):,} sampled positions; {_note(facts, sinks)}"
            found.append(
                Measurement(f"{kind}_{name}", _axes(facts), value, "1", low, high, n, items, note, gone)
            )
    return found


def _sizes(total: Tally, facts: Facts, sinks: str) -> list[Measurement]:
    """Norms, the ratio of their means, and the largest of all."""
    size, stream = part(total, "size", PerDocument), part(total, "stream", PerDocument)
    how = (_axes(facts), "1", facts, _note(facts, sinks), _missing(facts))
    largest = part(total, "largest", Extremes).value
    largest = np.where(np.isfinite(largest), largest, np.nan)
    gone = _missing(facts) if np.isnan(largest).any() else ""
    note = f"largest over positions, grows with their number; {_note(facts, sinks)}"
    return [
        mean(size, "write_norm", *how),
        mean(stream, "stream_norm", *how),
        ratio(size, stream, "norm_ratio", *how),
        Measurement("relative_norm_max", _axes(facts), largest[0], "1", note=note, missing=gone),
        Measurement("write_norm_max", _axes(facts), largest[1], "1", note=note, missing=gone),
    ]


def _changes(total: Tally, facts: Facts, sinks: str) -> list[Measurement]:
    """Growth of the stream's energy in two terms, in units of the energy before, and what their sum leaves."""
    parts = {name: part(total, name, PerDocument) for name in ("energy", "gain", "added", "grown", "kept")}
    axes, note = layers(facts), _note(facts, sinks).partition(";")[0]
    shares = {"growth": "grown", "parallel_gain": "gain", "orthogonal_energy": "added"}
    found = {
        name: ratio(parts[of], parts["energy"], name, axes, "1", facts, f"{note}; of the energy before")
        for name, of in shares.items()
    }
    gap = np.abs(found["growth"].value - found["parallel_gain"].value - found["orthogonal_energy"].value)
    said = "absolute difference of growth and the sum of its two terms"
    empty = "no item was observed" if np.isnan(gap).any() else ""
    return [
        *found.values(),
        Measurement("growth_gap", axes, gap, "1", note=said, missing=empty),
        mean(parts["kept"], "stream_cosine", axes, "1", facts, f"{note}; of the streams before and after"),
    ]


def _modes(shares: PerDocument, cosines: PerDocument, facts: Facts, sinks: str) -> list[Measurement]:
    """What each layer's writes mostly do: shares of tokens, the class of the mean cosine, and how sure that is."""
    axes: Axes = {**_axes(facts), "mode": np.asarray(MODES)}
    border = threshold(facts.d_model)
    note = f"erase below {-border:.3g}, strengthen above {border:.3g}; {_note(facts, sinks)}"
    curves = resampled(cosines.sums, cosines.counts, DRAWS, facts.seed)
    whole = mean(cosines, "cosine", _axes(facts), "1", facts).value
    label = _labelled(whole, border)
    there = np.isfinite(curves).sum(0)
    agree = (_labelled(curves, border) == label).sum(0)
    support = np.divide(agree, there, out=np.full(label.shape, np.nan), where=there > 0)
    gone = _missing(facts) if np.isnan(label).any() else ""
    said = f"-1 erase, 0 write, 1 strengthen, by the mean cosine; {note}"
    return [
        mean(shares, "mode_share", axes, "probability", facts, f"share of tokens; {note}", _missing(facts)),
        Measurement("mode", _axes(facts), label, "1", note=said, missing=gone),
        Measurement(
            "mode_support", _axes(facts), support, "probability",
            note="share of bootstrap draws with the same class", missing=gone,
        ),
    ]  # fmt: skip


def _labelled(cosine: np.ndarray, border: float) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        found = (cosine > border).astype(np.float64) - (cosine < -border)
    return np.where(np.isfinite(cosine), found, np.nan)
