"""What sums of writes say: means, percentiles, sizes, growth and classes of each layer's writers."""

from __future__ import annotations

import numpy as np

from depthscope.engine.measured import DRAWS, Axes, layers, mean, part, ratio
from depthscope.engine.needs import Facts
from depthscope.engine.tally import Extremes, PerDocument, Rows, Tally
from depthscope.engine.written import WRITERS
from depthscope.measures.quantiles import bootstrap_quantiles
from depthscope.measures.statistics import resampled
from depthscope.results.measurement import Measurement

SINKS = ("exclude", "include", "only")
MODES = ("erase", "write", "strengthen")
SHARES = {"p10": 0.1, "median": 0.5, "p90": 0.9}


def threshold(d_model: int) -> float:
    """Below this absolute cosine a write counts as new: three deviations of random directions, 0.05 at least."""
    return max(0.05, 3 / d_model**0.5)


def of_writer(found: PerDocument, writer: str) -> PerDocument:
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


def curves(found: PerDocument, kind: str, facts: Facts, sinks: str) -> list[Measurement]:
    """Means over tokens, one curve a writer."""
    return [
        mean(
            of_writer(found, writer), f"{writer}_{kind}", layers(facts), "1", facts,
            _note(facts, sinks) if writer == "attention" else _note(facts, sinks).partition(";")[0],
            _missing(facts, writer),
        )
        for writer in WRITERS
    ]  # fmt: skip


def by_sinks(total: Tally, source: str, kind: str, facts: Facts) -> Measurement:
    """Means over tokens with sinks left out, included, and alone."""
    parts = [part(total, f"{source}_{name}", PerDocument) for name in SINKS]
    whole = PerDocument(
        parts[0].units, np.stack([p.sums for p in parts], 1), np.stack([p.counts for p in parts], 1)
    )
    axes = {"sinks": np.asarray(SINKS), **_axes(facts)}
    return mean(whole, f"{kind}_by_sinks", axes, "1", facts, "mean over tokens", _missing(facts))


def quantiles(rows: Rows, facts: Facts, sinks: str) -> list[Measurement]:
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


def sizes(total: Tally, facts: Facts, sinks: str) -> list[Measurement]:
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


def changes(total: Tally, facts: Facts, sinks: str) -> list[Measurement]:
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


def modes(shares: PerDocument, cosines: PerDocument, facts: Facts, sinks: str) -> list[Measurement]:
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
