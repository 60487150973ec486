"""Reserved documents: a share of all texts, chosen by what they say, that nothing is trained on.

A predictor that has seen the documents on which its parts are probed has an advantage there. The choice depends on the
text alone, not on its name, file or order, so a fit and a probe agree without knowing of each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.text import Document, read

SHARE = 0.3
"""The share that is reserved by default."""


def place(text: str) -> float:
    """Where a text stands among all, uniform in [0, 1): the first 48 bits of its SHA-256, spaces around it aside."""
    return int.from_bytes(hashlib.sha256(text.strip().encode()).digest()[:6], "big") / 2**48


def reserved(text: str, share: float = SHARE) -> bool:
    """True where a text is among the last `share` of all: never trained on, free to be probed."""
    return place(text) >= 1 - share


def free(documents: Iterable[Document], share: float = SHARE) -> list[Document]:
    """The documents that may be trained on.

    Raises:
        BadInput: for a share outside [0, 1). EmptyMaterial: when none is left.
    """
    if not 0 <= share < 1:
        raise BadInput(f"reserve={share}; it is a share of the documents from 0 to below 1")
    given = list(documents)
    found = [each for each in given if not reserved(each.text, share)]
    if not found:
        raise EmptyMaterial(
            f"all {len(given)} documents are among the reserved {share:.0%}; give more text, or reserve=0"
        )
    return found


def read_free(
    source: str | Path | Sequence[str] | None, field: str, share: float
) -> tuple[str, list[Document]]:
    """`materials.text.read` without the reserved documents; the word for where they came from says so."""
    where, documents = read(source, field)
    if not share:
        return where, documents
    return f"{where}, {share:.0%} of the documents reserved", free(documents, share)
