"""Needles: a sentence hidden in a long text, a question about it, and the answer that stands in it word for word.

A prompt is the haystack up to a depth, the needle, the rest of the haystack, the question, and the words that open
the needle, so that a model without instructions goes on with the answer as well. All parts are joined as token ids:
where the answer stands in the needle is known by construction and never searched for. Behind the prompt follow the
answer's ids, each of which is predicted from the right ones before it. Source: Wu et al. 2024 (arXiv 2404.15574),
whose needles are irrelevant to the haystack; a depth is moved back to the end of a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscope.errors import BadInput
from depthscope.materials.continuation import continued
from depthscope.materials.edges import edges
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.repeats import Repeats
from depthscope.materials.rows import rows
from depthscope.materials.text import read
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_names, check_ranges
from depthscope.runtime.model import Model

TEMPLATE = "\n\nQuestion: {}\nAnswer:"
"""What stands between the haystack and the opening words of the needle."""
SHORT = "short"
PARTS = ("all", "even", "odd")
PROSE = ("prose", "news", "expository")
"""Registers of the packaged text that are hay: plain English without code, formulas or talk."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Needle:
    """A sentence, a question about it, the words before the answer, and the answer, which ends the sentence."""

    opening: str
    answer: str
    question: str

    @classmethod
    def of(cls, where: str, row: dict[str, Any]) -> Needle:
        """From a row with `needle`, `question` and `answer` (or `real_needle`).

        Raises:
            BadInput: for an answer that the needle does not hold, or that opens it.
        """
        sentence, answer = str(row["needle"]).strip(), str(row.get("answer", row.get("real_needle", "")))
        answer = answer.strip().rstrip(".")
        at = sentence.lower().find(answer.lower()) if answer else -1
        if at < 1:
            raise BadInput(
                f"{where}: the needle {sentence[:60]!r} must hold the answer {answer[:60]!r} word for word, behind "
                "words that open it"
            )
        return cls(sentence[:at].strip(), sentence[at : at + len(answer)], str(row["question"]))


@dataclass(frozen=True)
class Needles:
    """Needles at several depths of texts of several lengths.

    Args:
        source: a file of JSON lines, see `Needle.of`; "" is the packaged set, "short" one of short answers, for
            models that read little. haystack: text, as for the run; "" is the
            packaged prose.
        lengths: tokens of the haystack, the needle included. depths: shares of it that stand before the needle.
        limit: the most needles, 0 for all. part: "all", "even" or "odd" places of the file, to choose heads by one half
            and to judge them by the other.
        echo: tokens of a random block that comes four times, read beside the needles; 0 leaves it out. echoes: blocks.
    """

    source: str = ""
    haystack: str = ""
    lengths: tuple[int, ...] = (256, 512)
    depths: tuple[float, ...] = (0.1, 0.5, 0.9)
    limit: int = 0
    part: str = "all"
    echo: int = 0
    echoes: int = 2

    def __post_init__(self) -> None:
        check_names(self, part=PARTS)
        check_ranges(
            self,
            lengths=at_least(1, what="tokens"),
            depths=at_least(0, most=1, what="shares of the haystack"),
            limit=at_least(0, what="needles"),
            echo=at_least(0, what="tokens"),
            echoes=at_least(0, what="blocks"),
        )

    @property
    def name(self) -> str:
        """The file of ids."""
        return "needles"

    def windows(self, model: Model, seed: int) -> Windows:
        """One window a needle, length and depth, then the repeated blocks.

        `about` says kind, needle, length, depth, span (first and last but one position of the answer in the haystack),
        gold ids and the answer; marks and queries are the positions that predict the answer. Units are needles.

        Raises:
            BadInput: for a prompt that does not fit the model, a needle longer than the haystack, or too little hay.
        """
        found = self.needles()
        hay, where = self._hay(model)
        items: list[Window] = []
        for number, needle in found:
            for length in sorted(set(self.lengths)):
                for depth in sorted(set(self.depths)):
                    items.append(_window(len(items), model, hay, number, needle, length, depth))
        words = edges(model.tokenizer, "auto", str(getattr(model.config, "model_type", "")))[2]
        if self.echo:
            items += _renumbered(Repeats(0, self.echo, self.echoes).windows(model, seed), len(items))
        said = f"{len(found)} needles in {where}"
        return Windows(tuple(items), said, words, 0)

    def needles(self) -> list[tuple[int, Needle]]:
        """The chosen needles with their places in the file."""
        packaged = "needles_short.jsonl" if self.source == SHORT else "needles.jsonl"
        source = "" if self.source == SHORT else self.source
        name, found = rows(source, packaged, ("needle", "question"))
        every = [(k, Needle.of(f"{name} row {k + 1}", dict(row))) for k, row in enumerate(found)]
        kept = [(k, n) for k, n in every if self.part == "all" or k % 2 == (self.part == "odd")]
        if not kept:
            raise BadInput(f"{name} has {len(every)} needles, none at {self.part} places; use part=all")
        return kept[: self.limit or None]

    def _hay(self, model: Model) -> tuple[list[list[int]], str]:
        """Sentences of the haystack as ids, as many as the longest one needs."""
        where, documents = read(self.haystack or None)
        texts = [d.text for d in documents if self.haystack or d.name.startswith(PROSE)]
        sentences: list[list[int]] = []
        needed = max(self.lengths)
        for text in texts:
            for sentence in _SENTENCE.split(" ".join(text.split())):
                if needed > 0 and sentence:
                    sentences.append(plain_ids(model.tokenizer, f" {sentence}"))
                    needed -= len(sentences[-1])
        if needed > 0:
            raise BadInput(
                f"{where} is {needed} tokens too short for a haystack of {max(self.lengths)}; give another one, or "
                "shorter lengths"
            )
        return sentences, where


