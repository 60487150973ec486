"""Answers written while heads are ablated, many ablations side by side behind one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy, base_model
from depthscope.errors import BadInput
from depthscope.runtime.head_ablation import Ablation, ablating
from depthscope.runtime.model import Model
from depthscope.runtime.prefix import Prefix, keeps_only_keys

ROWS = 16
"""Ablations that one step serves: each row holds a copy of the prompt's keys and values."""
TOKENS = 4096
"""Tokens of prompts that one pass reads under several ablations."""


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

    From the prompt's last token on every step is ablated. What stands before it is read intact where a condition's
    place is "decode_only", once for all of them; at "all" each condition reads it ablated, several of them in one pass.

    Args:
        prompt: 2 tokens or more. conditions: those that `ablating` allows; one without heads is the intact model.
        length: tokens that are written. means: for mean ablations. rows: ablations side by side.

    Raises:
        BadInput: for a prompt below 2 tokens, or a model that keeps more than keys and values.
    """
    reason = unsuited(model.anatomy)
    if reason or len(prompt) < 2:
        raise BadInput(f"{model.name}: {reason or f'a prompt of {len(prompt)} tokens is too short, give 2'}")
    whole = [bool(c.heads) and isinstance(c.at, str) and c.at == "all" for c in conditions]
    found = torch.zeros(len(conditions), length, dtype=torch.long, device=model.device)
    late, early = ([k for k, w in enumerate(whole) if w == side] for side in (False, True))
    prefix = Prefix.of(model, prompt) if late else None
    for group in _parts(late, rows):
        found[group] = _written(model, prompt, prefix, [conditions[k] for k in group], length, means)
    for group in _parts(early, max(1, min(rows, TOKENS // len(prompt)))):
        found[group] = _written(model, prompt, None, [conditions[k] for k in group], length, means)
    return found


def _parts(places: list[int], size: int) -> list[list[int]]:
    return [places[k : k + size] for k in range(0, len(places), size)]


def _written(
    model: Model,
    prompt: Sequence[int],
    prefix: Prefix | None,
    conditions: Sequence[Ablation],
    length: int,
    means: Tensor | None,
) -> Tensor:
    """[condition length]; without a prefix the prompt is read under the ablations too."""
    found: list[Tensor] = []
    rows = len(conditions)
    with ablating(model, conditions, means=means):
        if prefix is None:
            before = torch.tensor([list(prompt[:-1])], device=model.device).expand(rows, -1)
            cache: Any = base_model(model.net)(
                input_ids=before, use_cache=True, return_dict=True
            ).past_key_values
        else:
            cache = prefix.grown(rows)
        token = torch.full((rows, 1), prompt[-1], device=model.device)
        for _ in range(length):
            out: Any = model.net(input_ids=token, past_key_values=cache, use_cache=True, return_dict=True)
            token = out.logits[:, -1:].argmax(-1)
            found.append(token)
    return torch.cat(found, 1)
