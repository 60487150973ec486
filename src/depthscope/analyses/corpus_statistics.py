"""Corpus statistics: how large the stream is, and where it is massive.

Question: How does the norm of the residual stream grow with depth, which positions are sinks, and which
layers write them?

Method: The norm of every state at every position from 1 on (median, 99th percentile from a hash-chosen
sample of positions; largest over all, position 0 included). A sink is position 0 or a position whose norm
exceeds 4 times the median of its window at some state from 1 on; sink_share counts the massive ones at each
state, position 0 left out. peak_ratio is a window's largest norm over its median. A layer is a sink writer
where peak_ratio after it exceeds 10 and is more than three times the one before it. massive_channel is the
channel with the largest mean square and massive_channel_share its share of the energy of a state.

How to read: A jump of peak_ratio at one layer means that this layer turns one position, mostly the first,
into a sink whose norm dwarfs all others. Such a layer looks harmless by most scores and cannot be removed.

What misleads: A mean that includes sinks describes the sinks. In models with few layers the rule for
writers is coarse.

Source: Sun et al. 2024, Massive Activations in Large Language Models (arXiv 2402.17762); Xiao et al. 2024
(2309.17453).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import layers, mean, median, part, states
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import Extremes, Moments, PerDocument, Rows, Tally
from depthscope.engine.view import View
from depthscope.ranges import at_least, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

RATIO, MASSIVE, JUMP = 4.0, 10.0, 3.0


@dataclass(frozen=True)
class CorpusStatistics:
    """Norms, sinks and massive channels of every state.

    Args:
        sample: positions kept for medians and percentiles.
    """

    sample: int = 20_000

    def __post_init__(self) -> None:
        check_ranges(self, sample=at_least(1))

    def needs(self, anatomy: Anatomy) -> Needs:
        """The states."""
        del anatomy
        return Needs(sites=frozenset({"L0.resid_pre", "L*.resid_post"}))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Norms by position, their peaks, and the energy of each channel."""
        del model, given
        rows, positions = _after_first(batch)
        norms = seen.norms[:, rows, positions].T.double().cpu().numpy()
        units = np.asarray([seen.units[r] for r in rows.tolist()])
        # not nanmedian: of an even number of positions that takes the lower middle one
        row_median = torch.nanquantile(seen.norms, 0.5, dim=-1, keepdim=True)
        massive = (seen.norms > RATIO * row_median)[:, rows, positions].T.double().cpu().numpy()
        peak = torch.nan_to_num(seen.norms, nan=0.0).amax(-1) / row_median[..., 0]
        kept = Rows(seen.sampling_keys(rows, positions), {"norm": norms, "unit": units}, self.sample)
        return Tally({
            "norms": kept.add(Rows(kept.key[:0], {n: c[:0] for n, c in kept.columns.items()}, self.sample)),
            "massive": PerDocument.of(units.tolist(), massive),
            "peak": PerDocument.of(seen.units, peak.T.double().cpu().numpy()),
            "largest": _largest(seen),
            "energy": _energy(seen),
        })  # fmt: skip

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Curves over states, and the layers that write sinks."""
        rows, largest = part(total, "norms", Rows), part(total, "largest", Extremes)
        peak = mean(
            part(total, "peak", PerDocument),
            "peak_ratio",
            states(facts),
            "1",
            facts,
            "mean over windows of max / median norm",
        )
        found = [
            median(rows, "norm", "norm_median", states(facts), "1", facts, "positions from 1 on"),
            Measurement(
                "norm_p99",
                states(facts),
                np.quantile(rows.columns["norm"], 0.99, axis=0),
                "1",
                note="positions from 1 on",
            ),
            Measurement(
                "norm_max", states(facts), largest.value, "1", note="all positions; position 0 included"
            ),
            Measurement(
                "norm_max_position",
                states(facts),
                largest.place[..., 1].astype(float),
                "tokens",
                note="where norm_max was",
            ),
            mean(
                part(total, "massive", PerDocument),
                "sink_share",
                states(facts),
                "probability",
                facts,
                "positions from 1 on",
            ),
            peak,
            Measurement(
                "sink_writer",
                layers(facts),
                _writers(peak.value),
                "1",
                note="1 where the layer writes a sink",
            ),
            *_channels(part(total, "energy", Moments), facts),
        ]
        return Findings({m.name: m for m in found})


def _after_first(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    later = batch.mask.clone()
    later[:, 0] = False
    rows, positions = later.nonzero(as_tuple=True)
    return rows, positions


def _largest(seen: View) -> Extremes:
    norms = torch.nan_to_num(seen.norms, nan=0.0)
    value, at = norms.flatten(1).max(-1)
    row, position = at // norms.shape[2], at % norms.shape[2]
    window = torch.tensor(seen.shard.windows)[row.cpu()]
    return Extremes(value.double().cpu().numpy(), torch.stack([window, position.cpu()], -1).numpy())


def _energy(seen: View) -> Moments:
    count = np.asarray(int(seen.plain.sum()), np.int64)
    kept = (state[seen.plain].double() for state in seen.each_state)
    sums = torch.stack([torch.stack([flat.sum(0), flat.square().sum(0)]) for flat in kept], 1).cpu().numpy()
    return Moments(count, sums[0], sums[1])


def _writers(peak: np.ndarray) -> np.ndarray:
    after, before = peak[1:], peak[:-1]
    return ((after > MASSIVE) & (after > JUMP * before)).astype(np.float64)


def _channels(energy: Moments, facts: Facts) -> tuple[Measurement, Measurement]:
    note = "sinks left out"
    share = energy.square / np.maximum(energy.square.sum(-1, keepdims=True), 1e-300)
    channel = Measurement("massive_channel", states(facts), share.argmax(-1).astype(float), "1", note=note)
    return channel, Measurement(
        "massive_channel_share", states(facts), share.max(-1), "probability", note=note
    )
