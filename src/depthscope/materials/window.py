"""Windows: what a model reads, as token ids with a name; and the promise of every material."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

if TYPE_CHECKING:
    from depthscope.runtime.model import Model


@dataclass(frozen=True)
class Window:
    """Consecutive token ids of one document, in the order of `index`.

    Args:
        document: the independent unit behind intervals, such as a text, a fact, or a question.
        marks: positions that are decoded; empty where positions are sampled by hash.
        about: what an analysis must know of this window (answer ids, options, gold label), as JSON values.
    """

    index: int
    document: str
    ids: tuple[int, ...]
    marks: tuple[int, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Windows:
    """All windows of one material.

    Args:
        items: in reading order; for text the first window of every document, then the second, and so on.
        source: where the material came from. bos: what stands before and after each window, in words.
        dropped: tokens left out because they were fewer than a window needs.
    """

    items: tuple[Window, ...]
    source: str
    bos: str
    dropped: int

    @property
    def tokens(self) -> int:
        """Token ids over all windows."""
        return sum(len(w.ids) for w in self.items)

    @property
    def marked(self) -> bool:
        """True where the windows say themselves which positions are decoded."""
        return any(w.marks for w in self.items)

    @property
    def documents(self) -> tuple[str, ...]:
        """Names of the documents read, in order of first appearance."""
        return tuple(dict.fromkeys(w.document for w in self.items))

    @cached_property
    def hash(self) -> str:
        """A digest of every document name and token id, and of what windows say of themselves."""
        digest = hashlib.sha256()
        for window in self.items:
            digest.update(window.document.encode() + b"\0" + np.asarray(window.ids, np.int32).tobytes())
            if window.marks or window.about:
                digest.update(json.dumps([window.marks, dict(window.about)], sort_keys=True).encode())
        return digest.hexdigest()

    @cached_property
    def occurrences(self) -> Int[np.ndarray, " id"]:
        """How often each token id stands in the windows, up to the highest id."""
        return np.bincount(np.concatenate([np.asarray(w.ids, np.int64) for w in self.items]))

    @cached_property
    def samples(self) -> dict[tuple[int, int], Mapping[int, np.ndarray]]:
        """Positions that were sampled by (how many, seed), kept because every shard asks for them."""
        return {}

    def units(self) -> tuple[str, tuple[str, ...]]:
        """What counts as an independent unit, and each window's unit: documents, or windows below 8 documents."""
        if len(self.documents) >= 8:
            return "documents", tuple(w.document for w in self.items)
        return "windows", tuple(f"{w.document}#{w.index:06d}" for w in self.items)

    def shuffled(self, seed: int) -> Windows:
        """The same windows with their ids in random order, the first one in place: the shuffled-tokens null."""
        rng = np.random.default_rng(seed)
        mixed = [
            Window(w.index, w.document, (w.ids[0], *map(int, rng.permutation(w.ids[1:])))) for w in self.items
        ]
        return Windows(tuple(mixed), f"{self.source}, tokens shuffled", self.bos, self.dropped)


@runtime_checkable
class Material(Protocol):
    """Something to read besides the run's text: a frozen dataclass whose fields are its parameters.

    Analyses that need equal materials share a pass. `name` names the file of ids, `inputs/<name>.parquet`.
    """

    @property
    def name(self) -> str:
        """A short name, such as `facts`."""
        ...

    def windows(self, model: Model, seed: int) -> Windows:
        """What the model reads; equal parameters and seeds give equal windows."""
        ...
