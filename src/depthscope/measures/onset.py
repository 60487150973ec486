"""At which state something is reached (last axis = state, s = 0 .. n_states - 1).

`hit` says at which states a condition holds, for instance rank <= k. "Never" is n_states, one past the last
state, so that censored items can be counted (onset == n_states) and either dropped or kept as the largest
value.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.measures.laws import Law


def first_onset(hit: Bool[Tensor, "*items state"]) -> Int[Tensor, "*items"]:
    """First state with a hit, min{s : hit_s}; n_states where there is none. int64.

    Later misses do not matter. Source: "How Do LLMs Use Their Depth?" (2510.18871), earliest layer of a
    crossing.
    """
    return _first_true(hit)


def stable_onset(hit: Bool[Tensor, "*items state"]) -> Int[Tensor, "*items"]:
    """First state from which every later state hits too, min{s : hit_j for all j >= s}.

    n_states if the last state misses. int64, never below `first_onset`. With hit = (rank 1 of the final
    prediction) this is the settle depth.
    Source: "prediction depth" in Belrose et al. 2023 (tuned lens), section 4.
    """
    unbroken_to_the_end = hit.flip(-1).long().cumprod(-1)
    return hit.shape[-1] - unbroken_to_the_end.sum(-1)


def persistent_onset(hit: Bool[Tensor, "*items state"], m: int = 2) -> Int[Tensor, "*items"]:
    """First state that starts m hits in a row; n_states where there is none. int64.

    A run that lasts to the final state counts although depth cuts it off. m = 1 is `first_onset`.
    Never above `stable_onset`, and equal to it where m >= n_states.

    Raises:
        BadInput: m is below 1.
    """
    if m < 1:
        raise BadInput(f"persistent_onset asks for m hits in a row, got m={m}: pass m >= 1")
    beyond_depth = hit.new_ones((*hit.shape[:-1], m - 1))
    return _first_true(torch.cat([hit, beyond_depth], dim=-1).unfold(-1, m, 1).all(-1))


DEFINITIONS = ("first", "stable", "persistent")
"""The three onsets, in the order in which `onsets` gives them."""


def onsets(rank: Int[Tensor, "*items state"], within: Sequence[int]) -> Int[Tensor, "*items definition k"]:
    """First, stable and persistent (2 in a row) onset of rank <= k, for each k of `within`. int64.

    n_states where it is never reached. A larger k is never reached later. Source: FC_k of "How Do LLMs Use Their
    Depth?" (2510.18871) and its stricter companions.

    Raises:
        BadInput: no k is given, or one is below 1.
    """
    if not within or min(within) < 1:
        raise BadInput(f"onsets of rank <= k need ranks k of 1 or more, got {list(within)}")
    hit = [rank <= k for k in within]
    by_k = [torch.stack([first_onset(h), stable_onset(h), persistent_onset(h)], -1) for h in hit]
    return torch.stack(by_k, -1)


def changes(ids: Int[Tensor, "*items state"]) -> Int[Tensor, "*items"]:
    """How often the id changes from one state to the next, #{s : id_s != id_(s-1)}; 0 .. n_states - 1."""
    return (ids[..., 1:] != ids[..., :-1]).sum(-1)


def _first_true(hit: Tensor) -> Tensor:
    # Of several equal maxima torch returns the first.
    return torch.where(hit.any(-1), hit.to(torch.uint8).argmax(-1), hit.shape[-1])


LAWS = (
    Law(first_onset, ("non_negative", "batch_free")),
    Law(stable_onset, ("non_negative", "batch_free")),
    Law(persistent_onset, ("non_negative", "batch_free")),
    Law(onsets, ("non_negative", "batch_free"), {"within": (1, 3)}),
    Law(changes, ("non_negative", "batch_free")),
)
