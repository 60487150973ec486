"""Lens validation: do frequent tokens come first because of the states, or because of the lens?

Question: Where early states are read as frequent tokens, is that what the states hold or what the lens was
trained to say?

Method: All lenses of the run (`--lens NORMAL,REDUCED,RIDGE`; the logit lens is added) decode the same positions.
Test of convergence: mass = mean probability of each frequency bucket under a lens, mass_above_final = that minus
the final state's; token_mass_gap = mean |ln(mean probability / final mean probability)| of the most frequent
tokens, one by one (the table tokens holds each). converged_share = share of states below L where the mass of
the most frequent bucket is within 0.02 of the final one. Test of dominance: top1_share = share of positions
whose top-1 token is in a bucket, set_share = in the set F (given words, or the most frequent token).
set_share_retained = set_share under a lens over that under the run's lens, the first of `--lens`: give the normal
lens first and lenses that were trained with fewer or no updates from F after it. kl_on_set and kl_off_set = mean
KL(final || state) where the final top-1 is in F, and elsewhere; *_difference = minus that of the run's lens.

How to read: Evidence is what a lens says that had no reason to say it. If F stays on top in early states under a
lens that hardly learnt from F (set_share_retained above one half), under a ridge lens, which never saw the
vocabulary, and under a lens fitted to true next tokens, the dominance is not made by the divergence that the normal
lens was fitted to. kl_on_set_difference says what the reduced lens paid for it.

What misleads: That the mass of a converged lens equals the final mass follows from its training (at an optimum the
bias makes mean predictions agree), so mass tests the fit and says nothing about the model; the logit lens owes no
such agreement. Top-1 shares exaggerate: where a state says little, the distribution is flat and its top is the most
frequent token whatever little mass it has. Fewer updates are not none: a bias learns a frequency from few of them.
A ridge lens predicts the mean final state where it knows nothing, and that mean too is read as frequent tokens.
F in one text is not F in another.

Source: How Do LLMs Use Their Depth? (arXiv 2510.18871), appendix on validating the tuned lens; Belrose et al. 2023
(arXiv 2303.08112), section 3; Din et al. 2023 (arXiv 2303.09435).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.guesses import spelled, spelling
from depthscope.engine.lenses import Compared, cards, compared, names, overlaps, readable, with_rest
from depthscope.engine.measured import Axes, mean, part, ratio, states
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Rows, Sum, Tally
from depthscope.engine.view import View
from depthscope.errors import BadInput
from depthscope.materials.frequency import EDGES, bucket_names
from depthscope.materials.spelling import single_tokens
from depthscope.ranges import at_least, check_ranges
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

CLOSE = 0.02
"""A lens whose mass of the first bucket is this close to the final one has converged."""
NEVER = "the run's lens never has it on top here"
NOBODY = "no decoded position has a final top-1 of this kind"
CONVERGENCE = (
    "`mass`, `mass_above_final`, `token_mass_gap` and `converged_share` test whether a lens has converged: a converged "
    "one agrees with the final state by construction. They are no evidence about the model."
)
EVIDENCE = (
    "`set_share`, `top1_share` and `set_share_retained` are evidence as far as the lenses compared had no reason to "
    "favour these tokens: one with reduced updates, a ridge lens, one fitted to true next tokens."
)


@dataclass(frozen=True)
class LensValidation:
    """Frequent tokens under every lens of the run.

    Args:
        positions: hash-sampled positions, decoded at all states through every lens.
        words: the set F: words with commas, each in all case and space variants that are one token; "" takes the most
            frequent token. top: the most frequent tokens that are compared one by one.
        table: path of a frequency table; "" counts the text that is read. edges: last rank of each bucket but the last.
    """

    positions: int = 512
    words: str = ""
    top: int = 50
    table: str = ""
    edges: tuple[int, ...] = EDGES

    def __post_init__(self) -> None:
        check_ranges(self, positions=at_least(1), top=at_least(1))

    def needs(self, anatomy: Anatomy) -> Needs:
        """The states; refused without an unembedding, or with a frequency table of another vocabulary."""
        return readable(anatomy, self.table, self.edges)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Masses, shares of top-1 tokens, and divergences on and off the set."""
        del batch, given
        found = compared(model, seen, self.positions, self.table, self.edges)
        if found is None:
            return Tally({})
        ids = found.table.order[: min(self.top, int((found.table.counts > 0).sum()))]
        chosen = token_set(model.tokenizer, self.words) if self.words else ids[:1]
        sums = {
            name: PerDocument.of(found.units, v) for name, v in _values(found, chosen, seen.lens.name).items()
        }
        tokens = Sum(found.probabilities(seen, ids), np.asarray(len(found.units), np.int64))
        words = {
            "spelled": spelled(model, np.concatenate([ids, chosen])),
            "set": _ids(chosen),
            "ids": _ids(ids),
        }
        return Tally({**sums, "tokens": tokens, "lenses": cards(seen, found.lenses), **words})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Masses, shares and divergences by lens and state."""
        called = names(part(total, "lenses", Rows))
        axes = {"lens": np.asarray(called), **states(facts)}
        by_bucket = {**axes, "bucket": np.asarray(bucket_names(self.edges))}
        spellings = spelling(part(total, "spelled", Rows))
        members = _kept_ids(part(total, "set", Rows))
        named = ", ".join(repr(spellings[k]) for k in members)
        found = [*_masses(total, axes, by_bucket, facts), *_shares(total, axes, by_bucket, facts, named)]
        found += _divergences(total, axes, facts)
        notes = (f"The set F is {named}.", CONVERGENCE, EVIDENCE, *overlaps(part(total, "lenses", Rows)))
        alone = ("Only the logit lens was given, so no lens is a witness; add --lens DIR,DIR.",)
        table = _tokens(total, called, spellings)
        return Findings(
            {m.name: m for m in found},
            {"tokens": table},
            notes=(*(alone if len(called) == 1 else ()), *notes),
        )


def token_set(tokenizer: Any, words: str) -> Int[np.ndarray, " id"]:  # noqa: ANN401
    """Ids of words that are one token, lower, capital and upper case, with and without a space before.

    Raises:
        BadInput: when no variant of a word is one token.
    """
    found: set[int] = set()
    for word in (w.strip() for w in words.split(",")):
        single = single_tokens(tokenizer, word)
        if not single:
            raise BadInput(
                f"words={words!r}: no form of {word!r} is one token of this model; give other words"
            )
        found.update(single)
    return np.asarray(sorted(found), np.int64)


def _values(found: Compared, chosen: np.ndarray, reference: str) -> dict[str, np.ndarray]:
    """[item lens state ..] of everything that is averaged; `reference` names the run's lens."""
    mass, top = with_rest(found.items("group_mass")), found.items("top_ids")[..., 0].astype(np.int64)
    kl, first = found.items("kl"), found.decoded[0].trace.final_top1
    own = [lens.name for lens in found.lenses].index(reference)
    assert first is not None
    on = np.isin(first.cpu().numpy(), chosen)[:, None, None]
    inside = np.isin(top, chosen).astype(np.float64)
    change = kl - kl[:, own : own + 1]
    return {
        "mass": mass,
        "mass_above_final": mass - mass[:, :1, -1:],
        "top1_share": (found.buckets.of(top)[..., None] == np.arange(len(found.buckets.names))).astype(
            np.float64
        ),
        "set_share": inside,
        "reference_share": np.broadcast_to(inside[:, own : own + 1], inside.shape),
        "kl_on_set": np.where(on, kl, np.nan),
        "kl_off_set": np.where(on, np.nan, kl),
        "kl_on_set_difference": np.where(on, change, np.nan),
        "kl_off_set_difference": np.where(on, np.nan, change),
    }


