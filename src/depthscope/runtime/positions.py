"""Learned positions: the table that a network adds to its tokens, and an edit that gives a token another position."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from depthscope.anatomy.anatomy import base_model, walk
from depthscope.errors import BadInput
from depthscope.runtime.edits import Edit, add
from depthscope.runtime.model import Model


def position_table(model: Model) -> Float[Tensor, "position d_model"] | None:
    """The learned vectors of positions as GPT-2 holds them (`wpe`); None where a network has no such table."""
    found = walk(base_model(model.net), "wpe")
    return found.weight.detach() if isinstance(found, nn.Embedding) else None


def moved_position(model: Model, at: int, by: int, length: int) -> Edit:
    """An edit of state 0 that gives the token at one position the vector of the position `by` places on.

    Raises:
        BadInput: where there is no table of positions, or it does not hold the new one.
    """
    table = position_table(model)
    if table is None or not 0 <= at + by < len(table):
        held = "no table of learned positions" if table is None else f"{len(table)} positions"
        raise BadInput(f"{model.name} has {held}; position {at} cannot be moved by {by}")
    only = torch.zeros(length, dtype=torch.bool)
    only[at] = True
    return add("L0.resid_pre", table[at + by] - table[at], at=only)
