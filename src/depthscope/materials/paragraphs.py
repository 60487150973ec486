"""Paragraphs: prompts as they stand in a text, one line of an article each, or whole documents of a labelled file.

The recipe of the entropy studies: headings are dropped, and so are lines below 60 characters; the rest is shuffled.
Source: Skean et al. 2025 (arXiv 2502.02013), appendix on extreme inputs.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.data import data_path, json_rows
from depthscope.materials.text import Document, read

CHARACTERS = 60
"""A paragraph has at least so many."""
_SALT = 0x9A4A_64A9


@dataclass(frozen=True)
class Paragraph:
    """One prompt, the document it comes from, and the label of that document where it has one."""

    document: str
    text: str
    label: str = ""


def paragraphs(
    source: str, count: int, seed: int, *, whole: bool = False, field: str = "text", label: str = ""
) -> tuple[str, list[Paragraph]]:
    """Where prompts came from, and up to `count` of them in seeded order, every document's first before any second.

    Args:
        source: as for the run's text; "" for the packaged sample. whole: a document is one prompt, not each line of it.
        field: the key that holds the text in JSON lines. label: the key that holds a label; "" for none.

    Raises:
        BadInput: for less than one prompt, or a label that rows do not have.
        EmptyMaterial: when no paragraph is long enough.
    """
    if count < 1:
        raise BadInput(f"{count} prompts leave nothing to read; give 1 or more")
    where, documents, labels = _documents(source, field, label)
    lines = (
        (d.name, line.strip()) for d in documents for line in ([d.text] if whole else d.text.splitlines())
    )
    found = [
        Paragraph(name, line, labels.get(name, ""))
        for name, line in lines
        if len(line) >= CHARACTERS and not _heading(line)
    ]
    if not found:
        raise EmptyMaterial(f"{where} has no paragraph of {CHARACTERS} characters or more; give running text")
    return where, _in_turn(found, count, seed)


def _heading(line: str) -> bool:
    return line.startswith("=") and line.endswith("=")


def _in_turn(found: list[Paragraph], count: int, seed: int) -> list[Paragraph]:
    """Shuffled, a document's second paragraph behind every document's first one, and no text twice in a document."""
    order = np.random.default_rng([seed, _SALT]).permutation(len(found))
    taken: dict[str, set[str]] = defaultdict(set)
    turns: list[tuple[int, Paragraph]] = []
    for k in order:
        own = taken[found[k].document]
        if found[k].text not in own:
            turns.append((len(own), found[k]))
            own.add(found[k].text)
    return [one for _, one in sorted(turns, key=lambda turn: turn[0])][:count]


def _documents(source: str, field: str, label: str) -> tuple[str, list[Document], dict[str, str]]:
    local = bool(source) and not source.startswith("hub:")
    path = data_path(source) if local else None
    if not label:
        return *read(path or source or None, field), {}
    if path is None or path.suffix not in (".jsonl", ".json"):
        raise BadInput(
            f"label={label!r} needs a file of JSON lines with that key, found {source or 'the sample'}"
        )
    documents: list[Document] = []
    labels: dict[str, str] = {}
    for number, row in enumerate(json_rows(path)):
        if not isinstance(row.get(field), str) or label not in row:
            raise BadInput(
                f"{path.name} row {number + 1} lacks {field!r} or {label!r}; it has {', '.join(row)}"
            )
        documents.append(Document(f"{row.get('id', '')}#{number:06d}", row[field]))
        labels[documents[-1].name] = str(row[label])
    return path.name, documents, labels
