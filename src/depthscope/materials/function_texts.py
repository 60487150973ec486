"""Sentences with a place for a word, as people write them: what a function vector meets outside of its own prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from depthscope.errors import BadInput
from depthscope.materials.rows import rows

PACKAGED = "function_texts.jsonl"
PLACE = "{input}"
TOKENS = 5
"""Tokens that are written after a sentence that does not say how many."""


@dataclass(frozen=True)
class Sentence:
    """The beginning of a text.

    Args:
        text: with one `{input}`. tokens: so many are written after it. tasks: whose inputs it is for; "" is for all
            tasks that no sentence names.
    """

    text: str
    tokens: int
    tasks: tuple[str, ...]

    def about(self, word: str) -> str:
        """With a word in its place."""
        return self.text.replace(PLACE, word)


def sentences_of(source: str = "") -> tuple[Sentence, ...]:
    """Sentences of a file of JSON lines with `text`, and where it matters `tokens` and `tasks`; "" is the packaged one.

    Raises:
        BadInput: for a text that does not hold `{input}` once, or a number of tokens below 1. What `rows` raises.
    """
    name, found = rows(source, PACKAGED, ("text",))
    made: list[Sentence] = []
    for number, row in enumerate(found, start=1):
        text, tokens = str(row["text"]), int(row.get("tokens", TOKENS))
        if text.count(PLACE) != 1 or tokens < 1:
            raise BadInput(
                f"{name} row {number} has {text.count(PLACE)} places {PLACE} and {tokens} tokens; each text has one "
                "place, and at least 1 token is written"
            )
        made.append(Sentence(text, tokens, tuple(row.get("tasks", ()))))
    return tuple(made)


def suited(every: Sequence[Sentence], task: str) -> tuple[Sentence, ...]:
    """The sentences that name a task, or those that name none."""
    own = tuple(one for one in every if task in one.tasks)
    return own or tuple(one for one in every if not one.tasks)
