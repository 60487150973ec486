"""Words of an in-context task that are one token each: which pairs are compared, and where their words lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.materials.icl_tasks import Asking, Pair
from depthscope.measures.word_offsets import circles, grouped, held_out_offsets, nearest, shared_length
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run


@dataclass(frozen=True)
class WordPairs:
    """Pairs of words of one token each.

    Args:
        pairs: of input and output. group: of each; pairs that share a word are in one.
        closed: whether all lie in circles that lead back to where they start.
    """

    pairs: tuple[Pair, ...]
    group: tuple[int, ...]
    closed: bool
    asking: Asking

    @classmethod
    def of(cls, asking: Asking, pairs: Sequence[Pair], most: int, fewest: int, seed: int) -> WordPairs:
        """Those in circles where there are enough of them, else all; whole groups by the seed, as many as fit."""
        single = [(x, y) for x, y in pairs if x != y and len(asking.within(x)) == len(asking.within(y)) == 1]
        round_trips = [pair for pair, number in zip(single, circles(single), strict=True) if number >= 0]
        closed = len(round_trips) >= fewest
        used = round_trips if closed else single
        groups = grouped(used)
        order = np.random.default_rng([seed, 4]).permutation(len(set(groups))).tolist()
        kept: list[int] = []
        for group in order:
            own = [k for k, name in enumerate(groups) if name == group]
            kept += own if len(kept) + len(own) <= most else []
        kept.sort()
        return cls(tuple(used[k] for k in kept), tuple(groups[k] for k in kept), closed, asking)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Every word once."""
        return tuple(dict.fromkeys(word for pair in self.pairs for word in pair))

    @cached_property
    def tokens(self) -> Int[Tensor, " word"]:
        """The token of each word."""
        return torch.tensor([self.asking.within(word)[0] for word in self.words])

    def by_offset(
        self, where: Float[Tensor, "word d"], every: Float[Tensor, "token d"] | None = None
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Whether each pair's output lies nearest to its input plus the offset of the other groups.

        Among the `words`; among all tokens, NaN where there are none; and |mean offset| / mean |offset|.

        Args:
            where: a vector for each of the `words`. every: one for each token.
        """
        place = {word: k for k, word in enumerate(self.words)}
        own, partner = (torch.tensor([place[pair[side]] for pair in self.pairs]) for side in (0, 1))
        x, y = where[own], where[partner]
        points = x + held_out_offsets(x, y, torch.tensor(self.group))
        among = (nearest(points, where, own) == partner).double().numpy()
        overall = np.full(len(among), np.nan)
        if every is not None:
            tokens = self.tokens
            overall = (nearest(points, every, tokens[own]) == tokens[partner]).double().numpy()
        return among, overall, shared_length(x, y)

    def states(self, model: Model, state: int) -> Float[Tensor, "word d_model"]:
        """The state of each word where it is asked for: the last position of `Q: word`."""
        ids = [[*self.asking.before, *self.asking.ids(f"Q: {word}")] for word in self.words]
        site, found = model.anatomy.states()[state], dict[int, Tensor]()
        for length in sorted({len(row) for row in ids}):  # rows of equal lengths go side by side
            rows = [k for k, row in enumerate(ids) if len(row) == length]
            ends = run(model, Batch.of_ids([ids[k] for k in rows]), read=[site])[site][:, -1]
            found |= dict(zip(rows, ends.cpu(), strict=True))
        return torch.stack([found[k] for k in range(len(ids))])
