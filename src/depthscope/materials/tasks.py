"""Tasks: prompts with right answers, by which a changed model is held to the intact one.

A file of JSON lines, one item a line: `task` (a name), `kind` (choice, short_answer, generation or math), `prompt` and
`answer` (a text or a number, or a list of which any one counts); `options` where the kind is choice. Optional: `id`,
`scorer`, `must_pass`; and, the same in every item of a task, `stop`, `length` and `critical`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from depthscope.errors import BadInput, UnknownName
from depthscope.materials.rows import rows

Kind = Literal["choice", "short_answer", "generation", "math"]
Scorer = Literal["exact", "contains", "number", "letter"]
KINDS: Mapping[Kind, tuple[Scorer, str, int]] = {
    "choice": ("letter", "\n", 8),
    "short_answer": ("contains", "\n", 16),
    "generation": ("contains", "", 128),
    "math": ("number", "\n\n", 256),
}
"""What a kind has where the file does not say: scorer, text that ends an answer, longest answer in tokens."""
SCORERS: tuple[Scorer, ...] = ("exact", "contains", "number", "letter")
NEEDED = 100
"""Items a task needs: with fewer, only losses of more than about 4 points of 100 can be told from chance."""
_NUMBER = re.compile(r"(?:(?<!\w)-)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")  # a minus behind a digit is a difference
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Item:
    """One prompt.

    Args:
        id: unique in its task. answers: any of them is right; for a choice, the text of the right option.
        options: what can be chosen. scorer: how what the model wrote is judged.
        must_pass: an item that the intact model gets right and a changed one may not get wrong.
    """

    id: str
    prompt: str
    answers: tuple[str, ...]
    scorer: Scorer
    options: tuple[str, ...] = ()
    must_pass: bool = False

    @property
    def gold(self) -> int:
        """Place of the right option."""
        return self.options.index(self.answers[0])


@dataclass(frozen=True)
class Task:
    """Items of one kind.

    Args:
        stop: a text that ends an answer, "" where only the model ends it. length: most tokens of an answer.
        critical: held to half the margin of other tasks.
    """

    name: str
    kind: Kind
    items: tuple[Item, ...]
    stop: str = ""
    length: int = 64
    critical: bool = False

    @property
    def hash(self) -> str:
        """A digest of everything that scores depend on."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    def only(self, ids: Iterable[str]) -> Task:
        """The task with some of its items, in their order."""
        wanted = set(ids)
        return replace(self, items=tuple(item for item in self.items if item.id in wanted))

    def halves(self, seed: int = 0) -> tuple[Task, Task]:
        """Two halves by a hash of each item's id: one to choose by, one for the figure that is reported.

        The hash does not depend on the order of the file; of an odd number the second half has one more.
        """
        order = sorted(
            self.items, key=lambda i: hashlib.sha256(f"{seed}:{self.name}:{i.id}".encode()).digest()
        )
        first = {item.id for item in order[: len(order) // 2]}
        return self.only(first), self.only(item.id for item in self.items if item.id not in first)


def load_tasks(source: str | Path, needed: int = NEEDED) -> tuple[Task, ...]:
    """The tasks of a file, in order of first appearance.

    Args:
        source: a path, or one below the data folder. needed: the fewest items a task may have.

    Raises:
        BadInput: for a missing file, a line that is no JSON, an item without prompt or answer, options that do not
            hold the answer, settings that differ within a task, two items of one id, or too few items.
        UnknownName: for an unknown kind or scorer.
    """
    if not str(source):
        raise BadInput("tasks need a file of JSON lines; the name given is empty")
    name, found = rows(str(source), "", ("task", "kind", "prompt"))
    named: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for number, row in enumerate(found, start=1):
        named.setdefault(str(row["task"]), []).append((number, row))
    tasks = tuple(_task(name, task, numbered) for task, numbered in named.items())
    few = [f"{task.name} has {len(task.items)}" for task in tasks if len(task.items) < needed]
    if few:
        raise BadInput(
            f"{name}: a task needs {needed} items, {', '.join(few)}; add items, or ask for fewer knowing that "
            "intervals get wide"
        )
    return tasks


def _task(file: str, name: str, numbered: Sequence[tuple[int, Mapping[str, Any]]]) -> Task:
    said = {
        key: {repr(row.get(key)) for _, row in numbered} for key in ("kind", "stop", "length", "critical")
    }
    mixed = [key for key, values in said.items() if len(values) > 1]
    if mixed:
        raise BadInput(
            f"{file}: the items of {name!r} differ in {', '.join(mixed)}; give them different task names"
        )
    row = numbered[0][1]
    kind = row["kind"]
    if kind not in KINDS:
        raise UnknownName(f"kind of task in {file}", str(kind), KINDS)
    _, stop, length = KINDS[kind]
    items = tuple(_item(f"{file} row {number}", number, row, kind) for number, row in numbered)
    ids = [item.id for item in items]
    twice = next((i for i in ids if ids.count(i) > 1), None) if len(set(ids)) < len(ids) else None
    if twice is not None:
        raise BadInput(f"{file}: two items of {name!r} have the id {twice!r}")
    length = int(row.get("length") or length)
    if length < 1:
        raise BadInput(f"{file}: {name!r} asks for answers of {length} tokens; give 1 or more")
    return Task(name, kind, items, str(row.get("stop", stop)), length, bool(row.get("critical")))


def _item(where: str, number: int, row: Mapping[str, Any], kind: Kind) -> Item:
    prompt, answers = row["prompt"], _answers(row.get("answer"))
    if not isinstance(prompt, str) or not prompt.strip():
        raise BadInput(f"{where} has no prompt text, but {prompt!r}")
    if not answers:
        raise BadInput(f"{where} has no answer ({row.get('answer')!r}); an item without one cannot be scored")
    scorer = cast(Scorer, row.get("scorer") or KINDS[kind][0])
    if scorer not in SCORERS:
        raise UnknownName(f"scorer in {where}", str(scorer), SCORERS)
    options = tuple(str(option) for option in row.get("options") or ())
    if kind == "choice":
        answers = (_chosen(where, options, answers[0]),)
    elif scorer == "letter":
        raise BadInput(f"{where}: the scorer 'letter' belongs to choices, this item is {kind}")
    if scorer == "number" and not all(_NUMBER.fullmatch(answer.strip("$% ")) for answer in answers):
        raise BadInput(f"{where}: the scorer 'number' needs a number as answer, found {answers[0]!r}")
    return Item(str(row.get("id", number)), prompt, answers, scorer, options, bool(row.get("must_pass")))


def _answers(answer: Any) -> tuple[str, ...]:  # noqa: ANN401  (whatever the JSON holds)
    every = answer if isinstance(answer, list) else [answer]
    return tuple(str(a).strip() for a in every if isinstance(a, str | int | float) and str(a).strip())


def _chosen(where: str, options: Sequence[str], answer: str) -> str:
    """The text of the right option; the answer may be its letter."""
    if not 2 <= len(options) <= len(LETTERS) or len(set(options)) < len(options):
        raise BadInput(
            f"{where} is a choice; it needs 2 to {len(LETTERS)} different options, found {list(options)}"
        )
    if answer in options:
        return answer
    if answer in LETTERS[: len(options)]:
        return options[LETTERS.index(answer)]
    raise BadInput(
        f"{where}: the answer {answer!r} is neither an option nor the letter of one of {list(options)}"
    )


def number_in(text: str) -> float | None:
    """The last number of a text, thousands commas taken out; None without one."""
    found = _NUMBER.findall(text.replace("\N{MINUS SIGN}", "-"))
    return float(found[-1].replace(",", "")) if found else None
