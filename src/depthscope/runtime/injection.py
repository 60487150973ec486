"""Injection: a vector added to the last position's state at one depth, and the model goes on from there.

As with patches of the last position, nothing stands behind it: where every layer is attention, one pass over the prompt
leaves keys and values, and one token with a row for each injection goes on from them; else whole prompts are replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.errors import BadInput, Refused
from depthscope.runtime.edits import Edit
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.prefix import Prefix, goes_by_cache
from depthscope.runtime.replay import replay
from depthscope.runtime.run import run

ROWS = 64
"""Injections that go through the network side by side."""


@torch.no_grad()
def injected_ends(
    model: Model,
    ids: Sequence[int],
    states: Sequence[int],
    vectors: Float[Tensor, "injection d_model"],
    by_cache: bool | None = None,
) -> Float[Tensor, "injection d_model"]:
    """The last state of the last position when vectors[k] is added to that position's state states[k], for every k.

    Args:
        model: a causal model. ids: the prompt, 2 tokens or more.
        states: 0 is the embedding output, k what block k - 1 gives and block k reads, L what is decoded.
        by_cache: go on from keys and values (True) or replay whole prompts (False); None takes the cheapest exact one.

    Raises:
        Refused: for models that are not causal, and for `by_cache` where a layer keeps more than keys and values.
        BadInput: for a prompt below 2 tokens, or states that do not exist.
    """
    anatomy = model.anatomy
    if not anatomy.family.causal:
        raise Refused(
            f"{model.name} is no causal language model: its last position says nothing of a next token"
        )
    if len(ids) < 2 or len(states) != len(vectors) or any(not 0 <= s <= anatomy.n_layers for s in states):
        raise BadInput(
            f"an injection needs a prompt of 2 tokens, and a vector for each state of 0 to {anatomy.n_layers}; got "
            f"{len(ids)} tokens, {len(vectors)} vectors and the states {sorted(set(states))}"
        )
    cached = goes_by_cache(model, by_cache, "inject into")
    order = sorted(range(len(states)), key=lambda k: states[k])
    groups = [order[k : k + ROWS] for k in range(0, len(order), ROWS)]
    through = partial(_behind, Prefix.of(model, ids)) if cached else _replayed(model, ids)
    found = [through([states[k] for k in group], vectors[group]) for group in groups]
    ends = torch.cat([end.cpu() for end in found]) if found else torch.zeros(0, anatomy.d_model)
    return ends[torch.argsort(torch.tensor(order, dtype=torch.long))].to(vectors.device)


def _behind(prefix: Prefix, states: Sequence[int], vectors: Tensor) -> Tensor:
    """The last token, a row an injection, behind kept keys and values."""
    depth = prefix.model.anatomy.n_layers
    at = torch.tensor(list(states), device=prefix.model.device)
    edits = [
        Edit(Site(s, "resid_pre"), partial(_plus, vectors * (at == s)[:, None].to(vectors)), f"inject at {s}")
        for s in sorted(set(states))
        if s < depth
    ]
    return _at_end(prefix.ends(len(states), edits), depth, states, vectors)


def _plus(added: Tensor, stream: Tensor, _: Tensor) -> Tensor:
    return stream + added[:, None].to(stream)


def _at_end(ends: Tensor, depth: int, states: Sequence[int], vectors: Tensor) -> Tensor:
    """What is injected at the last state is added to it: no layer follows."""
    late = torch.tensor([s == depth for s in states], device=ends.device)
    return ends + torch.where(late[:, None], vectors.to(ends), 0.0)


def _replayed(model: Model, ids: Sequence[int]):  # noqa: ANN202
    seen = run(model, Batch.of_ids([list(ids)]), read=["L0.resid_pre", "L*.resid_post"], record=True)
    streams, depth = seen.states(), model.anatomy.n_layers

    def through(states: Sequence[int], vectors: Tensor) -> Tensor:
        found: dict[int, Tensor] = {}
        for s in sorted(set(states)):
            rows = [k for k, state in enumerate(states) if state == s]
            stream = streams[s].repeat(len(rows), 1, 1)
            stream[:, -1] += vectors[rows].to(stream)
            end = stream if s == depth else replay(seen, s, stream)[Site(depth - 1, "resid_post")]
            found |= dict(zip(rows, end[:, -1], strict=True))
        return torch.stack([found[k] for k in range(len(states))])

    return through
