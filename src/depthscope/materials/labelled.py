"""Labelled texts: task files by which vectors of texts are judged.

A file of JSON lines, one item a line, its kind read off its columns: `text, label` (classification and clustering),
`text_a, text_b, score` (sts), `text_a, text_b, label` with two labels (pair), `query, positives, negatives` (retrieval
and reranking). Also known: `sentence` and `question` for `text`; `sentence1, sentence2` and `premise, hypothesis` for
the two texts; `relatedness` for `score`; `label_name` before `label`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from depthscope.errors import BadInput, UnknownName
from depthscope.materials.rows import Row, rows

Kind = Literal["classification", "sts", "pair", "retrieval"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Gold = str | float
TEXT = ("text", "sentence", "question")
TEXTS = (("text_a", "text_b"), ("sentence1", "sentence2"), ("premise", "hypothesis"))
SCORE = ("score", "relatedness")
LABEL = ("label_name", "label")
POSITIVE = frozenset({"1", "true", "yes", "entailment", "paraphrase", "duplicate", "equivalent"})
NEGATIVE = frozenset(
    {"0", "false", "no", "not_entailment", "not_paraphrase", "not_duplicate", "not_equivalent"}
)


@dataclass(frozen=True)
class Item:
    """One item of a task.

    Args:
        texts: places in the task's texts: (text,), (text_a, text_b) or (query, *positives, *negatives).
        gold: the label, the score, 1 or 0 for a pair, or the number of positives.
    """

    texts: tuple[int, ...]
    gold: Gold


@dataclass(frozen=True)
class Labelled:
    """Items of one kind.

    Args:
        name: the file's name without its ending. texts: distinct, in order of first appearance.
        duplicates: rows left out because the same text stands there with the same label.
    """

    name: str
    kind: Kind
    texts: tuple[str, ...]
    items: tuple[Item, ...]
    duplicates: int = 0

    @cached_property
    def hash(self) -> str:
        """A digest of everything that scores depend on."""
        return hashlib.sha256(repr((self.name, self.kind, self.texts, self.items)).encode()).hexdigest()[:16]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that occur, sorted; of pairs "0.0" and "1.0"; of scores and queries none."""
        if self.kind not in ("classification", "pair"):
            return ()
        return tuple(sorted({str(item.gold) for item in self.items}))

    def only(self, numbers: Sequence[int]) -> Labelled:
        """The task with some of its items, in the order given, and with the texts that these need."""
        kept = [self.items[n] for n in numbers]
        place = {t: k for k, t in enumerate(dict.fromkeys(t for item in kept for t in item.texts))}
        items = tuple(Item(tuple(place[t] for t in item.texts), item.gold) for item in kept)
        return Labelled(self.name, self.kind, tuple(self.texts[t] for t in place), items, self.duplicates)

    def order(self, seed: int = 0) -> list[int]:
        """Numbers of all items by a hash of what they say, which does not depend on the order of the file.

        Of a classification the labels come in turn, so the first n items hold as many of each label as there are.
        """
        digests = [self._digest(item, seed) for item in self.items]
        hashed = sorted(range(len(self.items)), key=digests.__getitem__)
        if self.kind != "classification":
            return hashed
        turn: dict[Gold, int] = {}
        turns: list[tuple[int, int]] = []
        for rank, n in enumerate(hashed):
            gold = self.items[n].gold
            turn[gold] = turn.get(gold, 0) + 1
            turns.append((turn[gold], rank))
        return [hashed[rank] for _, rank in sorted(turns)]

    def first(self, limit: int | None, seed: int = 0) -> Labelled:
        """The first `limit` items of `order`, in the order of the file; all where there are no more."""
        if limit is None or limit >= len(self.items):
            return self
        return self.only(sorted(self.order(seed)[:limit]))

    def _digest(self, item: Item, seed: int) -> bytes:
        said = [self.texts[t] for t in item.texts]
        return hashlib.sha256(repr((seed, said, item.gold)).encode()).digest()


def load_labelled(source: str | Path, limit: int | None = None, kind: str = "", seed: int = 0) -> Labelled:
    """The task of a file.

    Args:
        source: a path, or one below the data folder. limit: items at most, see `Labelled.first`. kind: which kind the
            rows are read as; "" reads it off the columns of the first row (a score goes before a label).

    Raises:
        BadInput: for a missing file, a row without the columns, a text that is no string, a score that is no finite
            number, labels of pairs that are not two, only one class, only one score, or a query without a positive.
        UnknownName: for an unknown kind.
    """
    if kind and kind not in KINDS:
        raise UnknownName("kind of task", kind, KINDS)
    if limit is not None and limit < 1:
        raise BadInput(f"limit={limit}; a task needs at least 1 item")
    name, found = rows(str(source), "")
    return labelled(Path(name).stem, found, kind).first(limit, seed)


