"""Probe windows: equal pieces of labelled documents that end at a probed position, split by document.

Every document gives windows of one length from its start. The documents of a label are ordered by a hash of their
name and cut into three parts, so that no document stands on two sides of a probe: to train on, to choose the penalty
by, to test on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.edges import edges
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.reserved import SHARE, reserved
from depthscope.materials.rows import Row, rows
from depthscope.materials.token_classes import TokenClasses, token_classes
from depthscope.materials.window import Window, Windows
from depthscope.ranges import above, at_least, check_ranges

if TYPE_CHECKING:
    from depthscope.runtime.model import Model

PACKAGED = "sample.jsonl"
LABELS = ("domain", "label_name", "label", "register")
"""Keys that may hold a label, the first one found; the packaged sample has registers."""
SPLITS = ("train", "validation", "test")
FEWEST = 3
"""Documents that a label needs, one for each part."""


@dataclass(frozen=True)
class ProbeWindows:
    """Windows of labelled documents.

    Args:
        source: a file of JSON lines with a text and a label; "" for the packaged sample and its registers.
        label: the key that holds the label; "" takes the first of LABELS. per_label: documents of a label at most.
        window: ids a window. per_document: windows of a document at most. probed: positions of a window, its last one
            and others spread evenly behind its middle. held_out: share of the documents of a label to test on, and as
            much again to choose by. shift: 1 labels each position by the class of the token after it.
        reserve: share of the documents that nothing is trained on, see `materials.reserved`; only these are probed. 0
            takes all documents, and of the packaged sample all are taken.
    """

    source: str = ""
    label: str = ""
    per_label: int = 200
    window: int = 128
    per_document: int = 1
    probed: int = 4
    held_out: float = 0.2
    shift: int = 0
    reserve: float = SHARE

    def __post_init__(self) -> None:
        check_ranges(
            self, window=at_least(4), per_label=at_least(1), per_document=at_least(1), probed=at_least(1)
        )
        if self.probed > self.window // 2:
            raise BadInput(f"probed={self.probed}: half of a window has {self.window // 2} positions")
        check_ranges(self, held_out=above(0, most=0.4, what="share of the documents"))
        check_ranges(self, reserve=at_least(0, below=1, what="share of the documents"))
        if self.shift not in (0, 1):
            raise BadInput(f"shift={self.shift}; 0 is the token at the position, 1 the one after it")

    @property
    def name(self) -> str:
        """The name of the material."""
        return "probes"

    def positions(self) -> list[int]:
        """The probed positions of a window, ascending; the last one, or the last that has a token behind it."""
        last = self.window - 1 - self.shift
        return sorted({round(float(p)) for p in np.linspace(last, self.window // 2, self.probed)})

    def windows(self, model: Model, seed: int) -> Windows:
        """Windows with `about`: label, split, the probed positions, and the class of the token at each.

        A label with fewer than FEWEST documents that fill a window is left out and named in the source.

        Raises:
            BadInput: no such file, no label, one label only, or no document as long as a window.
        """
        where, documents = self._documents()
        before, after, words = edges(model.tokenizer, "auto", str(getattr(model.config, "model_type", "")))
        found: dict[str, list[tuple[str, list[list[int]]]]] = {}
        dropped = short = 0
        for label, name, text in documents:
            if len(found.setdefault(label, [])) == self.per_label:
                continue
            ids = plain_ids(model.tokenizer, text)
            pieces, rest = self._pieces(ids, before, after)
            dropped, short = dropped + rest, short + (not pieces)
            found[label] += [(name, pieces)] if pieces else []
        usable = {label: every for label, every in found.items() if len(every) >= FEWEST}
        self._check(where, found, usable, short)
        classes = token_classes(model.tokenizer)
        items = [
            Window(index, name, tuple(ids), (), self._about(label, part, ids, classes))
            for index, (label, part, name, ids) in enumerate(self._split(usable, seed))
        ]
        absent = sorted(set(found) - set(usable))
        said = f"; left out, fewer than {FEWEST} documents of {self.window} tokens: {', '.join(absent)}"
        return Windows(tuple(items), where + (said if absent else ""), words, dropped)

    def _documents(self) -> tuple[str, list[tuple[str, str, str]]]:
        """Where documents came from, and (label, name, text) of each in hash order, each text once."""
        where, found = rows(self.source, PACKAGED, ("text",))
        key = self.label or next((k for k in LABELS if k in found[0]), "")
        if not key or any(key not in row for row in found):
            raise BadInput(
                f"{where} has no label: it has {', '.join(found[0])}; name the key with label=, or give rows with "
                "one of "
                f"{', '.join(LABELS)}"
            )
        texts: dict[str, tuple[str, str, str]] = {}
        for number, row in enumerate(found):
            text, name = _text(where, number, row), f"{row.get('id', '')}#{number:06d}"
            if not self.source or not self.reserve or reserved(text, self.reserve):
                texts.setdefault(text, (str(row[key]), name, text))
        labels = {str(row[key]) for row in found}
        if len(labels) < 2:
            raise BadInput(
                f"{where}: every document has the {key} {labels.pop()!r}; a probe needs two labels or more"
            )
        return where, sorted(texts.values(), key=lambda d: hashlib.sha256(d[1].encode()).digest())

    def _pieces(self, ids: Sequence[int], before: list[int], after: list[int]) -> tuple[list[list[int]], int]:
        """Full windows of one document, and how many of its ids are in none."""
        room = self.window - len(before) - len(after)
        if room < 2:
            raise BadInput(f"window={self.window} leaves {room} tokens beside those that stand around a text")
        count = min(self.per_document, len(ids) // room)
        pieces = [before + list(ids[k * room : (k + 1) * room]) + after for k in range(count)]
        return pieces, len(ids) - count * room

    def _check(self, where: str, found: Mapping[str, Any], usable: Mapping[str, Any], short: int) -> None:
        if not any(found.values()):
            raise EmptyMaterial(
                f"{where}: none of {short} documents has the {self.window} tokens of a window; give a smaller window "
                "or "
                "longer texts"
            )
        if len(usable) < 2:
            raise BadInput(
                f"{where}: {len(usable)} of {len(found)} labels have {FEWEST} documents of {self.window} tokens; a "
                "probe "
                "needs two such labels"
            )

    def _split(
        self, usable: Mapping[str, list[tuple[str, list[list[int]]]]], seed: int
    ) -> Iterator[tuple[str, str, str, list[int]]]:
        """(label, part, document, ids): of each label the first documents test, the next validate, the rest train."""
        for label in sorted(usable):
            order = sorted(usable[label], key=lambda d: hashlib.sha256(f"{seed}\0{d[0]}".encode()).digest())
            part = max(1, min(round(self.held_out * len(order)), (len(order) - 1) // 2))
            for rank, (name, pieces) in enumerate(order):
                side = SPLITS[2 - min(rank // part, 2)]
                yield from ((label, side, name, ids) for ids in pieces)

    def _about(self, label: str, part: str, ids: Sequence[int], classes: TokenClasses) -> dict[str, Any]:
        at = self.positions()
        labelled = [ids[p + self.shift] for p in at]
        texts = [classes.texts[i] if i < len(classes.texts) else "" for i in labelled]
        return {
            "label": label, "split": part, "probed": at, "types": classes.of(labelled), "ids": labelled, "texts": texts,
        }  # fmt: skip


def _text(where: str, number: int, row: Row) -> str:
    if not isinstance(row["text"], str):
        raise BadInput(f"{where} row {number + 1}: a text is a string, not {type(row['text']).__name__}")
    return row["text"]
