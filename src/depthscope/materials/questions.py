"""Questions with fixed options, read off rows by their columns: choices, sentiment, entailment, paraphrase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from depthscope.errors import BadInput
from depthscope.materials.rows import Row, rows

PACKAGED = "options.jsonl"
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
JUDGED = {"entailment": "True", "not_entailment": "False", "contradiction": "False", "neutral": "Neither"}


@dataclass(frozen=True)
class Question:
    """A prompt that ends where an option follows.

    Args:
        options: what may follow, after a space. gold: place of the right one. pseudo: options that nothing asks for.
    """

    task: str
    text: str
    options: tuple[str, ...]
    gold: int
    pseudo: tuple[str, ...] = ()

    def answered(self, label: int) -> str:
        """The prompt with an option, as an example of how to answer."""
        return f"{self.text} {self.options[label]}"


@dataclass(frozen=True)
class Template:
    """How rows with certain columns become questions."""

    columns: tuple[str, ...]
    ask: Callable[[Row], Question]


def _choice(row: Row) -> Question:
    """Letters A, B, C ... before the choices; the letters after them are asked for by nothing."""
    n = len(row["choices"])
    named = "\n".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, row["choices"], strict=False))
    text = f"Question: {row['question']}\n{named}\nAnswer:"
    return Question("choice", text, LETTERS[:n], int(row["answer_index"]), LETTERS[n : 2 * n])


def _sentiment(row: Row) -> Question:
    options = ("negative", "positive")
    label = options[row["label"]] if "label_name" not in row else row["label_name"]
    return Question("sentiment", f"Review: {row['sentence']}\nSentiment:", options, options.index(label))


def _entailment(row: Row) -> Question:
    options = tuple(dict.fromkeys(JUDGED.values()))
    text = f"Premise: {row['premise']}\nHypothesis: {row['hypothesis']}\nIs the hypothesis true? Answer:"
    return Question("entailment", text, options, options.index(JUDGED[row["label"]]))


def _paraphrase(row: Row) -> Question:
    text = f"First: {row['sentence1']}\nSecond: {row['sentence2']}\nDo both say the same? Answer:"
    return Question("paraphrase", text, ("No", "Yes"), ("No", "Yes").index("Yes" if row["label"] else "No"))


def _worded(row: Row) -> Question:
    """A prompt of one's own, whose options follow in their own words; a task file of choices is such rows."""
    options = tuple(map(str, row["options"]))
    return Question(str(row["task"]), row["prompt"], options, options.index(str(row["answer"])))


TEMPLATES = (
    Template(("question", "choices", "answer_index"), _choice),
    Template(("task", "prompt", "options", "answer"), _worded),
    Template(("premise", "hypothesis", "label"), _entailment),
    Template(("sentence1", "sentence2", "label"), _paraphrase),
    Template(("sentence", "label_name"), _sentiment),
    Template(("sentence", "label"), _sentiment),
)


def questions(source: str) -> tuple[str, dict[str, list[Question]]]:
    """Where questions came from, and the questions of each task.

    Args:
        source: files of JSON lines, with commas between them; "" for the packaged set. A task is named by its kind of
            question, and by its file too where two files hold one kind.

    Raises:
        BadInput: for rows whose columns are those of no kind of question, or whose label is unknown.
    """
    found: dict[str, list[Question]] = {}
    names: list[str] = []
    for path in source.split(",") if source else [""]:
        name, read = rows(path.strip(), PACKAGED)
        names.append(name)
        asked = [_asked(name, number, row) for number, row in enumerate(read, start=1)]
        for kind in dict.fromkeys(q.task for q in asked):
            task = f"{kind}:{Path(path).stem}" if kind in found else kind
            found[task] = _used([replace(q, task=task) for q in asked if q.task == kind])
    return ", ".join(names), found


def _asked(name: str, number: int, row: Row) -> Question:
    template = next((t for t in TEMPLATES if all(c in row for c in t.columns)), None)
    if template is None:
        known = "; ".join(", ".join(t.columns) for t in TEMPLATES)
        raise BadInput(f"{name} row {number} has {', '.join(row)}; a question has one of these: {known}")
    try:
        question = template.ask(row)
        question.answered(question.gold)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise BadInput(f"{name} row {number} cannot be asked: {error!r} in {dict(row)!s:.200}") from error
    return question


def _used(asked: Sequence[Question]) -> list[Question]:
    """The questions with only those options that are right somewhere.

    Letters stay as they are, and so do options that differ from question to question.
    """
    options = asked[0].options
    if asked[0].pseudo or any(q.options != options for q in asked):
        return list(asked)
    right = [o for o in options if any(q.options[q.gold] == o for q in asked)]
    if len(right) < 2:
        raise BadInput(
            f"every answer of {asked[0].task} is {right[0]!r}; a choice needs two options that occur"
        )
    return [replace(q, options=tuple(right), gold=right.index(q.options[q.gold])) for q in asked]


def balanced(asked: Sequence[Question], n: int, rng: np.random.Generator) -> list[int]:
    """Places of up to n questions, as many of each right answer as there are, in turn."""
    turn: dict[int, int] = {}
    turns: list[tuple[int, int, int]] = []
    for k in rng.permutation(len(asked)).tolist():
        gold = asked[k].gold
        turns.append((turn.get(gold, 0), gold, k))
        turn[gold] = turn.get(gold, 0) + 1
    full = min(turn.values())
    even = [t for t in sorted(turns) if t[0] < full]
    return [k for _, _, k in even[:n]]


def examples(asked: Sequence[Question], shots: int, rng: np.random.Generator) -> list[int]:
    """Places of the questions that are shown with their answers: each right answer in turn, short ones of 16 drawn."""
    found: list[int] = []
    order = rng.permutation(len(asked)).tolist()
    golds = sorted({q.gold for q in asked})
    for shot in range(shots):
        gold = golds[shot % len(golds)]
        drawn = [k for k in order if asked[k].gold == gold and k not in found][:16]
        if drawn:
            found.append(min(drawn, key=lambda k: len(asked[k].text)))
    return found


def shuffled(golds: Sequence[int], rng: np.random.Generator) -> list[int]:
    """The labels of the examples in another order, by chance; of equal labels there is no other order."""
    mixed = list(golds)
    while len(set(golds)) > 1 and mixed == list(golds):
        mixed = [golds[k] for k in rng.permutation(len(golds))]
    return mixed
