"""Retrieval ablation: what answers lose without the heads that fetch them.

Question: Does the model still answer from a long text when its retrieval heads are taken out, and do as many other
heads matter as little as they should?

Method: On needles that the heads were not chosen by, the k heads of the highest retrieval_heads/retrieval are ablated
while the answer is written; the prompt is read intact, or ablated as well (mean/all, stream/all). Four groups are
ablated: retrieval; random, k heads of low score (several draws); streaming, for each retrieval head one of low score in
its own layer whose writes are about as long (several draws); largest, the k heads with the longest writes among the
others. uniform lets a head attend to all keys alike, mean puts its mean over the prompts in its place, stream leaves it
the first 4 and the last `recent` keys. recall is the share of the answer's words that the model wrote, exact the share
of answers written token by token, answer_kind how answers fail by overlap of words. margin is recall with a control
group ablated minus recall without the retrieval heads, on the same tests. policy_recall is recall when the prompt too
is read with a smaller cache: razor keeps all keys for the heads of retrieval_heads/full_cache, the others keep the
first 4 and the last `recent` and one token that stands for what they dropped; razor_bare goes without that token,
streaming lets all heads stream without it.

How to read: Retrieval heads are needed where their curve falls while the three controls stay. A margin above zero with
its whole interval says so against that control. streaming is the control to believe: random heads lie in other layers
and write less.

What misleads: With the opening of the answer in the prompt this is copying. Heads were chosen by where they look, not
by what their loss costs; a small model's few such heads are also its induction heads. A prompt read intact has already
moved some of the answer to its last position. In uniform the head still writes, and what it writes may disturb. Where
the prompt too is ablated, a control head may matter for reading it, such as one that carries tokens on.

Source: Wu et al. 2024 (arXiv 2404.15574), masked retrieval heads; Xiao et al. 2024 (arXiv 2410.10819), streaming heads;
Tang et al. 2024 (arXiv 2407.15891), full heads and compensation token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.attending import must_attend
from depthscope.engine.cell_sums import Cells, at_cell
from depthscope.engine.chosen_heads import Heads, drawn, matched, possible, top
from depthscope.engine.measured import Axes, difference, mean, part
from depthscope.engine.needle_answers import words
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.view import View
from depthscope.errors import BadInput, Refused
from depthscope.materials.needles import Needles
from depthscope.measures.retrieval import ERRORS, kind_of_answer, unigram_recall
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.ablated_answers import answers_under, unsuited
from depthscope.runtime.compensation import compensating
from depthscope.runtime.generate import generate
from depthscope.runtime.head_ablation import Ablation, head_means
from depthscope.runtime.head_writes import head_outputs, write_norms
from depthscope.runtime.model import Batch, Model

MODES = ("uniform", "mean", "stream", "mean/all", "stream/all")
"""Kinds of ablation; with /all the prompt too is read ablated, once for each condition."""
GROUPS = ("retrieval", "random", "streaming", "largest")
POLICIES = ("razor", "razor_bare", "streaming")
"""Caches that the prompt is read with."""
LOW = 0.1
"""Retrieval scores below it make a head a control."""
SHARE = 0.1
"""Share of all heads that may go at most."""
START = 4
MORE = 4
"""Tokens that are written beyond the length of the right answer."""
ABSENT = "there are not so many heads with a score, or not so many others to match them"


@dataclass(frozen=True)
class RetrievalAblation:
    """Ablations of retrieval heads and of four controls while answers are written.

    Args:
        source, haystack, lengths, depths, limit, part: see `materials.needles`; `part` must not be the one that
            retrieval_heads chose by.
        sizes: how many heads go together; those above a tenth of all heads are left out, 1 never is.
        modes: kinds of ablation. draws: draws of random and of matched heads. recent: keys that `stream` leaves.
    """

    source: str = ""
    haystack: str = ""
    lengths: tuple[int, ...] = (256,)
    depths: tuple[float, ...] = (0.1, 0.5, 0.9)
    limit: int = 0
    part: str = "odd"
    sizes: tuple[int, ...] = (2, 5, 10, 20)
    modes: tuple[str, ...] = ("uniform",)
    draws: int = 5
    recent: int = 64

    def needs(self, anatomy: Anatomy) -> Needs:
        """Prompts, behind the scores by which heads are chosen."""
        must_attend(anatomy)
        if not anatomy.family.causal:
            raise Refused("it is no causal language model, so no answer follows a question")
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so it gives no answer")
        if reason := unsuited(anatomy):
            raise Refused(reason)
        wrong = [mode for mode in self.modes if mode not in MODES]
        if wrong or not self.modes or min(self.sizes, default=0) < 1 or min(self.draws, self.recent) < 1:
            raise BadInput(
                f"modes={self.modes}, sizes={self.sizes}, draws={self.draws}, recent={self.recent}; modes are out of "
                f"{', '.join(MODES)}, numbers 1 or more"
            )
        material = Needles(self.source, self.haystack, self.lengths, self.depths, self.limit, self.part, 0)
        sweep = SweepNeed((), (), 0, 1, protect="none", replays=2 + self._read_again())
        return Needs(sweeps=frozenset({sweep}), after=("retrieval_heads",), material=material)

    def _read_again(self) -> int:
        """How often a prompt is read under ablations: once for each condition of the modes with /all."""
        each = len(self.sizes) * (2 + 2 * self.draws)
        return sum(each for mode in self.modes if mode.endswith("/all"))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Answers to each needle of the shard, intact and under each ablation."""
        _must_differ(self.part, self.source, given["retrieval_heads"])
        conditions = self._conditions(model, batch, given, seen.seed)
        cells = list(conditions)
        found = Cells(seen.units, (len(self.modes), len(GROUPS), len(self.sizes)))
        kinds = Cells(seen.units, (len(GROUPS), len(self.sizes), len(ERRORS)))
        caches = Cells(seen.units, (len(POLICIES),))
        means = head_means(model, [batch]) if {"mean", "mean/all"} & set(self.modes) else None
        intact = Ablation((), "uniform")
        for row, window in enumerate(seen.windows):
            gold, prompt = list(window.about["gold"]), window.ids[: window.about["prompt"]]
            every = [intact, *(conditions[cell] for cell in cells)]
            ids = answers_under(model, prompt, every, len(gold) + MORE, means)
            judged = [_judged(model, gold, prompt, answer) for answer in ids.tolist()]
            for name in ("recall", "exact"):
                found.add_row(f"intact_{name}", row, float(judged[0][name]), (0, 0, 0))
            for place, ids_of_policy in enumerate(self._policies(model, prompt, len(gold) + MORE, given)):
                recall = float(_judged(model, gold, prompt, ids_of_policy)["recall"])
                caches.add_row("policy_recall", row, recall, (place,))
            for cell, answer in zip(cells, judged[1:], strict=True):
                for name in ("recall", "exact"):
                    found.add_row(name, row, float(answer[name]), cell[:3])
                if cell[0] == 0:
                    kinds.add_row("answer_kind", row, _one_hot(str(answer["kind"])), cell[1:3])
        return Tally({**found.tally(), **kinds.tally(), **caches.tally()})

    def _policies(
        self, model: Model, prompt: Sequence[int], length: int, given: Mapping[str, Result]
    ) -> Iterator[tuple[int, ...]]:
        """What is written when prompt and answer are read with each of the POLICIES."""
        kept = torch.as_tensor(given["retrieval_heads"]["full_cache"].value > 0)
        for policy in POLICIES:
            full = torch.zeros_like(kept) if policy == "streaming" else kept
            with compensating(model, full, START, self.recent, policy == "razor"):
                yield generate(model, prompt, max_new_tokens=length, stop=()).ids

    def _conditions(
        self, model: Model, batch: Batch, given: Mapping[str, Result], seed: int
    ) -> dict[tuple[int, ...], Ablation]:
        """(mode, group, size, draw) -> what is ablated."""
        score = given["retrieval_heads"]["retrieval"].value
        norms = _norms(model, batch)
        sizes = possible(self.sizes, int(np.isfinite(norms).sum()), SHARE)
        found: dict[tuple[int, ...], Ablation] = {}
        for s, size in enumerate(sizes):
            for g, chosen in enumerate(_groups(score, norms, size, self.draws, seed)):
                for draw, heads in enumerate(chosen):
                    for m, mode in enumerate(self.modes):
                        kind, _, where = mode.partition("/")
                        found[m, g, s, draw] = Ablation(
                            heads, kind, where or "decode_only", START, self.recent
                        )
        return found

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Recall by kind of ablation, group and number, and the margin over each control."""
        axes: Axes = {"mode": np.array(self.modes), "criterion": np.array(GROUPS), "k": np.array(self.sizes)}
        parts = {
            name: _or_nothing(total, name, (len(self.modes), len(GROUPS), len(self.sizes)))
            for name in ("recall", "exact", "intact_recall", "intact_exact")
        }
        found: list[Measurement] = []
        for name in ("recall", "exact"):
            note = "share of the answer's words that were written" if name == "recall" else "token by token"
            intact = at_cell(parts[f"intact_{name}"], (0, 0, 0))
            found.append(mean(intact, f"intact_{name}", {}, "probability", facts, note))
            missing = ABSENT if (parts[name].counts.sum(0) == 0).any() else ""
            found.append(mean(parts[name], name, axes, "probability", facts, note, missing))
        found.append(self._margin(parts["recall"], axes, facts))
        by = {**{a: axes[a] for a in ("criterion", "k")}, "option": np.array(ERRORS)}
        one = _or_nothing(total, "answer_kind", (len(GROUPS), len(self.sizes), len(ERRORS)))
        missing = ABSENT if (one.counts.sum(0) == 0).any() else ""
        note = f"share of answers, by overlap of words; {self.modes[0]} ablation"
        found.append(mean(one, "answer_kind", by, "probability", facts, note, missing))
        one = _or_nothing(total, "policy_recall", (len(POLICIES),))
        by = {"policy": np.array(POLICIES)}
        note = f"share of the answer's words; first {START} and last {self.recent} keys where heads stream"
        found.append(mean(one, "policy_recall", by, "probability", facts, note))
        return Findings({m.name: m for m in found})

    def _margin(self, recall: PerDocument, axes: Axes, facts: Facts) -> Measurement:
        """Recall with a control ablated minus recall without the retrieval heads."""
        sums, counts = (np.broadcast_to(x[:, :, :1], x[:, :, 1:].shape) for x in (recall.sums, recall.counts))
        without = PerDocument(recall.units, sums.copy(), counts.copy())
        control = PerDocument(recall.units, recall.sums[:, :, 1:], recall.counts[:, :, 1:])
        labels = {**axes, "criterion": np.array(GROUPS[1:])}
        both = (without.counts.sum(0) > 0) & (control.counts.sum(0) > 0)
        note = "recall with the control ablated minus recall without the retrieval heads"
        missing = "" if both.all() else ABSENT
        return difference(without, control, "margin", labels, "probability", facts, note, missing)


def _groups(score: np.ndarray, norms: np.ndarray, size: int, draws: int, seed: int) -> list[list[Heads]]:
    """Heads of each group, one entry a draw; a group without enough heads has none."""
    best = top(score, size)
    if len(best) < size:
        return [[] for _ in GROUPS]
    low = np.isfinite(norms) & ~(score >= LOW)  # what no window lets look so far has no score, and is low
    free = np.where(low, norms, np.nan)
    random = [drawn(free, size, best, (seed, size, draw)) for draw in range(draws)]
    matching = int((low & ~_named(best, low.shape)).sum()) >= size
    alike = [matched(best, low, norms, (seed, size, draw)) for draw in range(draws)] if matching else []
    longest = top(np.where(score >= LOW, np.nan, norms), size, best)
    return [
        [best],
        [heads for heads in random if len(heads) == size],
        alike,
        [longest] if len(longest) == size else [],
    ]


def _named(heads: Heads, shape: tuple[int, ...]) -> np.ndarray:
    found = np.zeros(shape, bool)
    for cell in heads:
        found[cell] = True
    return found


def _norms(model: Model, batch: Batch) -> np.ndarray:
    """Mean length of each head's write over the prompts, [layer head]; NaN where it has none."""
    found = np.full((model.anatomy.n_layers, model.anatomy.n_heads), np.nan)
    for layer, z in head_outputs(model, batch).items():
        found[layer] = write_norms(model, layer, z)[:, 1:].detach().double().mean((0, 1)).cpu().numpy()
    return found


def _judged(
    model: Model, gold: Sequence[int], prompt: Sequence[int], answer: Sequence[int]
) -> dict[str, float | str]:
    right, given, hay = (words(model.tokenizer, list(ids)) for ids in (gold, answer, prompt))
    return {
        "recall": unigram_recall(right, given),
        "exact": float(list(answer[: len(gold)]) == list(gold)),
        "kind": kind_of_answer(right, given, hay),
    }


def _one_hot(kind: str) -> np.ndarray:
    return np.array([float(kind == each) for each in ERRORS])


def _must_differ(own_part: str, source: str, chosen: Result) -> None:
    """Refuse needles that the heads were chosen by."""
    theirs = chosen.parameters
    if theirs["source"] == source and (own_part == theirs["part"] or "all" in (own_part, theirs["part"])):
        raise BadInput(
            f"retrieval_heads chose its heads by the {theirs['part']} needles, these are the {own_part} ones of "
            "the same file; give part=even to one and part=odd to the other"
        )


def _or_nothing(total: Tally, name: str, shape: tuple[int, ...]) -> PerDocument:
    if name in total:
        return part(total, name, PerDocument)
    return PerDocument((name,), np.zeros((1, *shape)), np.zeros((1, *shape), np.int64))
