"""Entropies of single prompts: one number a prompt, state and choice of positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from depthscope.engine.view import View
from depthscope.measures.gram import prepared_gram, spectrum_of, token_gram
from depthscope.measures.spectrum import VANISHED, VANISHED_OF, log_bound, renyi_entropy
from depthscope.threads import spread


class Entropies(NamedTuple):
    """S1 of the centred unit rows in nats, and the largest it could be, both [row, choice, state].

    Where fewer than two rows are left after centring, as for equal tokens, both are 0 and `degenerate` is 1, else 0;
    all are NaN where the entropy was not wanted.
    """

    raw: np.ndarray
    bound: np.ndarray
    degenerate: np.ndarray

    @property
    def normalised(self) -> np.ndarray:
        """The entropy over ln min(rows, width); 0 where degenerate."""
        return self.raw / np.where(self.bound > 0, self.bound, 1.0)


def entropies(
    seen: View, masks: Sequence[Bool[Tensor, "row token"]], wanted: Bool[np.ndarray, "row choice"]
) -> Entropies:
    """Prompt entropies of every state over the positions of each mask, for the rows that want that choice."""
    vanished = VANISHED_OF.get(seen.seen["L0.resid_pre"].dtype, VANISHED)
    kept = torch.from_numpy(wanted).to(seen.each_state[0].device)

    def of_state(vectors: Tensor) -> Tensor:
        gram = token_gram(vectors)
        found = torch.full((3, *wanted.shape), torch.nan, dtype=torch.float64, device=gram.device)
        for k, mask in enumerate(masks):
            rows = kept[:, k]
            if rows.any():
                found[:, rows, k] = _entropy(gram[rows], mask[rows], vectors.shape[-1], vanished)
        return found

    raw, bound, live = torch.stack(spread(of_state, seen.each_state), -1).cpu().numpy()
    return Entropies(raw, bound, np.where(np.isnan(live), np.nan, live < 2))


def _entropy(gram: Tensor, mask: Tensor, d: int, vanished: float) -> Tensor:
    """Entropy, its bound and the rows that count, [3, row]."""
    prepared = prepared_gram(gram, mask, "wei", vanished)
    live = (prepared.diagonal(dim1=-2, dim2=-1) > 0).sum(-1)
    usable = live > 1
    entropy = torch.where(usable, renyi_entropy(spectrum_of(prepared)), 0.0)
    return torch.stack([entropy, torch.where(usable, log_bound(live, d), 0.0), live.double()])
