"""Erasure: one position's state is replaced at one depth, and the model goes on from there; all positions in batches.

In a causal model all that stands before the erased position stays as it is. The clean stream rides along as row 0 of
every batch: what differs from it within the batch is the effect, and what it differs itself from the recorded pass is
the noise floor.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.errors import BadInput
from depthscope.runtime.replay import replay
from depthscope.runtime.run import Seen

BUDGET = 256 * 2**20
"""Bytes that one batch may take beyond the model, by an estimate of its widest tensors and of its logits."""


@torch.no_grad()
def erased_ends(
    seen: Seen,
    state: int,
    value: Float[Tensor, " d_model"],
    erased: Int[Tensor, " position"],
    read: Int[Tensor, " mark"],
    budget: int = BUDGET,
) -> Iterator[tuple[Int[Tensor, " part"], Float[Tensor, "row mark d_model"]]]:
    """Last states at the positions `read`, when state `state` of one position is replaced by `value`.

    Yields:
        The erased positions of one batch and its ends: row 0 is the clean stream, row 1 + k belongs to the k-th.

    Args:
        seen: a pass over one row with `record=True` that read all states. state: 0..L; at L nothing runs behind it.

    Raises:
        BadInput: for a pass over several rows or a state that does not exist.
    """
    states = seen.model.anatomy.states()
    if seen.batch.rows != 1 or not 0 <= state < len(states):
        raise BadInput(
            f"an erasure needs a pass over one row and a state from 0 to {len(states) - 1}; got "
            f"{seen.batch.rows} rows and state {state}"
        )
    clean = seen[states[state]]
    end = Site(seen.model.anatomy.n_layers - 1, "resid_post")
    for part in erased.split(rows_that_fit(seen, len(read), budget)):
        streams = clean.repeat(1 + len(part), 1, 1)
        streams[torch.arange(1, 1 + len(part)), part] = value.to(streams)
        yield part, replay(seen, state, streams)[end][:, read]


def rows_that_fit(seen: Seen, marks: int, budget: int) -> int:
    """Rows whose widest tensors, and whose logits at the marks, fit the budget; at least 1."""
    anatomy = seen.model.anatomy
    width = 4 * anatomy.d_model + 3 * max(anatomy.d_mlp, anatomy.d_model)
    each = seen.batch.length * width + 3 * marks * anatomy.d_vocab
    return max(1, budget // max(1, each * seen[Site(0, "resid_pre")].element_size()))
