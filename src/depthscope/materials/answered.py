"""Answered prompts: each with its gold answer, read up to the answer's last token but one.

The answer stands behind the prompt as ids: behind P tokens the marked positions P - 1 .. P - 2 + n predict its n
tokens. The last answer token predicts nothing that is asked for, so it is not read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.continuation import continued
from depthscope.materials.edges import edges
from depthscope.materials.rows import Row, rows
from depthscope.materials.spelling import text_of
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.model import Model


@dataclass(frozen=True)
class AnsweredPrompts:
    """Prompts with gold answers.

    Args:
        source: JSON lines with `prompt` and `answer`, where known `task` and `level`; "" is the packaged handful.
        limit: the most prompts, taken from the tasks in turn; 0 reads all.
        longest: prompts of more tokens, their answer included, are left out.
    """

    source: str = ""
    limit: int = 0
    longest: int = 128

    def __post_init__(self) -> None:
        check_ranges(self, limit=at_least(0, what="prompts"), longest=at_least(3, what="tokens"))

    @property
    def name(self) -> str:
        """The name of the material."""
        return "answered"

    def windows(self, model: Model, seed: int) -> Windows:
        """Prompts in the order of their tasks' turns, each its own unit; marked where answer tokens are predicted.

        `about` holds task, level, prompt and answer as text, `gold` (ids of the answer), `tokens` (each id as text) and
        `operands`: the positions of each number of the prompt, in order.

        Raises:
            BadInput: for a row without a prompt or an answer. EmptyMaterial: where no prompt fits.
            Refused: where the tokenizer drops the space before an answer.
        """
        del seed
        name, found = rows(self.source, "answered.jsonl", ("prompt", "answer"))
        before, _, words = edges(model.tokenizer, "auto", model.config.model_type)
        longest = min(self.longest, getattr(model.config, "max_position_embeddings", None) or self.longest)
        asked = in_turn([_checked(name, k, row) for k, row in enumerate(found, start=1)])
        fitting = self._fitting(asked, model, before, longest)
        kept = [window for _, window in zip(range(self.limit or len(asked)), fitting, strict=False)]
        if not kept:
            raise EmptyMaterial(
                f"{name}: each of its {len(asked)} prompts has fewer than 2 tokens or, with its answer, more than "
                f"{longest}; give other prompts or raise `longest`"
            )
        return Windows(tuple(kept), f"{name}, {len(kept)} of {len(asked)} prompts", words, 0)

    def _fitting(
        self, asked: Sequence[Row], model: Model, before: list[int], longest: int
    ) -> Iterator[Window]:
        number = 0
        for row in asked:
            prompt, answer = continued(model.tokenizer, row["prompt"], row["answer"])
            ids = (*before, *prompt, *answer[:-1])
            if 2 <= len(ids) < longest:
                yield _window(number, row, ids, answer, model)
                number += 1


def in_turn(asked: Sequence[Row]) -> list[Row]:
    """The first row of each task, then the second of each, and so on."""
    place: dict[str, int] = defaultdict(int)
    turns: list[tuple[int, int]] = []
    for k, row in enumerate(asked):
        turns.append((place[row["task"]], k))
        place[row["task"]] += 1
    return [asked[k] for _, k in sorted(turns)]


def _checked(name: str, number: int, row: Row) -> Row:
    texts = {key: str(row[key]).strip() if row[key] is not None else "" for key in ("prompt", "answer")}
    for key, text in texts.items():
        if not text:
            raise BadInput(
                f"{name} row {number} has the {key} {row[key]!r}; every prompt needs a gold answer"
            )
    return {**texts, "task": str(row.get("task", "prompts")), "level": row.get("level")}


def _window(number: int, row: Row, ids: tuple[int, ...], answer: list[int], model: Model) -> Window:
    first = len(ids) - len(answer)
    tokens = [text_of(model.tokenizer, [i]) for i in ids]
    about: dict[str, Any] = {
        **row, "gold": answer, "tokens": tokens, "operands": _numbers(tokens[: first + 1]),
    }  # fmt: skip
    return Window(number, f"prompt-{number:05d}", ids, tuple(range(first, len(ids))), about)


def _numbers(tokens: Sequence[str]) -> list[list[int]]:
    """Positions of each number: tokens with a digit that stand side by side are one."""
    found: list[list[int]] = []
    for position, token in enumerate(tokens):
        if any(c.isdigit() for c in token):
            joins = bool(found) and found[-1][-1] == position - 1 and not token[:1].isspace()
            found[-1].append(position) if joins else found.append([position])
    return found
