"""Looped networks as a virtual layer list: step k runs block steps[k], and blocks that run again share their weights.

An unrolled network is a real one with one layer a step. Whatever is measured of layers is then measured of steps: a
skip leaves out one pass of a block, a removal takes away a repeat, every step has its own slot in the cache.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from depthscope.anatomy.anatomy import base_model, resolve, text_config, walk
from depthscope.anatomy.site import Site
from depthscope.errors import BadInput, Refused
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.replay import fixed_order, replay
from depthscope.runtime.run import run

_PROBE = 8
"""Token ids that the unrolled network is checked with."""
_EXACT = 1e-3
"""Relative difference of last states that is still rounding, also in bfloat16."""


def looped(n_layers: int, first: int, last: int, times: int) -> tuple[int, ...]:
    """The steps of a network whose blocks first .. last run `times` times: 0 1 2 1 2 3 for (4, 1, 2, 2).

    Raises:
        BadInput: for blocks that do not exist or fewer than one pass.
    """
    if not 0 <= first <= last < n_layers or times < 1:
        raise BadInput(
            f"blocks {first} to {last}, {times} times: give blocks of 0 to {n_layers - 1} and 1 pass or more"
        )
    return (*range(first), *(list(range(first, last + 1)) * times), *range(last + 1, n_layers))


def passes(steps: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """For each step its block and which pass of that block it is, from 0."""
    seen: dict[int, int] = {}
    found: list[tuple[int, int]] = []
    for block in steps:
        found.append((block, seen.get(block, 0)))
        seen[block] = found[-1][1] + 1
    return tuple(found)


def unrolled(model: Model, steps: Sequence[int]) -> Model:
    """A model whose layer k is block steps[k] of the given one; all weights are shared with it.

    `provenance["steps"]` keeps the list; `weights_hash` and `recipe` are dropped, since no file holds this network.

    Raises:
        BadInput: for blocks that do not exist, or no step. Refused: for networks that read no tokens, whose layers may
            not change places, or that do not give what running the blocks in this order gives.
    """
    steps, depth = tuple(int(k) for k in steps), model.anatomy.n_layers
    wrong = sorted({k for k in steps if not 0 <= k < depth})
    if wrong or not steps:
        raise BadInput(
            f"steps {list(steps)} name blocks {wrong or 'not at all'}; {model.name} has 0 to {depth - 1}"
        )
    _refuse(model)
    net = copy.deepcopy(model.net, {id(p): p for p in model.net.parameters()})
    blocks = walk(base_model(net), model.anatomy.family.blocks)
    assert isinstance(blocks, nn.ModuleList)
    listed = [copy.deepcopy(blocks[k], {id(p): p for p in blocks[k].parameters()}) for k in steps]
    for place, block in enumerate(listed):
        numbered(block, place)
    del blocks[:]
    blocks.extend(listed)
    _relist(model, text_config(net), steps)
    said = {"name": f"{model.name}, steps {' '.join(map(str, steps))}", "weights_hash": None, "recipe": None}
    anatomy = resolve(net, model.anatomy.family, model.anatomy.name, model.anatomy.guessed)
    found = Model(net, model.tokenizer, anatomy, {**model.provenance, **said, "steps": list(steps)})
    _check(model, found, steps)
    return found


def numbered(block: nn.Module, place: int) -> None:
    """Give a block and its parts the number of its new place, which names its slot in the cache."""
    for module in block.modules():
        if isinstance(getattr(module, "layer_idx", None), int):
            vars(module)["layer_idx"] = place


def relisted(config: object, n_layers: int, steps: Sequence[int]) -> None:
    """Write into a configuration the number of steps, and what it lists for each layer in the order of the steps."""
    for name, value in list(vars(config).items()):
        if isinstance(value, list | tuple) and len(value) == n_layers:
            setattr(config, name, [value[k] for k in steps])
    config.num_hidden_layers = len(steps)  # pyright: ignore[reportAttributeAccessIssue]


def _relist(model: Model, config: object, steps: Sequence[int]) -> None:
    """Write the steps into a configuration; what it derives by a rule must come out in their order too.

    Raises:
        Refused: where a rule, such as a period of kinds of layers, cannot say these steps: masks and cache slots would
            be those of other blocks, without an error.
    """
    depth = model.anatomy.n_layers
    before = _derived(config, depth)
    relisted(config, depth, steps)
    for name, value in before.items():
        if list(getattr(config, name)) != [value[k] for k in steps]:
            raise Refused(
                f"{model.name} cannot be unrolled: its configuration derives {name} from a rule that cannot say steps "
                f"{' '.join(map(str, steps))}; repeat whole periods of it"
            )


def _derived(config: object, n_layers: int) -> dict[str, list[object]]:
    """Lists with one entry a layer that a configuration computes."""
    names = [name for name in dir(type(config)) if isinstance(getattr(type(config), name), property)]
    found = {name: getattr(config, name, None) for name in names}
    return {n: list(v) for n, v in found.items() if isinstance(v, list | tuple) and len(v) == n_layers}


def _refuse(model: Model) -> None:
    what = f"{model.name} cannot be unrolled"
    if model.anatomy.family.reads != "tokens":
        raise Refused(
            f"{what}: it reads {model.anatomy.family.reads}, and the order of blocks is checked on tokens"
        )
    if reason := fixed_order(model.anatomy):
        raise Refused(f"{what}: {reason}")
    if getattr(model.config, "hybrid_layer_ids", None):
        raise Refused(f"{what}: it calls a shared transformer, whose adapters are numbered by its calls")
    if any(layer.pre is not None for layer in model.anatomy.layers):
        raise Refused(f"{what}: its first block holds the norm that every token goes through first")


def _check(model: Model, found: Model, steps: Sequence[int]) -> None:
    """The last state is that of the model's own blocks run in this order.

    Raises:
        Refused: otherwise, as where what a block does depends on its number.
    """
    batch = Batch.of_ids(torch.arange(_PROBE)[None] % max(1, model.anatomy.d_vocab)).to(model.device)
    seen = run(model, batch, read=["L0.resid_pre", "L*.resid_post"], record=True)
    wanted = replay(seen, 0, order=steps)[Site(model.anatomy.n_layers - 1, "resid_post")].float()
    last = Site(found.anatomy.n_layers - 1, "resid_post")
    got = run(found, batch, read=[last])[last].float()
    if not torch.linalg.vector_norm(got - wanted) <= _EXACT * torch.linalg.vector_norm(wanted):
        raise Refused(
            f"{model.name} cannot be unrolled: its blocks do not give the same in other places (what they do depends "
            "on their number)"
        )
