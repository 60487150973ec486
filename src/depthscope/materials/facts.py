"""Facts: prompts that a known answer follows, and words of running text in equal shape as their control.

Each window is a prompt and its answer as ids. Every answer token is predicted from the right tokens before it, so
one pass shows the recall of the whole answer: behind P tokens the positions P - 1 .. P - 2 + n predict n of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.continuation import continued
from depthscope.materials.edges import edges
from depthscope.materials.rows import Row, rows
from depthscope.materials.text import Document, read
from depthscope.materials.window import Window, Windows
from depthscope.runtime.model import Model

LONGEST = 8
"""Answers of more tokens are left out."""
LEFT_OUT = ("answer in the prompt", "answer is a number", "answer too long", "prompt too long")


@dataclass(frozen=True)
class Fact:
    """One fact: a prompt, its answer, how often the source states it, and whom it is about where the source says so."""

    cloze: str
    answer: str
    relation: str
    weight: int
    aliases: tuple[str, ...] = ()
    subject: str = ""

    def unfit(self) -> str:
        """Why the fact is left out, or nothing. Tokenizers cut numbers into digits, of which the first says little."""
        if re.fullmatch(r"[\d\s.,]+", self.answer):
            return "answer is a number"
        return "answer in the prompt" if self.gives_itself_away() else ""

    def gives_itself_away(self) -> bool:
        """True where the prompt holds the answer, or another name of it, as words."""
        names = (self.answer, *self.aliases)
        return any(
            re.search(rf"(?<!\w){re.escape(n.strip())}(?!\w)", self.cloze, re.IGNORECASE) for n in names
        )


@dataclass(frozen=True)
class FactPrompts:
    """Prompts with their answers, each fact once; and as many words of running text, where asked.

    Args:
        source: files of JSON lines with `cloze` and `answer`, where known `relation` and `aliases`, with commas between
            them; "" is the packaged set. A (cloze, answer) that occurs twice is one fact of weight 2.
        limit: the most facts, taken from the relations in turn; 0 reads all.
        control: also read words of running text with the same number of tokens behind as many words of context.
        text: where the running text is; "" is the packaged sample.
    """

    source: str = ""
    limit: int = 0
    control: bool = True
    text: str = ""

    @property
    def name(self) -> str:
        """The name of the material."""
        return "facts"

    def windows(self, model: Model, seed: int) -> Windows:
        """Facts in the order of their relations' turns, then their controls; units are facts.

        Raises:
            BadInput: for a row without cloze or answer, or with an empty one. EmptyMaterial: where no fact can be used.
            Refused: where the tokenizer drops the space before an answer.
        """
        name, found = facts(self.source)
        before, _, words = edges(model.tokenizer, "auto", model.config.model_type)
        left_out: dict[str, int] = dict.fromkeys(LEFT_OUT, 0)
        kept = list(self._usable(in_turn(found, self.limit, seed), model, before, left_out))
        if not kept:
            said = ", ".join(f"{n} {why}" for why, n in left_out.items() if n)
            raise EmptyMaterial(f"{name} gives no fact to {model.name}: {said}")
        items = kept + (self._controls(kept, model, before, seed) if self.control else [])
        items[0].about["left_out"] = [left_out[why] for why in LEFT_OUT]
        numbered = tuple(w.window(k) for k, w in enumerate(items))
        return Windows(numbered, f"{name}, {len(kept)} of {len(found)} facts", words, 0)

    def _usable(
        self, found: Sequence[Fact], model: Model, before: list[int], left_out: dict[str, int]
    ) -> Iterator[Asked]:
        longest = getattr(model.config, "max_position_embeddings", None) or 10**9
        taken = 0
        for number, fact in enumerate(found):
            if self.limit and taken == self.limit:
                return
            why = fact.unfit()
            if why:
                left_out[why] += 1
                continue
            prompt, answer = continued(model.tokenizer, fact.cloze, fact.answer)
            if len(answer) > LONGEST or len(before) + len(prompt) + len(answer) > longest:
                left_out["answer too long" if len(answer) > LONGEST else "prompt too long"] += 1
                continue
            taken += 1
            about = {"kind": "fact", "length": len(answer), "weight": fact.weight, "relation": fact.relation}
            about |= {"cloze": fact.cloze, "answer": fact.answer}
            yield Asked(f"fact-{number:05d}", before + prompt, answer, about)

    def _controls(self, kept: Sequence[Asked], model: Model, before: list[int], seed: int) -> list[Asked]:
        """For each fact a word of running text, of as many tokens, behind as many words; fewer where text runs out."""
        _, documents = read(self.text or None)
        pool = Pool(documents, model.tokenizer, seed)
        found: list[Asked] = []
        for fact in kept:
            match = pool.take(fact.about["length"], len(fact.about["cloze"].split()))
            if match is not None:
                prompt, answer, about = match
                found.append(Asked(f"word-{len(found):05d}", before + prompt, answer, about))
        return found


@dataclass(frozen=True)
class Asked:
    """A prompt and its answer as ids, before it has a number."""

    unit: str
    prompt: list[int]
    answer: list[int]
    about: dict[str, Any]

    def window(self, index: int) -> Window:
        """The window, marked where its answer tokens are predicted."""
        first = len(self.prompt) - 1
        marks = tuple(range(first, first + len(self.answer)))
        return Window(index, self.unit, (*self.prompt, *self.answer), marks, self.about)


class Pool:
    """Words of running text with their context, by number of tokens; each is given out once."""

    def __init__(self, documents: Sequence[Document], tokenizer: Any, seed: int) -> None:  # noqa: ANN401
        self.tokenizer = tokenizer
        self.spots: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
        length: dict[str, int] = {}
        for document in documents:
            for word in re.finditer(r"(?<= )[^\W\d_]{2,}(?= )", document.text):
                if word[0] not in length:
                    length[word[0]] = len(continued(tokenizer, "the", word[0])[1])
                self.spots[length[word[0]]].append((document.text, word.start(), word.end()))
        draw = np.random.default_rng(seed)
        for n, spots in self.spots.items():
            self.spots[n] = [spots[k] for k in draw.permutation(len(spots))]

    def take(self, tokens: int, context: int) -> tuple[list[int], list[int], dict[str, Any]] | None:
        """Prompt, word and facts of a word of that many tokens behind `context` other words; None if none is left."""
        while self.spots[tokens]:
            text, start, end = self.spots[tokens].pop()
            before = text[:start].split("\n")[-1].split()[-context:]
            repeated = text[start:end].lower() in " ".join(before).lower()
            if len(before) == context and not repeated:
                prompt, word = continued(self.tokenizer, " ".join(before), text[start:end])
                if len(word) == tokens:
                    about = {"kind": "continuation", "length": tokens, "weight": 1, "relation": ""}
                    return prompt, word, about | {"cloze": " ".join(before), "answer": text[start:end]}
        return None


def facts(source: str) -> tuple[str, list[Fact]]:
    """Where facts came from and the facts, each (cloze, answer) once with its weight.

    Rows that say of themselves that they are no facts (`relation_type` is "bias") are passed over.

    Raises:
        BadInput: for a row without text in `cloze` or `answer`.
    """
    read = [rows(path.strip(), "facts.jsonl", ("cloze", "answer")) for path in source.split(",")]
    first: dict[tuple[str, str], Row] = {}
    weight: dict[tuple[str, str], int] = defaultdict(int)
    for name, found in read:
        for number, row in enumerate(found, start=1):
            if row.get("relation_type") != "bias":
                key = _key(name, number, row)
                first.setdefault(key, row)
                weight[key] += 1
    return ", ".join(name for name, _ in read), [
        Fact(
            *key,
            str(row.get("relation", "")),
            weight[key],
            tuple(map(str, row.get("aliases", ()))),
            str(row.get("subject", "")),
        )
        for key, row in first.items()
    ]


def _key(name: str, number: int, row: Row) -> tuple[str, str]:
    for column in ("cloze", "answer"):
        if not isinstance(row[column], str) or not row[column].strip():
            raise BadInput(
                f"{name} row {number} has the {column} {row[column]!r}; every fact needs a prompt and an answer"
            )
    return row["cloze"].rstrip(), row["answer"].strip()


def in_turn(found: Sequence[Fact], limit: int, seed: int) -> list[Fact]:
    """All facts where all are read; else the relations in turn, so that none crowds the others, in random order."""
    if not limit or limit >= len(found):
        return list(found)
    order = np.random.default_rng(seed).permutation(len(found))
    place: dict[str, int] = defaultdict(int)
    turns: list[tuple[int, int]] = []
    for k in order:
        relation = found[k].relation
        turns.append((place[relation], int(k)))
        place[relation] += 1
    return [found[k] for _, k in sorted(turns)]
