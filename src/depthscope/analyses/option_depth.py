"""Option depth: when valid answers are collected, and when one of them is chosen.

Question: At which depth do the options of a question reach the top of the prediction, and at which depth is the
choice among them made?

Method: Questions with fixed options (letters, positive and negative, Yes and No) stand behind fixed examples, as
many with each right answer. At the last position every state is decoded through the run's lens and gives each
option's probability and rank: the mean, median and geometric mean of ranks over options and questions; the share
of questions all of whose m options stand in the top m, 2m, 10 and 100; option_mass, the options' summed
probability; option_entropy, the entropy among them; restricted_accuracy and restricted_agreement, how often the
best option is the right one, and the one that wins at the end. collection is the first (stable: the first
lasting) state with at least half of the final option_mass; overtake the first state from which on the winner is
always the best option, overtake_gold the same where the winner is right; lead_changes counts changes of the best
option. A score is that of the first token in which options differ. Controls, as modes: zero_shot asks without
examples, shuffled_labels behind examples with mixed-up answers, unused_letters follows letters that nothing
offers, elsewhere looks for the options in running text. Units are questions.

How to read: Collection in the first half and overtake in the second say that the model first gathers what may be
answered and then decides. This is a finding only where unused_letters and elsewhere do not rise alike, and a
decision is reasoning only where restricted_accuracy at the end lies above the majority baseline.

What misleads: Letters and Yes or No are frequent tokens: they may rank high without any question. Half of the
final mass is a small number where the final mass is small. Small models are at chance on hard questions, and
their overtake then is the depth of a habit. First tokens may speak for longer words.

Source: How Do LLMs Use Their Depth? (arXiv 2510.18871), option-constrained tasks.
"""

from __future__ import annotations

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
from depthscope.materials.options import OptionPrompts
from depthscope.measures.onset import changes, first_onset, stable_onset
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model

KS = np.array(["m", "2m", "10", "100"])
DEFINITIONS = np.array(["first", "stable"])
MODES = ("few_shot", "zero_shot", "shuffled_labels", "unused_letters", "elsewhere")


