"""Frequency onset: which frequency class the predictions of each layer come from.

Question: Do early layers guess the most frequent tokens, and from which state on do rarer ones appear?

Method: At hash-sampled positions the top-1 token of every state is sorted into buckets of frequency: ranks 1-10,
11-100, 101-1000 and the rest, or fifths of the mass. share(s, bucket) is the share of positions; share_above_final
is its difference from the share at the last state, position by position. onset of a bucket: first = the first state
whose share is at least half of the final one, stable = the first state from which it stays so. Frequencies are
counted on the text that was read, or come from a table (`depthscope fit frequency`). mode "paper" decodes the last
position of random prefixes instead, and leaves out those whose final prediction is whitespace; blank_share says how
many.

How to read: If the first bars consist of the most frequent tokens and the last ones do not, the model guesses by
frequency first and refines later. Compare with the last state, not with the corpus: final predictions are
themselves skewed towards frequent tokens. The table of top tokens shows what the bars are made of. A first onset
at state 0 that is not stable is the copy of the current token in models with tied embeddings.

What misleads: Under the plain logit lens early states often decode to the current token or to odd rare ones,
which says that the lens cannot read them, not that nothing frequent is expected there. A trained lens guesses
frequent tokens where it knows nothing, because that is what its training rewards: a control is needed before
calling it the model's guess. Counts of a short text are chance beyond the first ranks. The ten most frequent
tokens are commas and articles in English, particles in Japanese, runs of spaces in code: do not compare buckets
across such texts, and repeat on a second corpus. Special tokens are not counted and are in the last bucket.

Source: How Do LLMs Use Their Depth? (arXiv 2510.18871), section 3; Belrose et al. 2023 (arXiv 2303.08112).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.guesses import Guesses, observed, spelled, spelling, usable
from depthscope.engine.measured import DRAWS, mean, part, states
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.engine.view import View
from depthscope.errors import EmptyMaterial, Refused
from depthscope.materials.frequency import EDGES, Buckets
from depthscope.materials.prefixes import Prefixes
from depthscope.measures.onset import first_onset, stable_onset
from depthscope.measures.statistics import bootstrap_curve
from depthscope.ranges import at_least, check_names, check_ranges
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings, Result
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model

MODES = ("all_positions", "paper")
DEFINITIONS = ("first", "stable")


@dataclass(frozen=True)
class FrequencyOnset:
    """The frequency class of each state's prediction.

    Args:
        positions: hash-sampled positions that are decoded at all states; not read in mode "paper".
        table: path of a frequency table; "" counts the text that is read.
        edges: last rank of each bucket but the last. quintiles: fifths of the mass instead.
        top: how many of the most frequent predictions of each state are listed.
        mode: "all_positions", or "paper": the last position of random prefixes.
        source, prompts: the text of the prefixes ("" for the packaged sample), and their number.
    """

    positions: int = 2048
    table: str = ""
    edges: tuple[int, ...] = EDGES
    quintiles: bool = False
    top: int = 20
    mode: str = "all_positions"
    source: str = ""
    prompts: int = 1000

    def __post_init__(self) -> None:
        check_names(self, mode=MODES)
        check_ranges(self, positions=at_least(1), top=at_least(1), prompts=at_least(1))

    def needs(self, anatomy: Anatomy) -> Needs:
        """The top-1 of every state; refused without an unembedding, or with a table of another vocabulary."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so its states have no predictions")
        usable(self.table, self.edges, anatomy)
        material = Prefixes(self.source, self.prompts) if self.mode == "paper" else None
        sites = frozenset({"L0.resid_pre", "L*.resid_post"})
        return Needs(sites, Decode(top_k=1), self.positions, material=material)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """The top-1 ids, their spelling, and the count of the text."""
        del given
        found = observed(model, batch, seen, self.table)
        return Tally({**found, "names": spelled(model, part(Tally(found), "guesses", Rows).columns["top"])})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Shares, their distance from the last state, onsets, and the most frequent predictions."""
        names = spelling(part(total, "names", Rows))
        guesses = Guesses.of(total, self.table)
        blank = np.asarray([not names[int(k)].strip() for k in guesses.top[:, -1]], bool)
        blanks = PerDocument.of(guesses.units.tolist(), blank.astype(np.float64))
        note = "share of positions whose final top-1 is whitespace only"
        if self.mode == "paper":
            guesses, note = (
                guesses.kept(~blank),
                note.replace("positions", "prefixes") + "; they are left out",
            )
        if not len(guesses.top):
            raise EmptyMaterial(f"none of {len(blank)} prefixes is followed by a word; give other text")
        buckets = guesses.table.buckets(self.edges, self.quintiles)
        found = [
            *_shares(guesses, buckets, facts),
            Measurement(
                "corpus_share", {"bucket": np.asarray(buckets.names)}, buckets.mass, "probability",
                note=f"share of the {guesses.table.tokens:,} tokens that were counted",
            ),
            mean(blanks, "blank_share", {}, "probability", facts, note),
        ]  # fmt: skip
        return Findings(
            {m.name: m for m in found},
            {"top_tokens": _top_tokens(guesses, names, self.top)},
            notes=guesses.table.notes(),
        )


def _shares(guesses: Guesses, buckets: Buckets, facts: Facts) -> list[Measurement]:
    place, size = buckets.of(guesses.top), len(buckets.names)
    n_states = place.shape[1]
    within = guesses.summed(place, size, np.ones(place.shape))
    counts = np.broadcast_to(within.counts.sum(-1, keepdims=True), within.counts.shape)
    share = PerDocument(within.units, within.sums, counts)
    above = PerDocument(within.units, within.sums - within.sums[:, n_states - 1 :], counts)
    axes = {**states(facts), "bucket": np.asarray(buckets.names)}
    note = "bucket of the top-1 token; state s is the output of block s-1"
    return [
        mean(share, "share", axes, "probability", facts, note),
        mean(above, "share_above_final", axes, "1", facts, "share minus share at the last state"),
        _onset(share, buckets, facts),
    ]


def _onset(share: PerDocument, buckets: Buckets, facts: Facts) -> Measurement:
    """The state at which half of the final share is reached, with a bootstrap interval over units."""
    value, low, high = bootstrap_curve(share.sums, share.counts, _half, DRAWS, facts.seed)
    units = len(share.units)
    note = "state from which the share is at least half of the final share: for the first time, or for good"
    missing = "no final prediction falls in this bucket" if np.isnan(value).any() else ""
    n, n_items = np.full(value.shape, units), np.full(value.shape, int(share.counts[:, -1, 0].sum()))
    axes = {"definition": np.asarray(DEFINITIONS), "bucket": np.asarray(buckets.names)}
    return Measurement("onset", axes, value, "1", low, high, n, n_items, note, missing)


def _half(curves: np.ndarray) -> np.ndarray:
    """Shares [.. state bucket] -> onsets of half of the final share [.. definition bucket]; NaN where that is 0."""
    hit = torch.from_numpy(2 * curves >= curves[..., -1:, :]).movedim(-2, -1)
    onsets = torch.stack([first_onset(hit), stable_onset(hit)], -2).double().numpy()
    return np.where(curves[..., -1:, :] > 0, onsets, np.nan)


def _top_tokens(guesses: Guesses, names: Mapping[int, str], top: int) -> Table:
    """The most frequent predictions of each state, ties by id."""
    rows: list[tuple[int, int, int, str, int, float]] = []
    for state, column in enumerate(guesses.top.T):
        ids, counts = np.unique(column, return_counts=True)
        for rank, k in enumerate(np.argsort(-counts, kind="stable")[:top], start=1):
            token = int(ids[k])
            rows.append((state, rank, token, names[token], int(counts[k]), float(counts[k] / len(column))))
    keys = ("state", "rank", "token_id", "token", "count", "share")
    columns = {key: np.asarray([row[i] for row in rows]) for i, key in enumerate(keys)}
    return Table(columns, f"the {top} most frequent top-1 tokens of each state")
