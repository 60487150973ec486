"""Fact memory: does a fact's prompt hit a memory that says its answer?

Question: Is there, in some MLP, a neuron that fires on the prompt of a fact and pushes the fact's answer, and does that
tell facts the model knows from facts it does not, and from subjects that nobody has ever written about?

Method: Prompts end where an answer should follow; the same prompts with invented names are sure misses. At the
subject's last token and at the prompt's, every neuron adds to a token's logit its hidden number times what its column
adds through the final norm's gain, over the size of the last stream. A prompt hits where a neuron stands 4 standard
deviations above its mean over running text, on the side of its sign, and adds more than the layer's neurons ever do to
the answers of other facts, but for so few cases that 5 % of prompts would hit by chance over all layers. hit_share says
so for memories of the right answer and of the token that the model says, for facts that it gets right, facts that it
gets wrong, and invented subjects; right_minus_wrong and fact_minus_invented are differences of these shares,
fact_minus_invented_at_confidence the one that is left at equal probability of what is said. auc says how well the best
key match, the sum of the ten largest additions, and the probability of what is said tell right from wrong facts.
answer_drop is what the answer's probability loses without the ten neurons that add most to it, and without ten others
of about equal size. Units are prompts; a cell with fewer than 20 is missing.

How to read: Facts hit where hit_share of right ones lies above that of invented subjects. That the model makes up
answers after a miss would show as fact_minus_invented_at_confidence above 0: equally sure, fewer hits. A
drop_beyond_random above 0 says that the memories are used, not only there.

What misleads: What a neuron adds is counted as if nothing behind it changed it; early memories work through later
layers and add little of their own. Answers have many tokens, only the first is asked. Names of syllables are odd
tokens: a difference from them may be one of words, not of knowledge. A memory that fires for every prompt of a relation
is no memory of the fact. What is said may be a common word, to which more is added than to any answer: shares for said
are to be compared with each other, not with 5 %.

Source: Geva et al. 2021 (arXiv 2012.14913), MLPs as memories; hits, invented subjects and the threshold are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.anatomy.site import Site
from depthscope.engine.fact_hits import Asked, contributions, probabilities_without
from depthscope.engine.fact_memory_findings import found
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import Part, Rows, Sum, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.materials.fact_memories import FactMemories
from depthscope.ranges import at_least, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.memories import memory_layers
from depthscope.runtime.model import Batch, Model


@dataclass(frozen=True)
class FactMemory:
    """Hits and misses of facts in the MLPs.

    Args:
        source, facts, others, text, texts, length: see `materials.fact_memories`; `facts` is its limit.
        fewest: prompts a cell needs.
    """

    source: str = ""
    facts: int = 0
    others: int = 8
    text: str = ""
    texts: int = 32
    length: int = 64
    fewest: int = 20

    def __post_init__(self) -> None:
        check_ranges(self, fewest=at_least(1, what="prompts of a cell"))
        self._material()

    def _material(self) -> FactMemories:
        return FactMemories(self.source, self.facts, self.others, self.text, self.texts, self.length)

    def needs(self, anatomy: Anatomy) -> Needs:
        """All hidden numbers of short prompts, and the last state."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so no answer can be read off its memories")
        if not anatomy.family.causal:
            raise Refused("it is no causal language model, so no answer follows a prompt")
        if not memory_layers(anatomy):
            raise Refused("its MLPs have no one last projection whose columns could be memories")
        sites = {f"L{k}.mlp_hidden" for k in memory_layers(anatomy)}
        return Needs(frozenset({*sites, f"L{anatomy.n_layers - 1}.resid_post"}), material=self._material())

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Sums of hidden numbers over running text; what neurons add in each prompt, and what is lost without them."""
        del given
        layers = memory_layers(model.anatomy)
        parts: dict[str, Part] = {"moments": _moments(batch, seen, layers)}
        last = seen[Site(model.anatomy.n_layers - 1, "resid_post")][:, -1]
        logits = model.head.logits(last).double().cpu()
        asked = Asked.of(seen.windows, logits.argmax(-1).tolist())
        if asked.rows:
            columns = contributions(model, seen, asked, layers)
            without = probabilities_without(model, batch, asked, columns, layers, seen.seed)
            columns = {**columns, "without": without, **_said(asked, logits[asked.rows], seen)}
            parts["prompts"] = Rows(np.array([w.index for w in asked.windows], np.uint64), columns, 10**7)
        return Tally(parts)

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Shares of hits, their differences, and what they are worth."""
        columns, moments = part(total, "prompts", Rows).columns, part(total, "moments", Sum)
        layers = np.flatnonzero(moments.count[0].sum(-1) > 0)
        packed = Sum(moments.total[:, layers], moments.count[:, layers])
        return found(columns, packed, layers, facts, self.fewest)


def _moments(batch: Batch, seen: View, layers: list[int]) -> Sum:
    """Sums and sums of squares over running text from position 1 on, [moment, layer, neuron]."""
    rows = [k for k, window in enumerate(seen.windows) if window.about["kind"] == "text"]
    used = batch.mask[rows].clone()
    used[:, :1] = False  # position 0 is a sink
    hidden = [seen[Site(k, "mlp_hidden")][rows][used].double() for k in layers]
    depth, wide = seen.seen.model.anatomy.n_layers, max(h.shape[-1] for h in hidden)
    total, count = np.zeros((2, depth, wide)), np.zeros((2, depth, wide), np.int64)
    for layer, h in zip(layers, hidden, strict=True):
        both = torch.stack([h.sum(0), h.square().sum(0)])
        total[:, layer, : h.shape[-1]] = both.cpu().numpy()
        count[:, layer, : h.shape[-1]] = len(h)
    return Sum(total, count)


def _said(asked: Asked, logits: torch.Tensor, seen: View) -> dict[str, np.ndarray]:
    """What is known of each prompt: kind, answer, what is said and how surely."""
    chosen = asked.ids[:, 1]
    rows = torch.arange(len(logits))
    return {
        "unit": np.array([seen.windows[k].document for k in asked.rows], dtype="U24"),
        "kind": np.array([w.about["kind"] for w in asked.windows], dtype="U8"),
        "cloze": np.array([w.about["cloze"] for w in asked.windows], dtype="U120"),
        "wanted": np.array([w.about["said"] for w in asked.windows], dtype="U40"),
        "answer": asked.ids[:, 0].numpy(),
        "said": chosen.numpy(),
        "confidence": logits.softmax(-1)[rows, chosen].numpy(),
    }