def _masses(total: Tally, axes: Axes, by_bucket: Axes, facts: Facts) -> list[Measurement]:
    """The test of convergence."""
    above = mean(
        part(total, "mass_above_final", PerDocument), "mass_above_final", by_bucket, "1", facts,
        "mean mass of the bucket minus that under the final state; a test of convergence",
    )  # fmt: skip
    note = "mean mass of the bucket; a test of convergence"
    close = (np.abs(above.value[:, :-1, 0]) < CLOSE).mean(1)
    labels = {axis: np.asarray(v) for axis, v in axes.items()}
    said = f"share of the states below L whose mass of bucket {by_bucket['bucket'][0]} is within {CLOSE} of the final"
    gap = np.abs(_log_ratio(part(total, "tokens", Sum))).mean(-1)
    words = "mean |ln(mean probability / that under the final state)| of the most frequent tokens"
    return [
        mean(part(total, "mass", PerDocument), "mass", by_bucket, "probability", facts, note),
        above,
        Measurement("token_mass_gap", labels, gap, "nats", note=words),
        Measurement("converged_share", {"lens": labels["lens"]}, close, "probability", note=said),
    ]


def _shares(total: Tally, axes: Axes, by_bucket: Axes, facts: Facts, named: str) -> list[Measurement]:
    """The test of dominance."""
    share, reference = part(total, "set_share", PerDocument), part(total, "reference_share", PerDocument)
    note = f"share of positions whose top-1 token is in F = {named}"
    never = NEVER if (reference.sums.sum(0) == 0).any() else ""
    retained = ratio(
        share,
        reference,
        "set_share_retained",
        axes,
        "1",
        facts,
        f"set_share over that under {facts.lens}",
        never,
    )
    return [
        mean(part(total, "top1_share", PerDocument), "top1_share", by_bucket, "probability", facts, "bucket of top-1"),
        mean(share, "set_share", axes, "probability", facts, note),
        retained,
    ]  # fmt: skip


