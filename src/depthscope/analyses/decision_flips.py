"""Decision flips: how often an early prediction is overturned, and to what.

Question: When a state's prediction is given up later, was it frequent or rare, right or wrong, and what replaced it?

Method: At hash-sampled positions the top-1 token of every state is compared with the final top-1. flip_rate(s, bucket)
= share of positions whose top-1 at state s is not the final one, among those whose top-1 at state s is in that bucket
of frequency (ranks as in frequency_onset); bucket "all" holds every position. chance_flip_rate is the same if the
final prediction were that of another position, so that it depends on no context; constant_flip_rate if the guess
were always the most frequent token. bucket_transition(s, bucket, to) = where guesses of a bucket end. outcome splits
all positions by whether the early and the final prediction are the true next token. changes, distinct_tokens and
reentry_rate count along depth. The state of the last change is `stable` of settle_depth.

How to read: A flip rate near chance says that a guess knew nothing of its context; well below, that it was already
about this position. In outcome, wrong_to_right is refinement and right_to_wrong its price.

What misleads: A flip is a change of the most likely token, however small the change of probability. Guesses of the
plain logit lens are overturned because the lens cannot read early states; use a trained lens, and one only. Buckets
follow the early guess, so that a bucket that is rare at a state has few positions: look at n. Rates do not say that
the early token was ever used. In Japanese or code other tokens are frequent: compare buckets within one text only.

Source: How Do LLMs Use Their Depth? (arXiv 2510.18871), section 4; baselines and the split by correctness are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.guesses import Guesses, observed, usable
from depthscope.engine.measured import mean, states
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.materials.frequency import EDGES, Buckets
from depthscope.measures.onset import changes, first_onset, stable_onset
from depthscope.ranges import at_least, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model

OUTCOMES = (
    "wrong_to_right",
    "right_to_wrong",
    "wrong_to_other_wrong",
    "wrong_to_same_wrong",
    "right_to_right",
)


@dataclass(frozen=True)
class DecisionFlips:
    """Flips of early predictions by frequency and by correctness.

    Args:
        positions: hash-sampled positions that are decoded at all states.
        table, edges, quintiles: where buckets of frequency come from, as in frequency_onset.
    """

    positions: int = 2048
    table: str = ""
    edges: tuple[int, ...] = EDGES
    quintiles: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, positions=at_least(1))

    def needs(self, anatomy: Anatomy) -> Needs:
        """The top-1 of every state; refused without an unembedding, or with a table of another vocabulary."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so there is no prediction to overturn")
        usable(self.table, self.edges, anatomy)
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), Decode(top_k=1), self.positions)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """The top-1 ids and the count of the text."""
        del given
        return Tally(observed(model, batch, seen, self.table))

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Flip rates with their baselines, transitions, outcomes, and counts along depth."""
        guesses = Guesses.of(total, self.table)
        buckets = guesses.table.buckets(self.edges, self.quintiles)
        found = [*_flips(guesses, buckets, facts), _outcome(guesses, facts), *_along_depth(guesses, facts)]
        return Findings({m.name: m for m in found}, notes=guesses.table.notes())


def _flips(guesses: Guesses, buckets: Buckets, facts: Facts) -> list[Measurement]:
    top, final = guesses.top, guesses.top[:, -1:]
    place, size = buckets.of(top), len(buckets.names)
    axes = {**states(facts), "bucket": np.asarray([*buckets.names, "all"])}
    note, missing = "bucket of the top-1 token at the state", "no guess of this state is in this bucket"
    flips = _with_all(guesses.summed(place, size, top != final))
    chance = _with_all(guesses.summed(place, size, 1.0 - _agreement_by_chance(top)))
    constant = PerDocument.of(guesses.units.tolist(), final[:, 0] != guesses.table.order[0])
    return [
        mean(flips, "flip_rate", axes, "probability", facts, note, missing),
        mean(
            chance, "chance_flip_rate", axes, "probability", facts,
            f"against the final top-1 of another position; {note}", f"{missing}, or there is no other position",
        ),
        mean(
            constant, "constant_flip_rate", {}, "probability", facts, "share of final top-1 that are not the most "
            "frequent token",
        ),
        _transition(guesses, buckets, facts),
    ]  # fmt: skip


def _with_all(found: PerDocument) -> PerDocument:
    """One more cell of each state: all buckets together."""
    sums, counts = (np.concatenate([a, a.sum(-1, keepdims=True)], -1) for a in (found.sums, found.counts))
    return PerDocument(found.units, sums, counts)


def _agreement_by_chance(top: np.ndarray) -> np.ndarray:
    """Share of the other positions whose final top-1 is a position's top-1 at each state, [item, state]."""
    ids, final = np.unique(top[:, -1], return_counts=True)
    place = np.minimum(np.searchsorted(ids, top), len(ids) - 1)
    same = np.where(ids[place] == top, final[place], 0) - (top == top[:, -1:])
    others = len(top) - 1
    return same / others if others else np.full(top.shape, np.nan)


def _transition(guesses: Guesses, buckets: Buckets, facts: Facts) -> Measurement:
    place, size = buckets.of(guesses.top), len(buckets.names)
    pairs = guesses.summed(place * size + place[:, -1:], size * size, np.ones(place.shape))
    sums = pairs.sums.reshape(*pairs.sums.shape[:2], size, size)
    counts = np.broadcast_to(sums.sum(-1, keepdims=True), sums.shape).astype(np.int64)
    to = np.asarray([f"to {name}" for name in buckets.names])
    axes = {**states(facts), "bucket": np.asarray(buckets.names), "transition": to}
    note = "share of the guesses of a bucket whose final prediction is in the other one; overturned or not"
    missing = "no guess of this state is in this bucket"
    found = PerDocument(pairs.units, sums, counts)
    return mean(found, "bucket_transition", axes, "probability", facts, note, missing)


def _outcome(guesses: Guesses, facts: Facts) -> Measurement:
    top, final = guesses.top, guesses.top[:, -1:]
    right, right_at_end = top == guesses.target[:, None], final == guesses.target[:, None]
    wrong, same = ~right & ~right_at_end, top == final
    kinds = [~right & right_at_end, right & ~right_at_end, wrong & ~same, wrong & same, right & right_at_end]
    values = np.stack(kinds, -1).astype(np.float64)
    values[guesses.target < 0] = np.nan
    axes = {**states(facts), "transition": np.asarray(OUTCOMES)}
    missing = "" if facts.causal else "the model is no causal language model: there is no true next token"
    note = "share of positions; right means equal to the true next token"
    found = PerDocument.of(guesses.units.tolist(), values)
    return mean(found, "outcome", axes, "probability", facts, note, missing)


def _along_depth(guesses: Guesses, facts: Facts) -> list[Measurement]:
    top = torch.from_numpy(guesses.top)
    hit = top == top[:, -1:]
    ordered = top.sort(-1).values
    values = {
        "changes": changes(top),
        "distinct_tokens": 1 + changes(ordered),
        "reentry_rate": first_onset(hit) < stable_onset(hit),
    }
    notes = {
        "changes": f"how often the top-1 token changes over {facts.n_layers + 1} states",
        "distinct_tokens": "different top-1 tokens over all states",
        "reentry_rate": "share of positions whose final top-1 was reached, lost and regained",
    }
    units = {"reentry_rate": "probability"}
    return [
        mean(
            PerDocument.of(guesses.units.tolist(), v.double().numpy()),
            n,
            {},
            units.get(n, "1"),
            facts,
            notes[n],
        )
        for n, v in values.items()
    ]