def labelled(name: str, found: Sequence[Row], kind: str = "") -> Labelled:
    """The task that some rows are; as `load_labelled`, for rows that stand in no file."""
    asked = kind or _kind_of(name, found[0])
    read = READERS[asked]
    place: dict[str, int] = {}
    items: dict[tuple[Any, ...], Item] = {}
    for number, row in enumerate(found, start=1):
        texts, gold = read(f"{name} row {number}", row)
        places = tuple(place.setdefault(text, len(place)) for text in texts)
        items.setdefault((places, gold) if asked == "classification" else (number,), Item(places, gold))
    task = Labelled(name, _known(asked), tuple(place), tuple(items.values()), len(found) - len(items))
    _check(task)
    return task


def _known(kind: str) -> Kind:
    return next(k for k in KINDS if k == kind)


def _kind_of(name: str, row: Row) -> str:
    if "query" in row:
        return "retrieval"
    label = any(c in row for c in LABEL)
    if any(a in row and b in row for a, b in TEXTS):
        if any(c in row for c in SCORE):
            return "sts"
        if label:
            return "pair"
    elif label and any(c in row for c in TEXT):
        return "classification"
    raise BadInput(
        f"{name} has the columns {', '.join(row)}; a task has one of these: text, label; text_a, text_b, score; "
        "text_a, text_b, label; query, positives, negatives"
    )


def _check(task: Labelled) -> None:
    golds = {item.gold for item in task.items}
    if task.kind != "retrieval" and len(golds) < 2:
        (only,) = golds
        what = {"classification": "class", "sts": "score", "pair": "label"}[task.kind]
        raise BadInput(
            f"{task.name}: every item has the {what} {only!r}; nothing can be told apart, give items of two or more"
        )


def _single(where: str, row: Row) -> tuple[tuple[str, ...], Gold]:
    label = _one_of(where, row, LABEL)
    if label is None or (isinstance(label, float) and math.isnan(label)):
        raise BadInput(f"{where} has the label {label!r}; give a name or a number")
    return (_text(where, _one_of(where, row, TEXT)),), str(label)


def _scored(where: str, row: Row) -> tuple[tuple[str, ...], Gold]:
    score = _one_of(where, row, SCORE)
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise BadInput(f"{where} has the score {score!r}; a finite number is needed")
    return _two(where, row), float(score)


def _pair(where: str, row: Row) -> tuple[tuple[str, ...], Gold]:
    label = str(_one_of(where, row, LABEL)).strip().lower()
    if label not in POSITIVE | NEGATIVE:
        raise BadInput(
            f"{where} has the label {label!r}; a pair is 1 or 0 (or {', '.join(sorted(POSITIVE - {'1'}))} and their "
            "opposites); leave out rows of a third label"
        )
    return _two(where, row), float(label in POSITIVE)


def _query(where: str, row: Row) -> tuple[tuple[str, ...], Gold]:
    positives, negatives = (_several(where, row.get(c), c) for c in ("positives", "negatives"))
    if not positives:
        raise BadInput(f"{where} has no positives; a query needs at least one text that answers it")
    return (_text(where, row["query"]), *positives, *negatives), float(len(positives))


READERS: Mapping[str, Callable[[str, Row], tuple[tuple[str, ...], Gold]]] = {
    "classification": _single,
    "sts": _scored,
    "pair": _pair,
    "retrieval": _query,
}


def _two(where: str, row: Row) -> tuple[str, str]:
    names = next((pair for pair in TEXTS if pair[0] in row and pair[1] in row), None)
    if names is None:
        raise BadInput(f"{where} has {', '.join(row)}; two texts are needed: text_a and text_b")
    return _text(where, row[names[0]]), _text(where, row[names[1]])


def _several(where: str, found: object, column: str) -> tuple[str, ...]:
    every = [found] if isinstance(found, str) else found or []
    if not isinstance(every, list):
        raise BadInput(f"{where}: {column} is a list of texts, not {type(found).__name__}")
    return tuple(dict.fromkeys(_text(where, text) for text in every))


def _one_of(where: str, row: Row, names: Sequence[str]) -> Any:  # noqa: ANN401  (whatever the JSON holds)
    name = next((n for n in names if n in row), None)
    if name is None:
        raise BadInput(f"{where} has {', '.join(row)}, but no {' or '.join(map(repr, names))}")
    return row[name]


def _text(where: str, found: object) -> str:
    if not isinstance(found, str):
        raise BadInput(f"{where}: a text is a string, not {type(found).__name__} {found!r:.80}")
    return found
