"""Fuzzy induction: matches by case, form, meaning or language instead of by equal tokens.

Question: Which heads find an earlier example when the word that asks for it is only like its word, and does the
model then give that example's label?

Method: A prompt shows words with labels, one pair a line, and ends with a variant of one of the words: the same
word, its capitals, another form, a synonym, a translation, or a near-copy of an invented word. Labels are drawn anew
for each prompt. advantage is a head's attention from the last token to the label of the matching word minus its mean
attention to the other labels. accuracy is the share of prompts whose matching label is the likeliest of the labels
shown. nearest is the share of prompts in which, at a state, the last token of the matching word is the one most like
that of the last word, by cosine.

How to read: A head with an advantage for `same` alone copies tokens; one with an advantage for synonyms or
translations matches meanings. Where nearest is high before such heads, the match is made in the stream, and the head
only reads it.

What misleads: The lists are short: a prompt is one draw from eight pairs. Advantage may be high in heads whose write
does nothing. accuracy has a chance level of one over the labels shown. Words of several tokens are compared by their
last.

Source: Olsson et al. 2022 (arXiv 2209.11895), section on more abstract in-context matching.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.attending import must_attend
from depthscope.engine.cell_sums import Cells
from depthscope.engine.measured import mean, part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.materials.fuzzy_pairs import PAIRS, FuzzyPairs
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

ABSENT = "the layer has no attention heads, or its window ends before a label"


@dataclass(frozen=True)
class FuzzyInduction:
    """Heads that match what is alike.

    Args:
        relations: out of same, case, inflection, synonym, translation, nonce; empty takes all. prompts: of each.
        shown: pairs in a prompt.
    """

    relations: tuple[str, ...] = ()
    prompts: int = 16
    shown: int = 4

    def needs(self, anatomy: Anatomy) -> Needs:
        """Attention rows of last tokens, and all states."""
        must_attend(anatomy)
        if not anatomy.family.causal:
            raise Refused("it is no causal language model, so no label follows a prompt")
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so it gives no label")
        states = frozenset({"L0.resid_pre", "L*.resid_post"})
        return Needs(states, own_queries=True, material=FuzzyPairs(self.relations, self.prompts, self.shown))

    def _names(self) -> tuple[str, ...]:
        return self.relations or tuple(PAIRS)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Advantages of all heads, whether the label is right, and which word is nearest, one row a prompt."""
        del batch, given
        anatomy, names = model.anatomy, self._names()
        heads = Cells(seen.units, (len(names), anatomy.n_layers, anatomy.n_heads))
        states = Cells(seen.units, (len(names), anatomy.n_layers + 1))
        answers = Cells(seen.units, (len(names),))
        for layer in seen.seen.heads:
            pattern, window = seen.pattern(layer), anatomy.window_of_layer[layer]
            for row, prompt in enumerate(seen.windows):
                about = prompt.about
                if window is None or about["queries"][0] - min(about["places"]) < window:
                    to = pattern[row, :, 0, about["places"]].double()
                    right = to[:, about["answer"]]
                    gap = right - (to.sum(1) - right) / (self.shown - 1)
                    heads.add_row(
                        "advantage", row, gap.cpu().numpy(), (names.index(about["relation"]), layer)
                    )
        for row, prompt in enumerate(seen.windows):
            about, place = prompt.about, names.index(prompt.about["relation"])
            last = seen[anatomy.states()[-1]][row, about["queries"][0]]
            ids = torch.tensor(about["labels"], device=last.device)
            top = int(model.head.logits(last, ids).argmax())
            answers.add_row("accuracy", row, float(top == about["answer"]), (place,))
            states.add_row("nearest", row, _nearest(seen, row), (place,))
        return Tally({**heads.tally(), **states.tally(), **answers.tally()})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """By relation: heads, states, labels."""
        by = {"relation": np.array(self._names())}
        shape = (len(by["relation"]), facts.n_layers, facts.n_heads)
        found: list[Measurement] = []
        one = total.get("advantage")
        if not isinstance(one, PerDocument):
            one = PerDocument(("none",), np.zeros((1, *shape)), np.zeros((1, *shape), np.int64))
        axes = {**by, "layer": np.arange(facts.n_layers), "head": np.arange(facts.n_heads)}
        missing = ABSENT if (one.counts.sum(0) == 0).any() else ""
        note = "attention to the matching label minus mean attention to the others"
        found.append(mean(one, "advantage", axes, "probability", facts, note, missing))
        note = "share of prompts whose matching label is the likeliest of those shown"
        found.append(mean(part(total, "accuracy", PerDocument), "accuracy", by, "probability", facts, note))
        axes = {**by, "state": np.arange(facts.n_layers + 1)}
        note = "share of prompts whose matching word is the nearest by cosine"
        found.append(mean(part(total, "nearest", PerDocument), "nearest", axes, "probability", facts, note))
        return Findings({m.name: m for m in found})


def _nearest(seen: View, row: int) -> np.ndarray:
    """[state]: 1 where the matching word's last token is the most like that of the last word."""
    about = seen.windows[row].about
    states = seen.states[:, row, about["ends"]].double()
    unit = states / torch.linalg.vector_norm(states, dim=-1, keepdim=True)
    like = (unit[:, :-1] * unit[:, -1:]).sum(-1)
    return (like.argmax(-1) == about["answer"]).double().cpu().numpy()
