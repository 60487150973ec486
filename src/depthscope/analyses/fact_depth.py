"""Fact depth: how deep the first, second and third token of a recalled answer form.

Question: At which depth does each token of a known answer emerge, and does the first token need more depth than
those that only finish the name?

Method: Prompts that a known answer follows ("The capital of France is", "Paris") are read together with their
answers, so that every answer token is predicted behind the right ones before it. Each fact counts once; facts
whose prompt holds the answer are left out, and so are numbers. At each answer token the rank of the right id is
taken at every state, through the run's lens. For k = 1 and 10, first is the first state with rank <= k, stable the
first from which on it stays <= k; both count L where it is never reached, first_dropped leaves those out. Cells
are the number of
answer tokens (1, 2, 3, 4+) and the token's place among them. token_correct keeps the tokens that the model gets
right, answer_correct the facts all of whose tokens it gets right, all keeps everything. difference is the onset
of token 1 minus that of token j of the same fact. The control reads words of running text of equal length in
tokens behind as many words. A regression over answers of several tokens asks what the place in the answer explains once
the entropy of the final prediction is held fixed. Units are facts. A cell with fewer than 50 facts is missing.

How to read: A positive difference says that the first token forms deeper than later ones. A token_effect below
zero says that this is more than later tokens being easier to predict; compare it with the control's, where no
fact is recalled. relation_accuracy against relation_baseline, the share of the commonest first token, says which
facts the model knows at all.

What misleads: Later tokens often only complete a name that the first one began. Small models know few facts, and
what they know is not a fair sample of what is asked. token_correct compares different facts in each cell; only
difference compares tokens of the same fact. The depth is that of the lens as much as of the model.

Source: How Do LLMs Use Their Depth? (arXiv 2510.18871), multi-token fact recall.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.cells import Items, inside
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import Rows, Sum, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.materials.facts import LEFT_OUT, FactPrompts
from depthscope.measures.onset import first_onset, stable_onset
from depthscope.ranges import at_least, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model

KS = np.array([1, 10])
TOKENS = np.array([1, 2, 3])
LENGTHS = np.array(["1", "2", "3", "4+"])
DEFINITIONS = np.array(["first", "first_dropped", "stable"])
FILTERS = np.array(["token_correct", "answer_correct", "all"])
CELLS = {"bucket": LENGTHS, "token": TOKENS}
ONSETS = {"definition": DEFINITIONS, "k": KS, "mode": FILTERS}


@dataclass(frozen=True)
class FactDepth:
    """Onsets of the tokens of known answers.

    Args:
        source: files of facts, see `materials.facts`; "" is the packaged set. facts: the most facts; 0 reads all.
        control: also read words of running text in the same shapes. text: where from; "" is the packaged sample.
        fewest: facts a cell needs.
    """

    source: str = ""
    facts: int = 0
    control: bool = True
    text: str = ""
    fewest: int = 50

    def __post_init__(self) -> None:
        check_ranges(self, facts=at_least(0), fewest=at_least(1))

    def needs(self, anatomy: Anatomy) -> Needs:
        """The rank of the right token and the final entropy; refused without an unembedding and for encoders."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so no answer can be read off its states")
        if not anatomy.family.causal:
            raise Refused("it is no causal language model, so it does not predict an answer token by token")
        wanted = Decode(target_rank=True, entropy=True)
        states = frozenset({"L0.resid_pre", "L*.resid_post"})
        return Needs(states, wanted, material=FactPrompts(self.source, self.facts, self.control, self.text))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One row an answer token: ranks at all states, final entropy, and where it stands."""
        del model, batch, given
        decoded = seen.decoded
        rank, entropy = decoded.trace.target_rank, decoded.trace.entropy
        assert rank is not None
        assert entropy is not None
        windows = [seen.windows[r] for r in decoded.rows.tolist()]
        token = decoded.positions.cpu().numpy() - np.array([w.marks[0] for w in windows], int) + 1
        columns = {
            "unit": np.asarray(decoded.units, dtype=str),
            "fact": np.array([w.about["kind"] == "fact" for w in windows], bool),
            "relation": np.array([w.about["relation"] for w in windows], dtype=str),
            "length": np.array([w.about["length"] for w in windows], int),
            "token": token,
            "id": decoded.targets.cpu().numpy(),
            "rank": rank.T.cpu().numpy().astype(np.int32),
            "entropy": entropy[-1].double().cpu().numpy(),
        }
        key = np.array([w.index for w in windows], np.uint64) * np.uint64(1000) + token.astype(np.uint64)
        left_out = [w.about["left_out"] for w in seen.windows if "left_out" in w.about]
        total = np.asarray(left_out, np.float64).reshape(-1, len(LEFT_OUT)).sum(0)
        return Tally({"tokens": Rows(key, columns, 10**7), "left_out": Sum(total, np.zeros(len(LEFT_OUT)))})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Onsets by cell, paired differences, the control, the regressions, and what the model knows."""
        columns = part(total, "tokens", Rows).columns
        found: list[Measurement] = []
        for prefix, kind in (("", True), ("control_", False)):
            answers = Answers.of({n: v[columns["fact"] == kind] for n, v in columns.items()})
            enough = Items(answers["unit"], facts, self.fewest, "facts" if kind else "words")
            every = replace(enough, fewest=1)
            found += [
                *onset(answers, enough, prefix),
                *apart(answers, enough, prefix),
                *explained(answers, enough, prefix),
            ]
            found += [accuracy(answers, every, prefix), *(known(answers, every) if kind else ())]
        left_out = part(total, "left_out", Sum).total.astype(int)
        notes = tuple(f"Left out: {n} ({why})." for n, why in zip(left_out, LEFT_OUT, strict=True) if n)
        return Findings({m.name: m for m in found}, notes=notes)


