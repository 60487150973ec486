"""Facts to be put into a model: what is asked, what should follow instead, and what should stay as it is.

A file of JSON lines, one fact a line: `prompt` with {} where the subject stands, `subject`, `answer` (what follows
now), `target` (what should follow), `paraphrases` (further prompts with {}), `neighbours` (prompts about other
subjects whose answers should stay).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from depthscope.errors import BadInput
from depthscope.materials.continuation import continued
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.rows import rows

PACKAGED = "insertions.jsonl"
COLUMNS = ("prompt", "subject", "answer", "target", "paraphrases", "neighbours")


@dataclass(frozen=True)
class Asked:
    """One prompt as ids, the place of the subject's last token in it, and the first ids of both answers.

    Args:
        ids: the prompt. at: the place. answer: ids of what follows now. target: ids of what should follow.
        start: where the prompt's own words begin, behind what stands before every text.
    """

    ids: tuple[int, ...]
    at: int
    answer: tuple[int, ...]
    target: tuple[int, ...]
    start: int = 0

    def behind(self, prefix: Sequence[int]) -> Asked:
        """The same prompt behind other words."""
        ids = (*self.ids[: self.start], *prefix, *self.ids[self.start :])
        return Asked(ids, self.at + len(prefix), self.answer, self.target, self.start)


@dataclass(frozen=True)
class Insertion:
    """A fact to be put in: the prompt, its paraphrases, prompts about others."""

    name: str
    prompt: Asked
    paraphrases: tuple[Asked, ...]
    neighbours: tuple[tuple[int, ...], ...]


def insertions(source: str, tokenizer: Any, before: Sequence[int] = ()) -> tuple[str, list[Insertion]]:  # noqa: ANN401
    """Where facts came from, and the facts in ids.

    Args:
        source: a path, see `materials.data.data_path`; "" is the packaged set. before: ids before each prompt.

    Raises:
        BadInput: for a row without one of COLUMNS, a prompt without {}, or a subject whose end is no token's end.
    """
    name, found = rows(source, PACKAGED, COLUMNS)
    made = [
        _insertion(f"{name} row {k}", row, tokenizer, tuple(before)) for k, row in enumerate(found, start=1)
    ]
    return name, made


def _insertion(where: str, row: Mapping[str, Any], tokenizer: Any, before: tuple[int, ...]) -> Insertion:  # noqa: ANN401
    subject, answer, target = (str(row[name]).strip() for name in ("subject", "answer", "target"))
    if not all((subject, answer, target)) or not isinstance(row["paraphrases"], list):
        raise BadInput(
            f"{where} needs a subject, an answer, a target and lists of paraphrases and neighbours: {dict(row)}"
        )
    asked = [
        _asked(where, str(text), subject, answer, target, tokenizer, before)
        for text in (row["prompt"], *row["paraphrases"])
    ]
    others = [(*before, *plain_ids(tokenizer, str(text).rstrip())) for text in row["neighbours"]]
    return Insertion(f"{subject}: {target}", asked[0], tuple(asked[1:]), tuple(others))


def _asked(
    where: str,
    text: str,
    subject: str,
    answer: str,
    target: str,
    tokenizer: Any,  # noqa: ANN401
    before: tuple[int, ...],
) -> Asked:
    if "{}" not in text:
        raise BadInput(f"{where}: {text!r} has no {{}} where the subject should stand")
    first = text.index("{}")
    words, end = text.replace("{}", subject).rstrip(), first + len(subject)
    ids, old = continued(tokenizer, words, answer)
    _, new = continued(tokenizer, words, target)
    head = plain_ids(tokenizer, words[:end])
    if ids[: len(head)] != head:
        raise BadInput(
            f"{where}: no token of {words!r} ends where {subject!r} does; word the prompt otherwise"
        )
    return Asked((*before, *ids), len(before) + len(head) - 1, tuple(old), tuple(new), len(before))