@dataclass(frozen=True)
class OptionDepth:
    """Collection of options and choice among them.

    Args:
        source: files of questions with commas between them; "" is the packaged set. items: questions a task.
        shots: examples before each. scoring: "first_distinguishing", "sequence" or "last_subtoken".
        controls: also run the controls. longest: tokens of the longest prompt.
    """

    source: str = ""
    items: int = 64
    shots: int = 4
    scoring: str = "first_distinguishing"
    controls: bool = True
    longest: int = 1024

    def needs(self, anatomy: Anatomy) -> Needs:
        """All states of the prompts; refused without an unembedding and for encoders."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so options have no probability")
        if not anatomy.family.causal:
            raise Refused("it is no causal language model, so no option follows a prompt")
        asked = OptionPrompts(self.source, self.items, self.shots, self.scoring, self.controls, self.longest)
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), material=asked)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One row for each option of each question and mode: log-probability and rank at all states."""
        del model, batch, given
        columns = _sequences(seen) if self.scoring == "sequence" else _candidates(seen)
        key = columns.pop("key")
        left_out = float(sum(w.about.get("left_out", 0) for w in seen.windows))
        return Tally({"options": Rows(key, columns, 10**7), "left_out": Sum(np.array(left_out), np.array(0))})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Everything by task and mode."""
        asked = Asked.of(part(total, "options", Rows).columns)
        items = Items(asked.unit, facts, 1, "questions")
        found = [
            *_ranks(asked, items),
            *_masses(asked, items),
            *_choices(asked, items),
            *_depths(asked, items),
        ]
        left_out = int(part(total, "left_out", Sum).total)
        notes = [f"Left out: {left_out} questions whose prompts are too long."] if left_out else []
        columns = part(total, "options", Rows).columns
        for task, shots in sorted({*zip(columns["task"].tolist(), columns["shots"].tolist(), strict=True)}):
            if shots < self.shots:
                notes.append(
                    f"{task} stands behind {shots} examples, not {self.shots}: with more it would not fit."
                )
        return Findings({m.name: m for m in found}, notes=tuple(notes))


def _candidates(seen: View) -> dict[str, np.ndarray]:
    """Options as candidate tokens of one position each; those that nothing offers are marked as pseudo."""
    ids = [[*w.about["candidates"], *w.about["pseudo"]] for w in seen.windows]
    widest = max(map(len, ids))
    pairs = torch.tensor([[row, w.marks[0]] for row, w in enumerate(seen.windows)])
    padded = torch.tensor([[*row, *[row[0]] * (widest - len(row))] for row in ids])
    trace = seen.decode(pairs, Decode(candidates=True), candidates=padded).trace
    assert trace.candidate_log_prob is not None
    assert trace.candidate_rank is not None
    place = [(row, k) for row, options in enumerate(ids) for k in range(len(options))]
    row, option = (np.array(part) for part in zip(*place, strict=True))
    real = np.array([len(w.about["candidates"]) for w in seen.windows])[row]
    at = torch.from_numpy(row), torch.from_numpy(option)
    return {
        **_about(seen, row, np.where(option < real, option, option - real), option >= real),
        "log_prob": trace.candidate_log_prob.cpu()[:, *at].T.double().numpy(),
        "rank": trace.candidate_rank.cpu()[:, *at].T.numpy(),
    }


def _sequences(seen: View) -> dict[str, np.ndarray]:
    """Options as whole sequences: log-probabilities of their tokens added up, and the worst of their ranks."""
    pairs = torch.tensor([[row, mark] for row, w in enumerate(seen.windows) for mark in w.marks])
    trace = seen.decode(pairs, Decode(target=True, target_rank=True)).trace
    assert trace.cross_entropy is not None
    assert trace.target_rank is not None
    member, rows = pairs[:, 0].numpy(), np.arange(len(seen.windows))
    log_prob = np.zeros((len(rows), trace.cross_entropy.shape[0]))
    rank = np.zeros(log_prob.shape, np.int64)
    np.add.at(log_prob, member, -trace.cross_entropy.T.double().cpu().numpy())
    np.maximum.at(rank, member, trace.target_rank.T.cpu().numpy())
    option = np.array([w.about["option"] for w in seen.windows])
    return {**_about(seen, rows, option, np.zeros(len(rows), bool)), "log_prob": log_prob, "rank": rank}


def _about(seen: View, row: np.ndarray, option: np.ndarray, pseudo: np.ndarray) -> dict[str, np.ndarray]:
    """What is known of each option, and a key that no other option has."""
    windows = [seen.windows[r] for r in row]
    mode = ["unused_letters" if p else w.about["mode"] for p, w in zip(pseudo, windows, strict=True)]
    place = option + 100 * pseudo
    return {
        "key": np.array([w.index for w in windows], np.uint64) * np.uint64(1000) + place.astype(np.uint64),
        "unit": np.array([w.document for w in windows], dtype=str),
        "task": np.array([w.about["task"] for w in windows], dtype=str),
        "mode": np.array(mode, dtype=str),
        "shots": np.array([w.about["shots"] for w in windows]),
        "gold": np.where(pseudo, -1, np.array([w.about["gold"] for w in windows])),
        "option": option,
    }


@dataclass(frozen=True)
class Asked:
    """Questions in their modes, one entry each.

    Args:
        log_prob, rank: [question, option, state]; -inf and NaN where a question has fewer options than another.
        gold: place of the right option, -1 where there is none. cell: [question, task, mode].
    """

    unit: np.ndarray
    gold: np.ndarray
    log_prob: np.ndarray
    rank: np.ndarray
    tasks: np.ndarray
    modes: np.ndarray
    cell: np.ndarray

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray]) -> Asked:
        """Rows of options brought together to questions."""
        names = np.char.add(np.char.add(columns["unit"], "|"), columns["mode"])
        _, first, member = np.unique(names, return_index=True, return_inverse=True)
        unit, task, mode, gold = (columns[name][first] for name in ("unit", "task", "mode", "gold"))
        shape = (len(first), int(columns["option"].max()) + 1, columns["rank"].shape[1])
        log_prob, rank = np.full(shape, -np.inf), np.full(shape, np.nan)
        log_prob[member, columns["option"]], rank[member, columns["option"]] = (
            columns["log_prob"],
            columns["rank"],
        )
        tasks, modes = np.unique(task), np.array([m for m in MODES if m in mode])
        cell = (task[:, None] == tasks)[:, :, None] & (mode[:, None] == modes)[:, None, :]
        return cls(unit, gold, log_prob, rank, tasks, modes, cell)

    @property
    def best(self) -> np.ndarray:
        """The most likely option at each state, the first of equals, [question, state]."""
        return self.log_prob.argmax(1)

    @property
    def mass(self) -> np.ndarray:
        """Summed probability of the options, [question, state]."""
        return np.exp(self.log_prob).sum(1)

    def axes(self, **more: np.ndarray) -> dict[str, np.ndarray]:
        """Task and mode, then further axes."""
        return {"task": self.tasks, "mode": self.modes, **more}

    def states(self, **more: np.ndarray) -> dict[str, np.ndarray]:
        """Task and mode, further axes, then states."""
        return self.axes(**more, state=np.arange(self.rank.shape[-1]))

    def spread(self, values: np.ndarray, where: np.ndarray | bool = True) -> np.ndarray:
        """Values [question, *a] by task and mode, [question, task, mode, *a]; NaN where `where` does not hold."""
        chosen = self.cell & np.broadcast_to(where, len(self.cell))[:, None, None]
        return np.moveaxis(inside(values, chosen), (-2, -1), (1, 2))


def _ranks(asked: Asked, items: Items) -> list[Measurement]:
    """Mean, median and geometric mean rank, and how often all options stand in the top."""
    n = asked.rank.shape[1]
    every = np.moveaxis(asked.spread(asked.rank), 3, 1).reshape(
        -1, *asked.cell.shape[1:], asked.rank.shape[-1]
    )
    wide = replace(items, unit=np.repeat(items.unit, n))
    logs = wide.mean(
        np.log(every), "option_rank_geometric", asked.states(), "1", "exp of the mean of ln rank"
    )
    back = {p: np.exp(getattr(logs, p)) for p in ("value", "low", "high")}
    m = np.isfinite(asked.rank[:, :, 0]).sum(1)
    limit = np.stack([m, 2 * m, np.full_like(m, 10), np.full_like(m, 100)], 1)
    worst = np.nanmax(asked.rank, axis=1)
    note = "rank in the whole vocabulary, 1 is best, over options and questions"
    return [
        wide.mean(every, "option_rank", asked.states(), "1", note),
        wide.median(every, "option_rank_median", asked.states(), "1", note),
        replace(logs, **back),
        items.mean(
            asked.spread(worst[:, None, :] <= limit[:, :, None]), "all_in_top", asked.states(k=KS), "probability",
            "share of questions all of whose m options have rank k or better",
        ),
    ]  # fmt: skip


def _masses(asked: Asked, items: Items) -> list[Measurement]:
    """Probability of the options together, and how it is spread among them."""
    mass = asked.mass
    share = np.exp(asked.log_prob - asked.log_prob.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    logs = np.log(np.where(share > 0, share, 1.0))
    return [
        items.mean(asked.spread(mass), "option_mass", asked.states(), "probability", "summed over the options"),
        items.mean(
            asked.spread(-(share * logs).sum(1)), "option_entropy", asked.states(), "nats", "among the options only"
        ),
    ]  # fmt: skip


def _choices(asked: Asked, items: Items) -> list[Measurement]:
    """How often the best option is right, and the final one; and what one answer for everything would give."""
    best, there = asked.best, asked.gold >= 0
    right, final = best == asked.gold[:, None], best == best[:, -1:]
    common = np.zeros(len(best))
    for k in range(len(asked.tasks)):
        mine = there & asked.cell[:, k].any(1)
        golds = asked.gold[mine]
        common[mine] = golds == np.bincount(golds).argmax() if len(golds) else 0.0
    return [
        items.mean(
            asked.spread(right, there), "restricted_accuracy", asked.states(), "probability",
            "share whose best option is right; modes in which nothing is asked have no right one",
        ),
        items.mean(
            asked.spread(final), "restricted_agreement", asked.states(), "probability",
            "share whose best option is that of the last state",
        ),
        items.mean(
            np.where(asked.cell.any(2) & there[:, None], common[:, None], np.nan), "majority_baseline",
            {"task": asked.tasks}, "probability", "share of the commonest right answer",
        ),
    ]  # fmt: skip


def _depths(asked: Asked, items: Items) -> list[Measurement]:
    """Collection, overtake and lead changes."""
    best, mass, last = asked.best, asked.mass, asked.rank.shape[-1] - 1
    half = torch.from_numpy(mass >= mass[:, -1:] / 2)
    collected = np.stack([first_onset(half).numpy(), stable_onset(half).numpy()], 1).astype(np.float64)
    chosen = stable_onset(torch.from_numpy(best == best[:, -1:])).numpy().astype(np.float64)
    right = (best[:, -1] == asked.gold) & (asked.gold >= 0)
    turns = changes(torch.from_numpy(best)).numpy().astype(np.float64)
    by, note = asked.axes(), f"state index, 0 to {last}"
    defined = asked.axes(definition=DEFINITIONS)
    settled = asked.spread(chosen)
    return [
        items.mean(asked.spread(collected), "collection", defined, "1", f"{note}; half of the final option mass"),
        items.median(asked.spread(collected), "collection_median", defined, "1", note),
        items.mean(
            asked.spread(collected <= last / 2), "collected_early", defined, "probability",
            "share collected in the first half of the depth",
        ),
        items.mean(settled, "overtake", by, "1", f"{note}; the best option from there on"),
        items.median(settled, "overtake_median", by, "1", note),
        items.mean(asked.spread(chosen, right), "overtake_gold", by, "1", f"{note}; questions with the right answer"),
        items.mean(
            asked.spread(chosen > last / 2), "chosen_late", by, "probability",
            "share whose choice is made in the second half of the depth",
        ),
        items.mean(asked.spread(turns), "lead_changes", by, "1", "changes of the best option from state to state"),
    ]  # fmt: skip