@dataclass(frozen=True)
class Answers:
    """The answer tokens of facts, or of control words; every array has one entry a token.

    Args:
        columns: unit, relation, token (1, 2, ...), length, id, rank [item, state], entropy of the final prediction.
        reached: states where a rank is reached, [item, definition, k]; NaN where it is dropped.
        kept: [item, filter]. cell: [item, length, token].
    """

    columns: Mapping[str, np.ndarray]
    reached: np.ndarray
    kept: np.ndarray
    cell: np.ndarray

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray]) -> Answers:
        """The tokens with the cells they belong to."""
        right = columns["rank"][:, -1] == 1
        names, member = np.unique(columns["unit"], return_inverse=True)
        wrong = np.bincount(member, ~right, minlength=len(names))
        kept = np.stack([right, wrong[member] == 0, np.ones_like(right)], 1)
        length = np.minimum(columns["length"], len(LENGTHS))[:, None] == np.arange(1, 1 + len(LENGTHS))
        token = columns["token"][:, None] == TOKENS
        return cls(columns, reached(columns["rank"]), kept, length[:, :, None] & token[:, None, :])

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]


def reached(rank: np.ndarray) -> np.ndarray:
    """States where rank <= k is reached, [item, definition, k], from ranks [item, state]; never counts the last."""
    last = rank.shape[1] - 1
    hit = torch.from_numpy(rank[:, None, :] <= KS[:, None])
    first, stable = (f(hit).numpy().astype(np.float64) for f in (first_onset, stable_onset))
    dropped = np.where(first > last, np.nan, first)
    return np.stack([np.minimum(first, last), dropped, np.minimum(stable, last)], 1)


def onset(answers: Answers, items: Items, prefix: str) -> list[Measurement]:
    """Mean and median onset, the share that comes only with the last state, and the share in the top k by state."""
    chosen = answers.kept[:, :, None, None] & answers.cell[:, None]
    values, last = inside(answers.reached, chosen), items.facts.n_layers
    note = f"state index, 0 to {last}; never reached counts {last}, and is left out of first_dropped"
    axes = {**ONSETS, **CELLS}
    settled = {
        **axes,
        "definition": DEFINITIONS[[0, 2]],
    }  # a median of those that got there is no typical depth
    at_end = inside(answers.reached[:, 0] >= last, chosen)
    top = answers["rank"][:, None, :] <= KS[:, None]
    curve = np.moveaxis(inside(top, answers.kept[:, 0, None, None] & answers.cell), 2, -1)
    by_state = {"k": KS, **CELLS, "state": np.arange(last + 1)}
    return [
        items.mean(values, f"{prefix}onset", axes, "1", note),
        items.median(values[:, [0, 2]], f"{prefix}onset_median", settled, "1", note),
        items.mean(
            at_end, f"{prefix}censored", {"k": KS, "mode": FILTERS, **CELLS}, "probability",
            "share that is not reached before the last state",
        ),
        items.mean(
            curve, f"{prefix}share_in_top", by_state, "probability", "share of the tokens that the model gets right"
        ),
    ]  # fmt: skip