def _window(
    index: int, model: Model, hay: list[list[int]], number: int, needle: Needle, length: int, depth: float
) -> Window:
    before = edges(model.tokenizer, "auto", str(getattr(model.config, "model_type", "")))[0]
    opening, answer = continued(model.tokenizer, f" {needle.opening}", needle.answer)
    end = plain_ids(model.tokenizer, ".")
    room = length - len(opening) - len(answer) - len(end)
    if room < 0:
        raise BadInput(
            f"needle {number + 1} has {length - room} tokens, the haystack {length}; give longer lengths"
        )
    first, rest = cut(hay, room, depth)
    start = len(before) + len(first) + len(opening)
    asked = plain_ids(model.tokenizer, TEMPLATE.format(needle.question))
    prompt = [*before, *first, *opening, *answer, *end, *rest, *asked, *opening]
    limit = int(getattr(model.config, "max_position_embeddings", None) or 10**9)
    if len(prompt) + len(answer) > limit:
        raise BadInput(
            f"a haystack of {length} tokens with its question takes {len(prompt) + len(answer)} positions, "
            f"{model.name} has {limit}; give shorter lengths"
        )
    marks = tuple(range(len(prompt) - 1, len(prompt) - 1 + len(answer)))
    about = {
        "kind": "needle", "needle": number, "length": length, "depth": depth, "span": [start, start + len(answer)],
        "gold": answer, "answer": needle.answer, "queries": list(marks), "prompt": len(prompt),
    }  # fmt: skip
    return Window(index, f"needle-{number:03d}", (*prompt, *answer), marks, about)


def cut(hay: Sequence[Sequence[int]], room: int, depth: float) -> tuple[list[int], list[int]]:
    """The first `room` ids of the haystack in two parts, cut at the last end of a sentence up to that depth.

    Depth 0 puts nothing before the cut, depth 1 all.
    """
    ids = [i for sentence in hay for i in sentence][:room]
    ends = np.cumsum([0, *(len(sentence) for sentence in hay)])
    wanted = int(room * depth)
    at = room if depth == 1 else int(ends[ends <= wanted].max())
    return ids[:at], ids[at:]


def _renumbered(blocks: Windows, start: int) -> list[Window]:
    return [Window(start + k, w.document, w.ids, w.marks, w.about) for k, w in enumerate(blocks.items)]
