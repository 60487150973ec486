"""What every layer writes against the stream it writes to: norms and products, and their sums over rows."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy, Layer
from depthscope.anatomy.site import Site
from depthscope.engine.tally import PerDocument
from depthscope.engine.view import View
from depthscope.measures.residual import Against, against

WRITERS = ("attention", "mlp", "block")
"""Whose write: the mixer's, the MLP's, the whole layer's."""


def written(anatomy: Anatomy, seen: View) -> Against:
    """Norm of each write, norm of the stream it is added to, and their product, each [layer, writer, row, token].

    NaN where a layer has no such writer. The MLP of a sequential block is held against the stream after the mixer. One
    layer is looked at at a time, in memory that is used again: it stays in the processor's cache.
    """
    states, lengths = seen.each_state, [seen.seen.norms[site] for site in anatomy.states()]
    shape = (3, anatomy.n_layers, len(WRITERS), *states[0].shape[:2])
    found = states[0].new_full(shape, torch.nan)
    change, middle = torch.empty_like(states[0]), torch.empty_like(states[0])
    for layer in anatomy.layers:
        k = layer.index
        pairs = {2: (torch.sub(states[k + 1], states[k], out=change), states[k])}
        if not anatomy.family.post_norm:
            pairs |= _sublayers(anatomy, layer, seen, middle)
        for place, (write, stream) in pairs.items():
            known = lengths[k] if stream is states[k] else None
            for part, values in enumerate(against(write, stream, known)):
                found[part, k, place] = values
    return Against(*found.unbind(0))


def _sublayers(
    anatomy: Anatomy, layer: Layer, seen: View, middle: Tensor
) -> dict[int, tuple[Tensor, Tensor]]:
    """Place among WRITERS -> write and the stream it is added to."""
    k, stream = layer.index, seen.each_state[layer.index]
    found: dict[int, tuple[Tensor, Tensor]] = {}
    mixed = [seen[Site(k, part)].to(stream) for part, _ in layer.mixers()]  # pyright: ignore[reportArgumentType]
    if mixed:
        write = sum(mixed[1:], mixed[0])
        found[0] = (write, stream)
        stream = stream if anatomy.parallel else torch.add(stream, write, out=middle)
    if layer.mlp is not None:
        found[1] = (seen[Site(k, "mlp_out")].to(stream), stream)
    return found


def summed(
    values: Float[Tensor, "*cells row token"], kept: Bool[Tensor, "row token"], units: tuple[str, ...]
) -> PerDocument:
    """Sums and counts of finite values at the kept positions, [unit, *cells]; each row belongs to one unit."""
    fine = kept & torch.isfinite(values)
    sums = torch.where(fine, values, 0.0).sum(-1, dtype=torch.float64)
    counted = fine.sum(-1)
    return PerDocument.of_sums(units, sums.movedim(-1, 0).cpu().numpy(), counted.movedim(-1, 0).cpu().numpy())
