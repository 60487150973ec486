"""Many orders of layers over one recorded pass: what they begin with alike is run once.

Orders are laid into a tree of steps that is walked depth first, so a prefix that several orders share is run for all of
them, and layers 0, 1, 2 ... in their own places are not run at all: the recorded states are there. Removing
the set S of layers thus starts at min(S), and a set that shares its first removals with another starts where they part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.runtime.replay import Parallel, Step, run_step
from depthscope.runtime.run import Seen

Order = tuple[Step, ...]


def without(n_layers: int, removed: Collection[int]) -> Order:
    """The layers 0..L-1 that are left when some are removed."""
    return tuple(layer for layer in range(n_layers) if layer not in removed)


def ends(seen: Seen, orders: Sequence[Order]) -> Iterator[tuple[int, Float[Tensor, "row token d_model"]]]:
    """The last state of each order of layers as (place of the order, stream), in no particular sequence.

    Equal orders give the same tensor. At most one stream for each step of the longest order is held at a time.

    Args:
        seen: a pass made with `record=True` that read all states.
        orders: each runs from the input of the first block to the last state.

    Raises:
        Refused: when the pass was not recorded, or a recorded call carried a cache object.
    """
    with torch.no_grad():
        yield from _walk(seen, _tree(orders), seen[Site(0, "resid_pre")], 0)


def evaluations(orders: Sequence[Order]) -> int:
    """How many blocks `ends` runs for these orders: each shared prefix once, the recorded beginning not at all."""
    return _counted(_tree(orders), 0)


def separate_evaluations(orders: Sequence[Order]) -> int:
    """How many blocks the orders run one by one, each from the input of the first block."""
    return sum(_cost(step) for order in orders for step in order)


@dataclass
class _Node:
    """A prefix that some orders share: the orders that end with it, and how they go on."""

    orders: list[int] = field(default_factory=list)
    following: dict[Step, _Node] = field(default_factory=dict)


def _tree(orders: Sequence[Order]) -> _Node:
    root = _Node()
    for place, order in enumerate(orders):
        node = root
        for step in order:
            node = node.following.setdefault(step, _Node())
        node.orders.append(place)
    return root


def _walk(seen: Seen, node: _Node, stream: Tensor, depth: int) -> Iterator[tuple[int, Tensor]]:
    """`depth` counts the layers that ran in their own places so far; -1 once an order has left them."""
    for place in node.orders:
        yield place, stream
    for step, child in node.following.items():
        if step == depth:
            yield from _walk(seen, child, seen[Site(depth, "resid_post")], depth + 1)
        else:
            yield from _walk(seen, child, run_step(seen, step, stream), -1)


def _counted(node: _Node, depth: int) -> int:
    total = 0
    for step, child in node.following.items():
        kept = step == depth
        total += (0 if kept else _cost(step)) + _counted(child, depth + 1 if kept else -1)
    return total


def _cost(step: Step) -> int:
    return len(step.layers) if isinstance(step, Parallel) else 1
