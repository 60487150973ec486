"""Depth by part of speech: at which state a token is predicted, by the kind of word it starts.

Question: Are function words (the, of, and) predicted earlier in depth than words of content?

Method: Each decoded position is labelled by the class of the word that the true next token starts; tokens that
continue a word are CONT, tokens that touch two words MULTI. The rank of one token, the final top-1, is followed through
all states. first = the first state with rank <= k, stable = the first from which rank <= k holds to the end, persistent
= the first of two in a row; what is not reached before the last state counts as the last state in onset, is left out of
onset_dropped, and its share is onset_censored. difference = content minus function words, both resampled over the same
documents; difference_matched weighs both groups to equal final probabilities. By default only positions count whose
final top-1 is the true next token. mode=paper reads beginnings of lines, each up to the line's first word of a class.

How to read: A positive difference says that function words come first. reached is the share of a class whose token is
on top by each state. A class that rises early and one that waits for the last layers are guessed in different ways.

What misleads: Function words are few and expected: look at the final entropy, at the number of distinct tokens and at
the difference at equal final probability before calling it grammar. With the logit lens early states do not speak the
language of the head, and the order can vanish at rank 1. The word list calls everything outside the closed classes
content. Only right predictions count unless kept is changed, so hard words are left out more often.

Source: How Do LLMs Use Their Depth? (arXiv 2510.18871), part-of-speech case study; onsets as in Belrose et al. 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.class_onsets import ClassOnsets
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import Rows, Tally
from depthscope.engine.view import Decoded, View
from depthscope.engine.word_classes import next_word_classes
from depthscope.errors import BadInput, Refused
from depthscope.materials.taggers import TAGS, tagger
from depthscope.materials.word_prompts import WordPrompts
from depthscope.materials.words import NO_WORD
from depthscope.measures.onset import onsets
from depthscope.ranges import at_least, check_names, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model

CHOICES = {
    "mode": ("natural", "paper"),
    "kept": ("correct", "incorrect", "all"),
    "target": ("final", "true"),
}


@dataclass(frozen=True)
class PosDepth:
    """Onset depths by word class.

    Args:
        mode: "natural" decodes positions of the run's text, "paper" the prompts of `materials.word_prompts`.
        tagger: "lexicon", "spacy" or "precomputed". tags: its file, or the name of a spaCy pipeline.
        kept: positions by whether the final top-1 is the true next token: "correct", "incorrect" or "all".
        target: the token that is followed: "final" (top-1 of the last state) or "true" (natural mode only).
        ranks: the k of rank <= k. positions: hash-sampled positions that are decoded at all states.
        source: the text of paper mode, "" for the packaged sample. prompts: of each class, in paper mode.
    """

    mode: str = "natural"
    tagger: str = "lexicon"
    tags: str = ""
    kept: str = "correct"
    target: str = "final"
    ranks: tuple[int, ...] = (1, 3, 10, 30, 100, 300, 1000)
    positions: int = 2048
    source: str = ""
    prompts: int = 100

    def __post_init__(self) -> None:
        check_names(self, **CHOICES, tagger=TAGS)
        if self.mode == "paper" and self.target == "true":
            raise BadInput("mode=paper follows the final top-1; target=true needs mode=natural")
        if not self.ranks or min(self.ranks) < 1 or list(self.ranks) != sorted(set(self.ranks)):
            raise BadInput(f"ranks={list(self.ranks)}; give rising ranks of 1 or more")
        check_ranges(self, positions=at_least(1), prompts=at_least(1))

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels a position can have."""
        return (*TAGS[self.tagger], *NO_WORD)

    def needs(self, anatomy: Anatomy) -> Needs:
        """Ranks of one token at every state; refused where no next token is predicted, or the tagger is not there."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so there is no predicted word")
        if not anatomy.family.causal:
            raise Refused("it is no causal language model: there is no next word")
        tagger(self.tagger, self.tags)
        follow_true = self.target == "true"
        wanted = Decode(top_k=1, entropy=True, final_rank=not follow_true, target_rank=follow_true)
        prompts = WordPrompts(self.tagger, self.tags, self.source, self.prompts)
        material = prompts if self.mode == "paper" else None
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), wanted, self.positions, material=material)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Class, onsets, and what may confound them, one row a position."""
        del model, batch, given
        decoded = seen.decoded
        trace = decoded.trace
        rank = trace.target_rank if self.target == "true" else trace.final_rank
        assert rank is not None
        assert trace.entropy is not None
        assert trace.top_logits is not None
        labels, correct = self._labelled(seen, decoded)
        columns = {
            "label": np.asarray([self.labels.index(label) for label in labels], np.int8),
            "correct": np.asarray(correct, bool),
            "onset": onsets(rank.T.cpu(), self.ranks).numpy().astype(np.int16),
            "entropy": trace.entropy[-1].double().cpu().numpy(),
            "probability": torch.exp(trace.top_logits[-1, :, 0] - trace.logsumexp[-1]).double().cpu().numpy(),
            "token": _followed(decoded, self.target),
            "position": decoded.positions.cpu().numpy(),
            "unit": np.asarray(decoded.units, dtype=str),
        }
        cap = max(seen.needs.positions, len(columns["unit"]) if self.mode == "natural" else 2**40)
        return Tally({"rows": Rows(seen.sampling_keys(decoded.rows, decoded.positions), columns, cap)})

    def _labelled(self, seen: View, decoded: Decoded) -> tuple[Sequence[str], Sequence[bool]]:
        """The class of each position, and whether the final top-1 is right."""
        top = _followed(decoded, "final").tolist()
        if self.mode == "natural":
            right = (decoded.trace.final_top1 == decoded.targets) & decoded.has_target
            return next_word_classes(seen, tagger(self.tagger, self.tags)), right.tolist()
        said = [seen.windows[row].about for row in decoded.rows.tolist()]
        return [a["word_class"] for a in said], [t in a["answers"] for t, a in zip(top, said, strict=True)]

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Onsets by class and rank, the difference of the two groups, and what may explain it otherwise."""
        columns = part(total, "rows", Rows).columns
        correct = columns["correct"]
        keep = {"correct": correct, "incorrect": ~correct}.get(self.kept, np.ones_like(correct))
        labels = np.asarray(self.labels)[columns["label"]]
        found = ClassOnsets(columns, labels, keep, TAGS[self.tagger], self.ranks, facts).measurements()
        return Findings(found, notes=(_verdict(found, facts), *_gaps(found["share"], TAGS[self.tagger])))


def _followed(decoded: Decoded, target: str) -> np.ndarray:
    """The token whose rank is followed at each position."""
    assert decoded.trace.final_top1 is not None
    return (decoded.targets if target == "true" else decoded.trace.final_top1).cpu().numpy()


def _verdict(found: Mapping[str, Measurement], facts: Facts) -> str:
    """Which group comes first at the least k, or that it is not decided."""
    gap, means = found["difference"], found["onset"]
    k = int(gap.axes["k"][0])
    asked = {"definition": "first", "k": k}
    value = gap.at(**asked)
    if np.isnan(value) or gap.low is None or gap.high is None:
        return "Function and content words: not decided, one of the groups has no position."
    low, high = float(gap.low[0, 0]), float(gap.high[0, 0])
    means_said = ", ".join(f"{g} {means.at(word_class=g, **asked):.1f}" for g in ("function", "content"))
    order = (
        "Function words come before content words"
        if low > 0
        else "Content words come before function words"
        if high < 0
        else "Function and content words: not decided"
    )
    return (
        f"{order}: mean first state with rank <= {k}: {means_said} of {facts.n_layers}; difference {value:.2f} "
        f"[{low:.2f}, {high:.2f}] states."
    )


def _gaps(share: Measurement, tags: Sequence[str]) -> tuple[str, ...]:
    """A sentence for the tags that no position has."""
    absent = [tag for tag in tags if share.at(word_class=tag) == 0]
    return (f"No decoded position is before a word of class {', '.join(absent)}.",) if absent else ()
