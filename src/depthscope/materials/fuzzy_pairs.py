"""Fuzzy pairs: words with labels, and a last word that matches one of them only by case, form, meaning or language.

A prompt is `A1 : B1`, one pair a line, and at its end `Aq :`, where Aq is a variant of one of the words before it.
Labels are drawn anew for each prompt, so nothing but the match says which comes next. The lists are our own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depthscope.errors import BadInput, UnknownName
from depthscope.materials.edges import edges
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.model import Model

_NOUNS = "river candle doctor mountain paper winter bottle garden"
_LISTS = {
    "same": (_NOUNS, _NOUNS),
    "case": (_NOUNS, _NOUNS.upper()),
    "inflection": (
        "walk sing carry write mouse child good knife",
        "walked sang carried wrote mice children better knives",
    ),
    "synonym": (
        "big quick begin sad car sofa rich error",
        "large fast start unhappy automobile couch wealthy mistake",
    ),
    "translation": (
        "dog house water bread night friend school heart",
        "chien maison eau pain nuit ami école cœur",
    ),
    "nonce": (
        "blicket dax wugly fenno zarp mibu toma kelf",
        "blickets daxen wuggly fennor zarpe mibbu tomas kelfin",
    ),
}
PAIRS: dict[str, tuple[tuple[str, str], ...]] = {
    name: tuple(zip(words.split(), variants.split(), strict=True))
    for name, (words, variants) in _LISTS.items()
}
"""Relation -> (word, its variant)."""
LABELS = ("red", "blue", "green", "gold", "black", "white", "pink", "grey")
_SALT = 0xF0_77


@dataclass(frozen=True)
class FuzzyPairs:
    """Prompts of several relations.

    Args:
        relations: which of PAIRS; empty takes all. prompts: of each. shown: pairs in a prompt.
    """

    relations: tuple[str, ...] = ()
    prompts: int = 16
    shown: int = 4

    def __post_init__(self) -> None:
        for name in self.relations:
            if name not in PAIRS:
                raise UnknownName("relation", name, PAIRS)
        check_ranges(self, prompts=at_least(1), shown=at_least(2, most=len(LABELS)))

    @property
    def name(self) -> str:
        """The file of ids."""
        return "fuzzy_pairs"

    def windows(self, model: Model, seed: int) -> Windows:
        """One window a prompt; `about` says relation, answer, labels' positions and ids, and where the words end.

        Raises:
            BadInput: where labels share their first token, so that they cannot be told apart.
        """
        before, _, words = edges(model.tokenizer, "auto", str(getattr(model.config, "model_type", "")))
        items: list[Window] = []
        for relation in self.relations or tuple(PAIRS):
            for number in range(self.prompts):
                draw = np.random.default_rng([seed, _SALT, list(PAIRS).index(relation), number])
                items.append(self._window(len(items), relation, number, before, model, draw))
        return Windows(tuple(items), "word pairs with labels", words, 0)

    def _window(
        self,
        index: int,
        relation: str,
        number: int,
        before: list[int],
        model: Model,
        draw: np.random.Generator,
    ) -> Window:
        pairs = [PAIRS[relation][k] for k in draw.permutation(len(PAIRS[relation]))[: self.shown]]
        labels = [
            plain_ids(model.tokenizer, f" {LABELS[k]}") for k in draw.permutation(len(LABELS))[: self.shown]
        ]
        common = [first for first in zip(*labels, strict=False) if len(set(first)) < len(labels)]
        at = len(common)  # labels of character tokenizers begin alike: the first token that tells them apart
        if min(map(len, labels)) <= at:
            raise BadInput(f"{model.name} reads labels as {labels}, no token tells them apart")
        answer = int(draw.integers(self.shown))
        ids, ends, places = list(before), [], []
        for (word, _), label in zip(pairs, labels, strict=True):
            ids += plain_ids(model.tokenizer, f"{word}")
            ends.append(len(ids) - 1)
            ids += plain_ids(model.tokenizer, " :")
            places.append(len(ids) + at)
            ids += label + plain_ids(model.tokenizer, "\n")
        ids += plain_ids(model.tokenizer, pairs[answer][1])
        ends.append(len(ids) - 1)
        ids += plain_ids(model.tokenizer, " :") + labels[answer][:at]
        about = {
            "relation": relation, "answer": answer, "places": places, "labels": [label[at] for label in labels],
            "ends": ends, "queries": [len(ids) - 1],
        }  # fmt: skip
        return Window(index, f"{relation}-{number:03d}", tuple(ids), (), about)
