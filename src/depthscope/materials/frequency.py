"""Token frequencies: how often each token id occurs in a corpus, its rank, and the bucket that the rank falls in.

Ranks are by falling count, ties by id. A bucket is a stretch of ranks, (1-10, 11-100, 101-1000, rest) by default, or a
fifth of the corpus's mass. Ids that never occur, special ids left out of the count among them, are in the last bucket.
Source of the buckets: How Do LLMs Use Their Depth? (arXiv 2510.18871), section 3.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from depthscope.errors import BadInput, EmptyMaterial, Refused
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.spelling import special_ids
from depthscope.store.atomic import store_error, write_bytes

EDGES = (10, 100, 1000)
"""The last rank of each bucket but the last."""
ENOUGH = 5_000_000
"""Tokens below which the ranks of rarer tokens are chance."""
SCHEMA = 1
_BATCH = 2**18


@dataclass(frozen=True, eq=False)
class Buckets:
    """Frequency classes of tokens.

    Args:
        names: of the buckets, most frequent first. place: the bucket of each id.
        mass: each bucket's share of the corpus.
    """

    names: tuple[str, ...]
    place: Int[np.ndarray, " id"]
    mass: Float[np.ndarray, " bucket"]

    def of(self, ids: Int[np.ndarray, "*items"]) -> Int[np.ndarray, "*items"]:
        """The bucket of each id; ids beyond the table, such as padded rows of the head, are in the last one."""
        known = np.minimum(ids, len(self.place) - 1)
        return np.where(ids < len(self.place), self.place[known], len(self.names) - 1)


@dataclass(frozen=True, eq=False)
class FrequencyTable:
    """How often each token id occurs in a corpus.

    Args:
        counts: occurrences of each id, int64; 0 for special ids where they were left out.
        tokenizer: digest of the vocabulary whose ids these are, see `vocabulary`.
        corpus: where the text came from, in words. date: of the count, as given; "" where equal input should give
            equal bytes.

    Raises:
        EmptyMaterial: nothing was counted.
    """

    counts: Int[np.ndarray, " id"]
    tokenizer: str
    corpus: str
    date: str = ""

    def __post_init__(self) -> None:
        if not self.tokens:
            raise EmptyMaterial(f"no token of {self.corpus} was counted; give more text")

    @property
    def tokens(self) -> int:
        """All occurrences."""
        return int(self.counts.sum())

    @property
    def order(self) -> Int[np.ndarray, " id"]:
        """Ids by falling count, ties by id."""
        return np.argsort(-self.counts, kind="stable")

    @property
    def ranks(self) -> Int[np.ndarray, " id"]:
        """The rank of each id, 1 for the most frequent one."""
        ranks = np.empty(len(self.counts), np.int64)
        ranks[self.order] = np.arange(1, len(self.counts) + 1)
        return ranks

    @property
    def digest(self) -> str:
        """A short digest of the counts and of the vocabulary they belong to."""
        content = self.tokenizer.encode() + np.asarray(self.counts, "<i8").tobytes()
        return hashlib.sha256(content).hexdigest()[:12]

    def buckets(self, edges: Sequence[int] = EDGES, quintiles: bool = False) -> Buckets:
        """The bucket of each id, by rank, or by fifths of the mass.

        Args:
            edges: the last rank of each bucket but the last, rising.
            quintiles: an id is in the fifth in which the mass of all more frequent ids ends; `edges` is not read.
                A token that holds more than a fifth leaves buckets empty.

        Raises:
            BadInput: for edges that do not rise from 1 or more.
        """
        if quintiles:
            before = np.cumsum(self.counts[self.order]) - self.counts[self.order]
            names = tuple(f"mass {20 * k}-{20 * (k + 1)} %" for k in range(5))
            place = np.empty(len(self.counts), np.int64)
            place[self.order] = 5 * before // self.tokens
        else:
            names = bucket_names(edges)
            place = np.searchsorted(np.asarray(edges), self.ranks)
        place = np.where(self.counts > 0, place, len(names) - 1).astype(np.int64)
        mass = np.bincount(place, self.counts.astype(np.float64), len(names)) / self.tokens
        return Buckets(names, place, mass)

    def check(self, tokenizer: Any) -> None:  # noqa: ANN401  (a tokenizer of transformers, or one like it)
        """Nothing, where the ids are those of this tokenizer.

        Raises:
            Refused: where they are another's.
        """
        digest, size = vocabulary(tokenizer)
        if (digest, size) != (self.tokenizer, len(self.counts)):
            raise Refused(
                f"the frequency table of {self.corpus} was counted with another tokenizer: its vocabulary has "
                f"{len(self.counts)} ids and digest {self.tokenizer}, this model's {size} and {digest}; count again "
                "with depthscope fit frequency"
            )

    def notes(self) -> tuple[str, ...]:
        """What a reader of numbers by bucket must know of the table."""
        said = f"Frequencies were counted on {self.tokens:,} tokens of {self.corpus} (table {self.digest})."
        few = f"That is less than {ENOUGH:,} tokens: ranks beyond the most frequent tokens are uncertain."
        return (said, few) if self.tokens < ENOUGH else (said,)

    def save(self, path: Path) -> None:
        """Write one file, whole or not at all: a JSON header and the counts; equal tables give equal bytes."""
        header = {
            "schema": SCHEMA, "tokenizer": self.tokenizer, "vocabulary": len(self.counts), "corpus": self.corpus,
            "tokens": self.tokens, "date": self.date,
        }  # fmt: skip
        buffer = io.BytesIO()
        np.savez_compressed(buffer, header=np.asarray(json.dumps(header)), counts=self.counts)
        write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> FrequencyTable:
        """Read what `save` wrote.

        Raises:
            BadInput: when the file is no frequency table. StoreError: when it cannot be read.
        """
        try:
            return _read(path, path.stat().st_mtime_ns)
        except OSError as error:
            raise store_error(error, path) from error
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise BadInput(
                f"{path} is no frequency table ({error}); make one with depthscope fit frequency"
            ) from error


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> FrequencyTable:
    """The table of a file as it was at a time; every shard of a run asks for it."""
    del changed
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
        header, counts = json.loads(str(stored["header"])), stored["counts"]
    return FrequencyTable(counts.astype(np.int64), header["tokenizer"], header["corpus"], header["date"])


def bucket_names(edges: Sequence[int]) -> tuple[str, ...]:
    """Stretches of ranks in words, "1-10" to "rest".

    Raises:
        BadInput: for edges that do not rise from 1 or more.
    """
    if not edges or edges[0] < 1 or sorted(set(edges)) != list(edges):
        raise BadInput(f"bucket edges {list(edges)}: give rising ranks from 1 on, such as {list(EDGES)}")
    first = [1, *(edge + 1 for edge in edges[:-1])]
    return (*(f"{a}-{b}" if a < b else f"{a}" for a, b in zip(first, edges, strict=True)), "rest")


@functools.lru_cache(maxsize=8)
def vocabulary(tokenizer: Any) -> tuple[str, int]:  # noqa: ANN401
    """A digest of all token strings in the order of their ids, and how many ids there are (the largest plus one)."""
    if hasattr(tokenizer, "get_vocab"):
        named = sorted((int(k), str(token)) for token, k in tokenizer.get_vocab().items())
    else:
        named = list(enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))))
    content = json.dumps(named, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16], named[-1][0] + 1


def count(
    texts: Iterable[str],
    tokenizer: Any,  # noqa: ANN401
    corpus: str,
    *,
    tokens: int | None = None,
    special: bool = False,
    date: str = "",
) -> FrequencyTable:
    """Count the tokens of a stream of texts; memory does not grow with the number of texts.

    Args:
        corpus: where the texts come from, in words. tokens: stop after so many.
        special: count special ids too. date: kept in the table as it is.

    Raises:
        EmptyMaterial: when there was nothing to count. BadInput: for `tokens` below 1.
    """
    if tokens is not None and tokens < 1:
        raise BadInput(f"{tokens} tokens leave nothing to count; give 1 or more")
    digest, size = vocabulary(tokenizer)
    counts, left = np.zeros(size, np.int64), tokens
    for ids in _batches(texts, tokenizer):
        counts += np.bincount(ids[:left], minlength=size)
        if left is not None and (left := left - len(ids)) <= 0:
            break
    if not special:
        counts[[k for k in special_ids(tokenizer) if k < size]] = 0
    return FrequencyTable(counts, digest, corpus, date)


def _batches(texts: Iterable[str], tokenizer: Any) -> Iterator[Int[np.ndarray, " token"]]:  # noqa: ANN401
    held: list[int] = []
    for text in texts:
        held += plain_ids(tokenizer, text)
        if len(held) >= _BATCH:
            yield np.asarray(held, np.int64)
            held = []
    yield np.asarray(held, np.int64)
