"""What is trained on and what is judged on; and every guess of every state judged in one pass over the latter."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from depthscope.engine.progress import Progress
from depthscope.engine.reading import Reading
from depthscope.engine.study import Work
from depthscope.errors import BadInput
from depthscope.fits.predictor_baselines import Guesses
from depthscope.fits.predictor_scores import Scores
from depthscope.fits.predictor_sums import Scale, Vocabulary
from depthscope.fits.teacher import batched, taught
from depthscope.materials.window import Window, Windows
from depthscope.runtime.model import Model
from depthscope.runtime.predictor import Predictor, novelty

SINK = 20.0
"""Targets longer than this many medians are told apart as sinks."""


@dataclass(frozen=True)
class Parts:
    """Windows of one length, to train on and to judge on.

    Args:
        units: the independent unit of each judged window; kind: what a unit is. dropped: windows that were not full.
        source: where the judged text came from; judged_hash: its digest.
    """

    train: tuple[Window, ...]
    judged: tuple[Window, ...]
    units: tuple[str, ...]
    kind: str
    dropped: int
    source: str
    judged_hash: str

    @property
    def length(self) -> int:
        """Tokens a window."""
        return len(self.train[0].ids)

    @classmethod
    def of(cls, work: Work, held_out: float, tokens: int, judge: Reading | None) -> Parts:
        """Full windows; those to judge on are of a text of their own, or of documents in the order of a hash.

        Raises:
            BadInput: where no window is full, or none is left to train or to judge on.
        """
        length = _length(work.windows)
        full = tuple(w for w in work.windows.items if len(w.ids) == length)
        dropped = len(work.windows.items) - len(full)
        units = dict(zip((w.index for w in work.windows.items), work.units, strict=True))
        if judge is None:
            names = sorted(
                {units[w.index] for w in full},
                key=lambda n: hashlib.sha256(f"{work.seed}\0{n}".encode()).digest(),
            )
            held = set(names[: max(1, math.ceil(held_out * len(names)))])
            train = tuple(w for w in full if units[w.index] not in held)
            judged = tuple(w for w in full if units[w.index] in held)[: max(1, tokens // length)]
            return cls._checked(train, judged, units, work.kind, dropped, work.windows)
        other = judge.windows(work.model)
        kind, named = other.units()
        units = dict(zip((w.index for w in other.items), named, strict=True))
        judged = tuple(w for w in other.items if len(w.ids) == length)[: max(1, tokens // length)]
        return cls._checked(full, judged, units, kind, dropped, other)

    @classmethod
    def _checked(
        cls,
        train: tuple[Window, ...],
        judged: tuple[Window, ...],
        units: Mapping[int, str],
        kind: str,
        dropped: int,
        source: Windows,
    ) -> Parts:
        if len(train) < 2 or not judged:
            raise BadInput(
                f"{len(train)} windows to train on and {len(judged)} to judge on; at least 2 and 1 are needed, of "
                "different documents: give more text or a smaller --window"
            )
        return cls(
            train, judged, tuple(units[w.index] for w in judged), kind, dropped, source.source, source.hash
        )

    def about(self, work: Work) -> dict[str, Any]:
        """The data for the card."""
        return {
            "source": work.windows.source, "hash": work.windows.hash, "window": self.length, "bos": work.windows.bos,
            "train_windows": len(self.train), "not_full": self.dropped, "judged_source": self.source,
            "judged_hash": self.judged_hash, "judged_windows": len(self.judged), "judged_units": len(set(self.units)),
            "unit": self.kind,
        }  # fmt: skip


def _length(windows: Windows) -> int:
    """The length of a full window: what most windows have.

    Raises:
        BadInput: where no two windows are of that length.
    """
    lengths = [len(w.ids) for w in windows.items]
    longest = max(lengths)
    if lengths.count(longest) < 2:
        raise BadInput(
            f"{windows.source} has {lengths.count(longest)} full window of {longest} tokens; predictors are trained on "
            "windows of one length: give longer documents or a smaller --window"
        )
    return longest


@dataclass(frozen=True)
class Judge:
    """Everything that guesses, by state.

    Args:
        nets: the predictors. guesses, scale: the closed forms. readers: what standardises for them.
    """

    model: Model
    scale: Mapping[int, Scale]
    guesses: Mapping[int, Guesses]
    readers: Mapping[int, Predictor]
    nets: Mapping[int, Predictor]
    vocabulary: Vocabulary

    def scores(
        self, parts: Parts, rows: int, progress: Progress
    ) -> tuple[dict[int, Scores], dict[int, torch.Tensor]]:
        """Sums of every guess; where predictors have a variance, sums of nats by unit: items, given past, marginal."""
        names = sorted(set(parts.units))
        numbers = torch.tensor([names.index(u) for u in parts.units], device=self.model.device)
        scores = {s: Scores() for s in self.nets}
        nats = {
            s: torch.zeros(len(names), 3, dtype=torch.float64, device=self.model.device) for s in self.nets
        }
        done = 0
        for batch in batched(parts.judged, rows):
            with torch.no_grad():
                self._add(batch, numbers[done : done + len(batch)], len(names), scores, nats)
            done += len(batch)
            progress("judge", done, len(parts.judged))
        return scores, {s: nats[s] for s, net in self.nets.items() if net.spread is not None}

    def _add(
        self,
        batch: tuple[Window, ...],
        units: torch.Tensor,
        n_units: int,
        scores: dict[int, Scores],
        nats: dict[int, torch.Tensor],
    ) -> None:
        found = taught(self.model, batch, list(self.nets))
        for s, net in self.nets.items():
            stream = found.of[s]
            h = stream[:, 1:]
            guesses = dict(
                self.guesses[s].on(self.readers[s], self.scale[s], stream, found.ids, self.vocabulary)
            )
            sink = torch.linalg.vector_norm(h, dim=-1) > SINK * self.scale[s].norm
            scores[s].add(h, {"predictor": net(stream)[:, :-1], **guesses}, sink, units, n_units)
            if net.spread is not None:
                given, marginal = novelty(net, stream)
                row = torch.stack((torch.ones_like(given), given, marginal), -1).double().sum(1)
                nats[s].index_add_(0, units, row)
