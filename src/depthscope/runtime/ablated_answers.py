"""Answers written while heads are ablated, many ablations side by side behind one prompt that was read intact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.errors import BadInput
from depthscope.runtime.head_ablation import Ablation, ablating
from depthscope.runtime.model import Model
from depthscope.runtime.prefix import Prefix, keeps_only_keys

ROWS = 16
"""Ablations that one step serves: each row holds a copy of the prompt's keys and values."""


def unsuited(anatomy: Anatomy) -> str:
    """Why a model cannot write from a shared prompt, or nothing."""
    if keeps_only_keys(anatomy):
        return ""
    kinds = ", ".join(dict.fromkeys(anatomy.kind_of_layer))
    return f"its layers keep more than keys and values ({kinds}), so one prompt cannot serve many ablations"


@torch.no_grad()
def answers_under(
    model: Model,
    prompt: Sequence[int],
    conditions: Sequence[Ablation],
    length: int,
    means: Float[Tensor, "layer head d_head"] | None = None,
    rows: int = ROWS,
) -> Int[Tensor, "condition length"]:
    """What the model writes greedily behind a prompt under each ablation (the lowest id among equals).

    The prompt but its last token is read intact; from its last token on every step is ablated ("decode_only").

    Args:
        prompt: 2 tokens or more. conditions: those that `ablating` allows; one without heads is the intact model.
        length: tokens that are written. means: for mean ablations. rows: ablations side by side.

    Raises:
        BadInput: for a prompt below 2 tokens, or a model that keeps more than keys and values.
    """
    reason = unsuited(model.anatomy)
    if reason or len(prompt) < 2:
        raise BadInput(f"{model.name}: {reason or f'a prompt of {len(prompt)} tokens is too short, give 2'}")
    prefix = Prefix.of(model, prompt)
    groups = [conditions[k : k + rows] for k in range(0, len(conditions), rows)]
    return torch.cat([_written(prefix, g, length, means) for g in groups])


def _written(prefix: Prefix, conditions: Sequence[Ablation], length: int, means: Tensor | None) -> Tensor:
    model, cache = prefix.model, prefix.grown(len(conditions))
    token = prefix.tokens(len(conditions))
    found: list[Tensor] = []
    with ablating(model, conditions, means=means):
        for _ in range(length):
            out: Any = model.net(input_ids=token, past_key_values=cache, use_cache=True, return_dict=True)
            token = out.logits[:, -1:].argmax(-1)
            found.append(token)
    return torch.cat(found, 1)