def _divergences(total: Tally, axes: Axes, facts: Facts) -> list[Measurement]:
    """KL where the final top-1 is in F and elsewhere, and against the run's lens."""
    found: list[Measurement] = []
    for side, where in (
        ("kl_on_set", "the final top-1 is in F"),
        ("kl_off_set", "the final top-1 is not in F"),
    ):
        for name, more in ((side, ""), (f"{side}_difference", f", minus that under {facts.lens}")):
            sums = part(total, name, PerDocument)
            missing = NOBODY if (sums.counts.sum(0) == 0).any() else ""
            note = f"positions where {where}{more}"
            found.append(mean(sums, name, axes, "nats", facts, note, missing))
    return found


def _log_ratio(tokens: Sum) -> np.ndarray:
    """Logarithm of the mean probability of each token over the final one, [lens state token]."""
    held = np.maximum(tokens.total, 1e-300)
    return np.log(held) - np.log(held[:1, -1:])


def _tokens(total: Tally, called: Sequence[str], spellings: Mapping[int, str]) -> Table:
    """One row a (lens, state, token): its mean probability, and that under the final state."""
    tokens, ids = part(total, "tokens", Sum), _kept_ids(part(total, "ids", Rows))
    held = tokens.total / tokens.count
    lens, state, place = np.indices(held.shape).reshape(3, -1)
    columns = {
        "lens": np.asarray(called)[lens],
        "state": state,
        "rank": place + 1,
        "token_id": np.asarray(ids)[place],
        "token": np.asarray([spellings[k] for k in ids])[place],
        "mass": held.reshape(-1),
        "final_mass": np.broadcast_to(held[:1, -1:], held.shape).reshape(-1),
    }
    return Table(
        columns,
        f"mean probability of the {len(ids)} most frequent tokens over {int(tokens.count):,} positions",
    )


def _ids(ids: np.ndarray) -> Rows:
    """Ids in their order, as rows that shards may repeat."""
    return Rows(np.arange(len(ids)).astype(np.uint64), {"id": np.asarray(ids, np.int64)}, 2**40)


def _kept_ids(rows: Rows) -> list[int]:
    _, place = np.unique(rows.key, return_index=True)
    return rows.columns["id"][place].tolist()
