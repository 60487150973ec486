"""Settle depth: when the prediction is made, and how often an early one is overturned.

Question: At which depth does the model's final prediction first appear, and from where on does it stay?

Method: At hash-sampled positions the top-1 token of every state, read through the lens of the run, is compared with
the final top-1. first = the first state that shows it; stable = the first state from which it never leaves again;
persistent = the first of two consecutive states that show it. All counted in states 0..L. *_censored is the
share of positions that reach it only at the last state. flip_rate(s) = share of positions whose top-1 at
state s is not the final one; decision_flips splits them by frequency and by correctness.

How to read: A stable depth late in the network says that predictions are revised until the end. The gap
between first and stable is how often an early guess is lost and regained.

What misleads: A depth is that of a lens: the logit lens is the model's own head on the raw stream, a fitted lens
settles earlier. Agreement of frequent tokens by chance counts as a first appearance. The mean of a skewed
histogram is not a typical position: look at the histogram.

Source: Belrose et al. 2023, section 5 (prediction depth); How Do LLMs Use Their Depth? (arXiv 2510.18871).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import mean, median, part, states
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.measures.onset import first_onset, persistent_onset, stable_onset
from depthscope.ranges import at_least, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model

DEPTHS = ("first", "stable", "persistent")


@dataclass(frozen=True)
class SettleDepth:
    """Onset depths of the final prediction and flips of early ones.

    Args:
        positions: hash-sampled positions that are decoded at all states.
    """

    positions: int = 2048

    def __post_init__(self) -> None:
        check_ranges(self, positions=at_least(1))

    def needs(self, anatomy: Anatomy) -> Needs:
        """The top-1 of every state; refused without an unembedding."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so there is no prediction to settle")
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), Decode(top_k=1), self.positions)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Onsets of each position, and its flips by state."""
        del model, batch, given
        decoded = seen.decoded
        assert decoded.trace.top_ids is not None
        top = decoded.trace.top_ids[..., 0].T.cpu()
        depths = _depths(top)
        units = np.asarray(decoded.units, dtype=str)
        rows = Rows(
            seen.sampling_keys(decoded.rows, decoded.positions),
            {**depths, "unit": units},
            seen.needs.positions,
        )  # pyright: ignore[reportArgumentType]
        values = {name: PerDocument.of(decoded.units, d) for name, d in depths.items()}
        shares = {
            f"{n}_histogram": PerDocument.of(decoded.units, _one_hot(d, top.shape[1]))
            for n, d in depths.items()
        }
        flips = PerDocument.of(decoded.units, (top != top[:, -1:]).double().numpy())
        return Tally({**values, **shares, "flip_rate": flips, "rows": rows})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Means, medians, censored shares, histograms and flips."""
        found: list[Measurement] = []
        for name in DEPTHS:
            found += _depth(total, name, facts)
        note = "share of positions whose top-1 differs from the final one"
        found.append(
            mean(
                part(total, "flip_rate", PerDocument), "flip_rate", states(facts), "probability", facts, note
            )
        )
        return Findings({m.name: m for m in found})


def _depths(top: torch.Tensor) -> dict[str, np.ndarray]:
    hit = top == top[:, -1:]
    onsets = {"first": first_onset(hit), "stable": stable_onset(hit), "persistent": persistent_onset(hit)}
    return {name: onset.numpy().astype(np.float64) for name, onset in onsets.items()}


def _one_hot(depth: np.ndarray, n_states: int) -> np.ndarray:
    return (depth[:, None] == np.arange(n_states)).astype(np.float64)


def _depth(total: Tally, name: str, facts: Facts) -> list[Measurement]:
    last = facts.n_layers
    note = f"state index, 0 to {last}; the last state always agrees with itself"
    shares = part(total, f"{name}_histogram", PerDocument)
    at_end = PerDocument(shares.units, shares.sums[:, last], shares.counts[:, last])
    return [
        mean(part(total, name, PerDocument), name, {}, "1", facts, note),
        median(part(total, "rows", Rows), name, f"{name}_median", {}, "1", facts, note),
        mean(
            at_end,
            f"{name}_censored",
            {},
            "probability",
            facts,
            "share that reaches it only at the last state",
        ),
        mean(shares, f"{name}_histogram", states(facts), "probability", facts, "share of positions"),
    ]