def apart(answers: Answers, items: Items, prefix: str) -> list[Measurement]:
    """Onset of token 1 minus that of token j of the same fact; and first tokens of names against single tokens."""
    units, place = np.unique(answers["unit"], return_inverse=True)
    value = np.full((len(units), len(TOKENS), *answers.reached.shape[1:]), np.nan)
    kept = np.zeros((len(units), len(TOKENS), len(FILTERS)), bool)
    early = answers["token"] <= len(TOKENS)
    at = place[early], answers["token"][early] - 1
    value[at], kept[at] = answers.reached[early], answers.kept[early]
    gap = np.moveaxis(value[:, :1] - value[:, 1:], 1, -1)[:, :, :, None, :]
    both = np.moveaxis(kept[:, :1] & kept[:, 1:], 1, -1)[:, None, None]
    several = np.stack([np.ones(len(early)), answers["length"] > 1], 1)
    first = inside(answers.reached, answers.kept & (answers["token"] == 1)[:, None])
    return [
        replace(items, unit=units).mean(
            np.where(both, gap, np.nan), f"{prefix}difference", {**ONSETS, "token": TOKENS[1:]}, "1",
            "states by which token 1 comes deeper than this token of the same answer",
        ),
        items.coefficient(
            first, several, 1, f"{prefix}first_minus_single", ONSETS, "1",
            "states by which first tokens of longer answers come deeper than single-token answers",
            sides=np.stack([several[:, 1] == side for side in (0, 1)], 1),
        ),
    ]  # fmt: skip


def explained(answers: Answers, items: Items, prefix: str) -> list[Measurement]:
    """Onset by entropy of the final prediction and place in answers of several tokens, one regression a cell."""
    place = answers["token"][:, None] == TOKENS[1:]
    design = np.concatenate([np.ones((len(place), 1)), answers["entropy"][:, None], place], 1)
    several = (answers["length"] > 1) & (answers["token"] <= len(TOKENS))
    values = inside(answers.reached, answers.kept & several[:, None])
    slope = items.coefficient(
        values, design, 1, f"{prefix}entropy_slope", ONSETS, "1/nats",
        "states a nat of entropy of the final prediction, at equal place in the answer",
    )  # fmt: skip
    at = answers["token"][:, None] == TOKENS
    effects = [
        items.coefficient(values, design, 1 + k, "", ONSETS, "1", sides=at[:, [0, k]])  # against token 1
        for k in (1, 2)
    ]
    joined = {
        p: np.stack([getattr(e, p) for e in effects], -1) for p in ("value", "low", "high", "n", "n_items")
    }
    note = "states deeper than token 1, at equal entropy of the final prediction"
    missing = max((e.missing for e in effects), key=len)
    axes = {**ONSETS, "token": TOKENS[1:]}
    return [slope, Measurement(f"{prefix}token_effect", axes, unit="1", note=note, missing=missing, **joined)]


def accuracy(answers: Answers, items: Items, prefix: str) -> Measurement:
    """Share of tokens that are right behind the right ones."""
    right = inside(answers.kept[:, 0], answers.cell)
    return items.mean(
        right, f"{prefix}accuracy", CELLS, "probability", "share of tokens behind the right ones"
    )


def known(answers: Answers, items: Items) -> list[Measurement]:
    """Share of whole answers that are right, and of first tokens by relation against the commonest first token."""
    first, relation = answers["token"] == 1, answers["relation"]
    names = np.unique(relation)
    common = {r: Counter(answers["id"][first & (relation == r)].tolist()).most_common(1)[0][0] for r in names}
    guess = np.array([i == common[r] for i, r in zip(answers["id"], relation, strict=True)], bool)
    by = first[:, None] & (relation[:, None] == names)
    return [
        items.mean(
            inside(answers.kept[:, 1], answers.cell[:, :, 0]), "answer_accuracy", {"bucket": LENGTHS}, "probability",
            "share of answers with all tokens right",
        ),
        items.mean(
            inside(answers.kept[:, 0], by), "relation_accuracy", {"relation": names}, "probability",
            "share of right first tokens",
        ),
        items.mean(
            inside(guess, by), "relation_baseline", {"relation": names}, "probability",
            "share of the commonest first token among the relation's answers",
        ),
    ]  # fmt: skip
