"""Sanity before layers are compared: finite vectors, a fit number format, batches that change nothing, clean items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from depthscope.advise.layer_task import Bank, Parts
from depthscope.engine.pooled import final_normed
from depthscope.errors import NonFinite, Refused
from depthscope.materials.edges import encoded
from depthscope.materials.labelled import Labelled
from depthscope.measures.pooling import pool
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run

TOGETHER = 16
"""Texts of the padded batch that is compared with the same texts alone."""
ALIKE = 0.9999
"""Least cosine of a text's vectors alone and in a batch."""
CHECKED = 32
"""Texts whose vectors are looked at."""


@dataclass(frozen=True)
class Sanity:
    """What was found before the choice.

    Args:
        finite: share of (state, text) vectors that are finite. batch: least cosine of a text alone and in a padded
            batch, over states. duplicates: rows of the file that stand there twice. conflicts: texts with two labels.
            shared: texts in both parts of the task. short: texts without a token of their own.
        blocks: that ran for it, over all texts.
    """

    dtype: str
    finite: float
    batch: float
    duplicates: int
    conflicts: int
    shared: int
    short: int
    blocks: int

    def as_json(self) -> dict[str, Any]:
        """The checks as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Sanity:
        """What `as_json` gave."""
        return cls(**stored)


def sanity(task: Labelled, both: Parts, bank: Bank) -> Sanity:
    """The checks of one model, one view of its states and one task.

    Raises:
        NonFinite: when every vector is NaN or infinite.
        Refused: when a text's vector depends on the batch it is read in.
    """
    model, texts = bank.model, both.choosing.texts[:CHECKED]
    found = bank.of(texts, range(model.anatomy.n_layers + 1))
    finite = float(np.isfinite(found).all(-1).mean())
    if finite == 0:
        raise NonFinite(
            f"every vector of {model.name} is NaN or infinite; load it with dtype float32 or bfloat16"
        )
    alike = _alike(bank, texts[:TOGETHER])
    least = ALIKE if model.dtype == torch.float32 else 0.99
    if alike < least:
        raise Refused(
            f"a text's vector depends on the batch it is read in: the least cosine of {model.name} alone and in "
            f"a padded batch of {TOGETHER} is {alike:.5f}, wanted {least}; such vectors cannot be compared"
        )
    labels: dict[str, set[str]] = {}
    for item in task.items if task.kind == "classification" else ():
        labels.setdefault(task.texts[item.texts[0]], set()).add(str(item.gold))
    return Sanity(
        str(model.dtype).removeprefix("torch."), finite, alike, task.duplicates,
        sum(len(said) > 1 for said in labels.values()), both.shared, sum(not text.strip() for text in task.texts),
        bank.blocks,
    )  # fmt: skip


@torch.no_grad()
def _alike(bank: Bank, texts: tuple[str, ...]) -> float:
    """Least cosine over states and texts of vectors alone and in one batch, padded on the right."""
    model, texts = bank.model, tuple(t for t in texts if t.strip())
    ids = [encoded(model.tokenizer, text, bank.max_tokens)[0] for text in texts]
    if not ids:
        return 1.0
    batch = Batch.of_ids(ids, pad=getattr(model.tokenizer, "pad_token_id", None) or 0)
    states = model.anatomy.states()
    seen = run(model, batch, read=states)
    alone = bank.of(texts, range(len(states)))
    return min(_cosine(_vectors(model, seen[site], batch, bank), alone[k]) for k, site in enumerate(states))


def _vectors(model: Model, state: torch.Tensor, batch: Batch, bank: Bank) -> np.ndarray:
    mask = batch.mask.to(state.device)
    return pool(final_normed(model, state) if bank.norm else state, mask, bank.pooling).float().cpu().numpy()


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    found = np.divide((first * second).sum(1), lengths, out=np.ones(len(first)), where=lengths > 0)
    return float(found.min()) if np.isfinite(found).all() else 1.0
