"""Grammar heads: heads whose strongest attention follows a grammatical relation.

Question: Which heads find the word that a word depends on, and better than a rule that looks a fixed number of words
away?

Method: Sentences with known dependencies (gold or by spaCy) are read one by one. Attention between tokens becomes
attention between words: the mean over the tokens that ask, the sum over the tokens that are looked at. A head picks
the word with the most attention among those that it may pick. In a causal model each dependency is asked at its later
word: to_head, the dependent asks for its head; to_dependent, the head asks for a dependent of that relation. In an
encoder every dependent asks (to_head), and from_head is the word that attends most to it. The word itself, later
words of a causal model, special tokens and words that hold a sink are never picked; dependencies to them are left out.
The rivals are the fixed offsets -6 to -1 (encoders -5 to 5) under the same rules. For each relation the best head is
chosen on one half of the sentences (by hash) and judged on the other: relation_accuracy. Its rival is the offset that
is best over all sentences: relation_offset_accuracy, relation_gain. best_accuracy and gain do so for each head with the
relation that suits it best. uas is the share of all questions of the second half that the chosen heads answer;
single_head_uas that of the one best head. punct and root count nowhere. tree_uas knows no relation: all words but
punctuation and those that hold a sink are joined to the tree with the most attention (larger direction of each pair),
which hangs from the true root, and the share of words on the right head is counted. tree_rival_uas is that of trees
without a model: every word on the word o places away (the root where there is none), next to next, or all on the root.
tree_best_uas is the head that was best on the first half, tree_gain what it has over the best rival.

How to read: A gain above zero with its interval is a head that knows more than distance. relation_seen minus
relation_accuracy is what choosing among many heads makes up. relation_sink_none minus relation_sink_with says whether
the chosen head rests on a sink more often where a word has no such partner.

What misleads: Knowing the relation and choosing the head for it is half of a parse: uas is no parser's score; a tree is
given its root, and long sentences weigh more in it. Words
that follow one another mostly stand next to one another, so accuracies without the offset beside them say little.
Small relations are chosen badly; those with too few questions in a half are left out. A pick says nothing of how much
attention is behind it: see relation_weight.

Source: Clark et al. 2019 (arXiv 1906.04341), sections 4.1 and 4.2; Chen et al. 2024 (2309.07311) on the implicit
parse; Htut et al. 2019 (1911.12246) on trees of attention; Universal Dependencies for the relations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.attending import must_attend
from depthscope.engine.grammar_findings import GrammarFindings, NoItems
from depthscope.engine.grammar_items import Asked, Item, Sentences, head_hits, offset_hits
from depthscope.engine.grammar_trees import GoldTrees, tree_findings
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.shard import hashed
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.engine.view import View
from depthscope.materials.parses import Parses
from depthscope.measures.dependency import spanning_trees
from depthscope.ranges import at_least, check_names, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

ROOM = 4096
"""Items a sentence may have."""


@dataclass(frozen=True)
class GrammarHeads:
    """Heads against dependencies.

    Args:
        source, parser, sentences: see `materials.parses`; "agreement" is the synthetic grammar, which needs no data,
            "" the packaged sentences, a few examples.
        query: "mean" over the tokens of a word, or "last": its last token asks.
        relations: labels that must occur in the parses. fewest: questions a relation needs in each half.
    """

    source: str = "agreement"
    parser: str = "gold"
    sentences: int = 400
    query: str = "mean"
    relations: tuple[str, ...] = ()
    fewest: int = 10

    def __post_init__(self) -> None:
        check_names(self, query=("mean", "last"))
        check_ranges(self, sentences=at_least(1), fewest=at_least(1))

    def needs(self, anatomy: Anatomy) -> Needs:
        """Attention rows of every token of parsed sentences; refused where no layer has softmax attention."""
        must_attend(anatomy)
        material = Parses(self.source, self.parser, self.sentences, relations=tuple(self.relations))
        return Needs(every_query=1, material=material)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One row a question with the right picks of all heads, and how often heads rest on a sink."""
        del batch, given
        anatomy = model.anatomy
        sentences = Sentences.of(seen.windows, seen.sinks.cpu(), seen.queries.cpu(), anatomy.family.causal)
        items = sentences.items()
        n_words = sentences.allowed.shape[1]
        size = (anatomy.n_layers, anatomy.n_heads)
        asked = Asked.of(items, n_words, sentences.causal)
        hits = np.zeros((len(items), *size), np.uint8)
        weight = np.full((len(items), *size), np.nan, np.float16)
        rests = np.full((len(seen.windows), n_words, *size), np.nan)
        trees = GoldTrees.of(sentences)
        in_trees = np.full((len(seen.windows), *size), np.nan)
        for layer in anatomy.attention_layers:
            rows = seen.pattern(layer).cpu()
            attention = sentences.attention(rows, self.query == "last")
            found = head_hits(sentences, asked, rows, attention)
            hits[:, layer], weight[:, layer] = found[0].numpy(), found[1].numpy()
            in_trees[:, layer] = trees.hits(spanning_trees(attention, trees.there, trees.root)).numpy()
            rests[:, :, layer] = found[2].permute(0, 2, 1).double().numpy()
        columns = self._columns(items, seen, hits, weight, rests) | {"offset": offset_hits(sentences, asked)}
        units = [unit for unit in seen.units for _ in range(n_words)]
        return Tally({
            "items": Rows(_keys(items, seen), columns, 10**7),
            "rests": PerDocument.of(units, rests.reshape(-1, *size)),
            "trees": Rows(np.array([w.index for w in seen.windows], np.uint64), trees.columns(in_trees) | {
                "unit": np.asarray(seen.units, dtype=str), "half": _halves(seen),
            }, 10**7),
        })  # fmt: skip

    def _columns(
        self, items: list[Item], seen: View, hits: np.ndarray, weight: np.ndarray, rests: np.ndarray
    ) -> dict[str, np.ndarray]:
        rows = np.array([i.row for i in items], np.int64)
        spelt = [seen.windows[i.row].about["spelt"] for i in items]
        return {
            "unit": np.asarray(seen.units, dtype=str)[rows],
            "half": _halves(seen)[rows],
            "relation": np.array([i.relation for i in items], dtype="U24"),
            "mode": np.array([i.mode for i in items], np.int8),
            "hit": hits,
            "weight": weight,
            "rest": rests[rows, [i.word for i in items]].astype(np.float16),
            "word": np.array([s[i.word] for s, i in zip(spelt, items, strict=True)], dtype="U24"),
            "partner": np.array([s[i.right[-1]] for s, i in zip(spelt, items, strict=True)], dtype="U24"),
        }

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Chosen on one half of the sentences, judged on the other."""
        items, rests = part(total, "items", Rows), part(total, "rests", PerDocument)
        if not len(items.key):
            raise NoItems(f"no dependency could be asked for: {len(rests.units)} sentences are too short")
        found = GrammarFindings.of(items.columns, rests, facts, self.fewest).findings()
        trees = tree_findings(part(total, "trees", Rows).columns, facts)
        return replace(found, measurements={**found.measurements, **{m.name: m for m in trees}})


def _halves(seen: View) -> np.ndarray:
    """The half of each sentence, by hash: 0 for choosing heads, 1 for judging them."""
    index = np.array([w.index for w in seen.windows], np.int64)
    half = (hashed(index, np.zeros_like(index), seen.seed) >> np.uint64(33)) & np.uint64(1)
    return half.astype(np.int8)


def _keys(items: list[Item], seen: View) -> np.ndarray:
    """A number for each question: its sentence's, then its own among those of the sentence."""
    count: dict[int, int] = {}
    keys: list[int] = []
    for item in items:
        place = count[item.row] = count.get(item.row, -1) + 1
        keys.append(seen.windows[item.row].index * ROOM + place)
    return np.asarray(torch.tensor(keys, dtype=torch.int64).numpy(), np.uint64)
