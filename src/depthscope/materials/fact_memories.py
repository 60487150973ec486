"""Prompts that ask for facts, the same prompts about names that nobody bears, and running text as their background.

Every prompt ends where its answer should follow, and says where its subject ends: there and at its end it is asked what
an MLP's memories do. The name of an invented subject is made of syllables, so nothing can be remembered of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscope.errors import EmptyMaterial
from depthscope.materials.continuation import continued
from depthscope.materials.edges import edges
from depthscope.materials.facts import Fact, facts, in_turn
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.text import read
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.model import Model

SYLLABLES = (
    "bra", "dov", "el", "fen", "gul", "hir", "jas", "kel", "lum", "mor", "nad", "or", "pel", "qua", "ril", "sov",
    "tam", "ul", "vek", "wyn", "yal", "zor",
)  # fmt: skip
"""What invented names are made of."""


@dataclass(frozen=True)
class FactMemories:
    """Facts, each once, then as many with invented subjects, then running text.

    Args:
        source: files of facts as in `materials.facts`, their rows with a `subject` that stands in `cloze`; "" is the
            packaged set. limit: the most facts, taken from the relations in turn; 0 reads all.
        others: answers of other facts that each fact's memories are held against.
        text: running text, "" for the packaged sample. texts, length: windows of it, and tokens of each.
    """

    source: str = ""
    limit: int = 0
    others: int = 8
    text: str = ""
    texts: int = 32
    length: int = 64

    def __post_init__(self) -> None:
        check_ranges(
            self, limit=at_least(0), others=at_least(1), texts=at_least(1), length=at_least(4, what="tokens")
        )

    @property
    def name(self) -> str:
        """The name of the material."""
        return "fact_memories"

    def windows(self, model: Model, seed: int) -> Windows:
        """All prompts and texts; units are facts, invented subjects, texts.

        Raises:
            EmptyMaterial: where fewer than 2 facts can be used, or no text has a window.
        """
        name, found = facts(self.source)
        before, _, words = edges(model.tokenizer, "auto", model.config.model_type)
        kept = list(self._usable(in_turn(found, self.limit, seed), model, before, seed))
        real = [k for k, (kind, *_) in enumerate(kept) if kind == "fact"]
        if len(real) < 2:
            raise EmptyMaterial(
                f"{name} gives {len(real)} facts to {model.name}: rows need a subject that stands in the cloze, ends "
                "with a token, and does not hold the answer"
            )
        pool = sorted({about["answer"] for _, _, about in kept})
        if len(pool) < 2:
            raise EmptyMaterial(
                f"the answers of the {len(real)} facts of {name} all begin with one token of {model.name}, so none can "
                "be held against another; give more facts"
            )
        items: list[Window] = []
        for kind, ids, about in kept:
            draw = np.random.default_rng([seed, 5, len(items)])
            free = [k for k in pool if k != about["answer"]]
            others = [free[k] for k in draw.permutation(len(free))[: self.others]]
            unit = f"{kind}-{about.pop('number'):05d}"
            items.append(Window(len(items), unit, tuple(ids), (), {"kind": kind, "others": others, **about}))
        items += self._texts(model, before, len(items))
        used = f"{name}, {len(real)} of {len(found)} facts, as many invented"
        return Windows(tuple(items), used, words, 0)

    def _usable(
        self, found: Sequence[Fact], model: Model, before: Sequence[int], seed: int
    ) -> Iterator[tuple[str, list[int], dict[str, Any]]]:
        """Each usable fact and behind it its twin: kind, ids, and what is known of it."""
        taken = 0
        for number, fact in enumerate(found):
            if self.limit and taken == self.limit:
                return
            twin = fact.cloze.replace(fact.subject, invented(number, seed)) if fact.subject else ""
            real = self._asked(fact, fact.cloze, fact.subject, model, before)
            other = self._asked(fact, twin, invented(number, seed), model, before)
            if real is None or other is None:
                continue
            taken += 1
            for kind, (ids, about) in (("fact", real), ("invented", other)):
                yield kind, ids, {**about, "number": number}

    @staticmethod
    def _asked(
        fact: Fact, cloze: str, subject: str, model: Model, before: Sequence[int]
    ) -> tuple[list[int], dict[str, Any]] | None:
        """Ids of a prompt and what is known of it; None where it cannot be used."""
        if fact.unfit() or not subject or subject not in cloze:
            return None
        end = cloze.index(subject) + len(subject)
        prompt, answer = continued(model.tokenizer, cloze, fact.answer)
        head = plain_ids(model.tokenizer, cloze[:end])
        if prompt[: len(head)] != head:
            return None
        ids = [*before, *prompt]
        about = {"relation": fact.relation, "cloze": cloze, "said": fact.answer}
        return ids, {"subject": len(before) + len(head) - 1, "answer": answer[0], **about}

    def _texts(self, model: Model, before: Sequence[int], first: int) -> list[Window]:
        _, documents = read(self.text or None)
        found: list[Window] = []
        for document in documents:
            ids = plain_ids(model.tokenizer, document.text)
            ids = ids[: self.length - len(before)]
            if len(before) + len(ids) == self.length:
                about = {"kind": "text"}
                found.append(Window(first + len(found), f"text-{len(found):05d}", (*before, *ids), (), about))
            if len(found) == self.texts:
                return found
        if not found:
            raise EmptyMaterial(
                f"no text has {self.length} tokens, of which the background of memories is taken"
            )
        return found


def invented(number: int, seed: int) -> str:
    """A name of two words that nobody bears."""
    draw = np.random.default_rng([seed, 9, number])
    return " ".join(
        "".join(SYLLABLES[k] for k in draw.choice(len(SYLLABLES), count, replace=False)).capitalize()
        for count in (2, 3)
    )
