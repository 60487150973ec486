"""What a lens is trained towards: the teacher's distribution or the true token, at which positions, with which weights.

The variants of reduced updates ask whether a lens prefers frequent tokens because it saw them so often: the tokens of a
set F are all but taken out of the training, as positions whose teacher prefers them (`position`), as terms of the KL
sum (`vocab`), or as positions whose true next token they are (`label`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from depthscope.engine.shard import hashed
from depthscope.errors import BadInput
from depthscope.fits.quality import chosen
from depthscope.fits.states import STATES, Read
from depthscope.materials.spelling import single_tokens
from depthscope.materials.window import Window
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.lens_step import Goal, cross_entropy_goal, kl_goal
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run

OBJECTIVES = ("kl", "cross_entropy")
REDUCED = ("none", "position", "vocab", "label")
TEACHERS = ("model", "shuffled")
SPARE = 4
"""Candidates drawn for each position wanted, where some are left out afterwards."""


@dataclass(frozen=True)
class Aim:
    """How positions become goals.

    Args:
        objective: KL(final || state), or the cross-entropy of the true next token.
        reduced: which updates of the tokens F = `ids` are reduced to the share `rho` (0: none are left).
        teacher: "shuffled" takes the final state of the same window with its tokens in random order, a teacher that
            knows which tokens are frequent here and nothing of the context.
    """

    objective: str = "kl"
    reduced: str = "none"
    rho: float = 0.001
    ids: tuple[int, ...] = ()
    teacher: str = "model"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.reduced != "none" and not self.ids:
            raise BadInput(
                f"reduced={self.reduced!r} needs the tokens whose updates are reduced, none were given"
            )
        check_ranges(self, rho=at_least(0, most=1))
        if self.objective == "cross_entropy" and self.reduced == "vocab":
            raise BadInput(
                "reduced='vocab' weighs the terms of a KL; the cross-entropy of one token has none"
            )

    def picked(
        self, model: Model, found: Read, count: int, draw: int
    ) -> tuple[Bool[Tensor, "row position"], Goal]:
        """The positions of one batch that are trained on, and their goal.

        Each row gives its `count` first positions in the order of a hash of (seed, draw, window, position), whatever
        was left out before: a normal and a reduced lens see equally many. `draw` is the pass over the text.
        """
        allowed = found.kept
        if self.objective == "cross_entropy" or self.reduced == "label":
            allowed = allowed & self._followed(found)
        if self.reduced != "position":
            at = chosen(allowed, found.windows, count, self.seed + draw)
            return at, self._goal(model, found, at)
        candidates = chosen(allowed, found.windows, SPARE * count, self.seed + draw)
        goal = self._goal(model, found, candidates)
        teacher = (
            goal if goal.top1 is not None else kl_goal(model.head, self._final(model, found, candidates))
        )
        assert teacher.top1 is not None
        fine = candidates.clone()
        fine[candidates] = ~self._members(teacher.top1)
        at = chosen(fine | (candidates & self._spared(found)), found.windows, count, self.seed + draw)
        return at, goal.at(at[candidates].nonzero()[:, 0])

    def _goal(self, model: Model, found: Read, at: Tensor) -> Goal:
        if self.objective == "cross_entropy":
            return cross_entropy_goal(model.head, found.seen.batch.ids.roll(-1, dims=1)[at])
        weights = None
        if self.reduced == "vocab":
            weights = torch.ones(model.anatomy.d_vocab, dtype=model.head.precision, device=model.device)
            weights[list(self.ids)] = self.rho
        return kl_goal(model.head, self._final(model, found, at), weights)

    def _final(self, model: Model, found: Read, at: Tensor) -> Tensor:
        if self.teacher == "model":
            return found.state(model.anatomy.n_layers, at)
        ids = [_shuffled(window, self.seed) for window in found.windows]
        seen = run(model, Batch.of_ids(ids), read=STATES[1:])
        return seen[model.anatomy.states()[-1]][at]

    def _followed(self, found: Read) -> Tensor:
        """Positions with a next token; with reduced labels only a share of those whose next token is in F."""
        ids = found.seen.batch.ids
        here = torch.ones_like(found.kept)
        here[:, -1] = False
        if self.reduced == "label":
            here &= ~self._members(ids.roll(-1, dims=1)) | self._spared(found)
        return here

    def _members(self, ids: Tensor) -> Tensor:
        return torch.isin(ids, torch.tensor(self.ids, device=ids.device))

    def _spared(self, found: Read) -> Tensor:
        """The share rho of all positions, by hash: in every pass and every variant the same ones."""
        rows, length = found.kept.shape
        numbers = np.repeat([w.index for w in found.windows], length)
        key = hashed(numbers, np.tile(np.arange(length), rows), self.seed + 1)
        share = (key >> np.uint64(11)).astype(np.float64) / 2**53
        return torch.from_numpy(share.reshape(rows, length) < self.rho).to(found.kept.device)


def _shuffled(window: Window, seed: int) -> list[int]:
    order = np.random.default_rng([seed, window.index]).permutation(len(window.ids) - 1)
    return [window.ids[0], *(window.ids[1 + int(k)] for k in order)]


def variants(tokenizer: Any, words: Sequence[str]) -> tuple[int, ...]:  # noqa: ANN401
    """Ids of every single-token spelling of some words: with and without a space before, in three cases.

    Raises:
        BadInput: for a word that no single token spells.
    """
    found: dict[int, None] = {}
    for word in words:
        ids = single_tokens(tokenizer, word)
        if not ids:
            raise BadInput(
                f"no single token spells {word!r} in this tokenizer; name a frequent word of one token"
            )
        found.update(dict.fromkeys(ids))
    return tuple(found)
