"""Patching the last position: its state is replaced at one depth, and the model goes on from there.

Only the last position changes, and nothing stands behind it, so all that a causal model needs of the other positions is
what it keeps of them anyway. Where every layer is attention, one pass over the prompt leaves keys and values, and one
token with a row for each depth goes on from them; else rows join a staircase over whole prompts as depth grows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.errors import BadInput, Refused
from depthscope.runtime.edits import replace_with
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.prefix import Prefix, goes_by_cache
from depthscope.runtime.replay import call_block
from depthscope.runtime.run import run

ROWS = 16
"""Rows of a staircase that one block call serves."""


@torch.no_grad()
def patched_ends(
    model: Model, ids: Sequence[int], donor: Float[Tensor, "state d_model"], by_cache: bool | None = None
) -> Float[Tensor, "state d_model"]:
    """The last state of the last position, when that position's state s is taken from a donor, for every s = 0..L.

    Args:
        model: a causal model. ids: the prompt. donor: all L+1 states of one position of another prompt.
        by_cache: go on from keys and values (True) or by a staircase (False); None takes the cheapest exact one.

    Raises:
        Refused: for models that are not causal, and for `by_cache` where a layer keeps more than keys and values.
        BadInput: for a prompt below 2 tokens or a donor of another depth.
    """
    anatomy = model.anatomy
    if not anatomy.family.causal:
        raise Refused(
            f"{model.name} is no causal language model: a patched last position changes the others too"
        )
    if len(ids) < 2 or len(donor) != anatomy.n_layers + 1:
        raise BadInput(
            f"a patch needs a prompt of 2 tokens and {anatomy.n_layers + 1} states, got {len(ids)} and {len(donor)}"
        )
    cached = goes_by_cache(model, by_cache, "patch")
    ends = _from_cache(model, list(ids), donor) if cached else _from_stairs(model, list(ids), donor)
    return torch.cat([ends, donor[-1:].to(ends)])


def last_states(model: Model, ids: Int[Tensor, "row token"]) -> Float[Tensor, "row state d_model"]:
    """All states of the last position of each row."""
    seen = run(model, Batch.of_ids(ids), read=["L0.resid_pre", "L*.resid_post"])
    return torch.stack([seen[site][:, -1] for site in model.anatomy.states()], dim=1)


def _from_cache(model: Model, ids: list[int], donor: Tensor) -> Tensor:
    """One token, a row for each depth, behind the keys and values of the tokens before it."""
    depth = model.anatomy.n_layers
    rows = torch.eye(depth, dtype=torch.bool, device=model.device)[:, :, None]
    edits = [
        replace_with(Site(s, "resid_pre"), donor[s].expand(depth, 1, -1).to(model.dtype), rows[s])
        for s in range(depth)
    ]
    return Prefix.of(model, ids).ends(depth, edits)


def _from_stairs(model: Model, ids: list[int], donor: Tensor) -> Tensor:
    """Whole prompts: the row that is patched at a depth joins there, with the clean stream of the other positions."""
    seen = run(model, Batch.of_ids([ids]), read=["L0.resid_pre", "L*.resid_post"], record=True)
    streams: list[Tensor] = []
    for layer, site in enumerate(model.anatomy.states()[:-1]):
        stream = seen[site].clone()
        stream[:, -1] = donor[layer].to(stream)
        streams.append(stream)
        joined = torch.cat(streams)
        parts = [call_block(seen, layer, joined[k : k + ROWS]) for k in range(0, len(joined), ROWS)]
        streams = list(torch.cat(parts).split(1))
    return torch.cat(streams)[:, -1]
