"""Sums behind linear maps: read once for a group of source states, then solved in closed form.

For every source state m: G = sum x x^T, and C = sum x y^T for the targets of all states at once. Products are taken in
the head's precision of shifted rows and added up in float64, as for a ridge lens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.errors import NonFinite
from depthscope.fits.map_rows import Items, Pair, Source
from depthscope.fits.states import batches
from depthscope.materials.window import Window
from depthscope.measures.linear_map import Spectrum, spectral

Sums = dict[str, Tensor]
Seen = Callable[[int], None]
"""Called with the tokens of each batch that was read."""


def gathered(pair: Pair, group: Sequence[Source], windows: Sequence[Window], seen: Seen) -> Sums:
    """Sums of some windows for some sources.

    Keys: `count` []; `shift_x`, `first_x` [source d]; `shift_y`, `first_y` [column]; `gram` [source d d]; `cross`
    [source d column], where rows are taken from their shift, the mean of the first batch.

    Raises:
        NonFinite: when no position is left.
    """
    sums: Sums = {}
    for batch in batches(windows):
        items = pair.items(batch)
        if items.count:
            _add(sums, group, items)
        seen(sum(len(w.ids) for w in batch))
    if not sums:
        raise NonFinite(
            f"no position of the text has finite states in {pair.source.name} and {pair.target.name}"
        )
    return sums


def _add(sums: Sums, group: Sequence[Source], items: Items) -> None:
    y = items.targets[0].flatten(1)
    if not sums:
        _start(sums, group, items)
    sums["count"] += len(y)
    y = y - sums["shift_y"].to(y)
    sums["first_y"] += y.sum(0, dtype=torch.float64)
    for k, source in enumerate(group):
        x = items.source(source) - sums["shift_x"][k].to(y)
        sums["first_x"][k] += x.sum(0, dtype=torch.float64)
        sums["gram"][k] += x.T @ x
        sums["cross"][k] += x.T @ y


def _start(sums: Sums, group: Sequence[Source], items: Items) -> None:
    y = items.targets[0].flatten(1).double().mean(0)
    d = items.pair.source.anatomy.d_model
    shapes = {"first_x": (len(group), d), "first_y": (len(y),)}
    shapes |= {"gram": (len(group), d, d), "cross": (len(group), d, len(y))}
    sums.update(
        {name: torch.zeros(shape, dtype=torch.float64, device=y.device) for name, shape in shapes.items()}
    )
    sums["count"] = torch.zeros((), dtype=torch.int64, device=y.device)
    sums["shift_x"] = torch.stack([items.source(source).double().mean(0) for source in group])
    sums["shift_y"] = y


@dataclass(frozen=True)
class Solved:
    """The ridge problems of one group in their eigenbases.

    Args:
        centre_x [source d], centre_y [column]: training means; maps go through them.
        scale: [source], the mean diagonal of each centred Gram matrix, the unit of penalties.
    """

    spectra: tuple[Spectrum, ...]
    centre_x: Tensor
    centre_y: Tensor
    scale: Tensor
    count: int

    @classmethod
    def of(cls, sums: Sums) -> Solved:
        """Centre the sums and take them apart; `cross` is used up."""
        n = sums["count"]
        mean_x, mean_y = sums["first_x"] / n, sums["first_y"] / n
        spectra: list[Spectrum] = []
        for gram, cross, mean in zip(sums["gram"], sums["cross"], mean_x, strict=True):
            cross.addr_(mean, mean_y, alpha=-float(n))
            found = spectral(gram - n * torch.outer(mean, mean), cross)
            cross.copy_(found.rotated)
            spectra.append(found._replace(rotated=cross))
        scale = torch.stack([each.values.mean() for each in spectra])
        tiny = torch.finfo(torch.float64).tiny
        return cls(
            tuple(spectra), sums["shift_x"] + mean_x, sums["shift_y"] + mean_y, scale.clamp_min(tiny), int(n)
        )


def chosen(
    pair: Pair,
    group: Sequence[Source],
    solved: Solved,
    grid: Sequence[float],
    windows: Sequence[Window],
    seen: Seen,
) -> Tensor:
    """The place in the grid of each source's and target's penalty, [source state]: least squared error on some windows.

    Errors are taken on `looks`, the same few random directions of each target for all sources and penalties.
    """
    shape = (len(pair.targets), pair.kept)
    narrow = [_looked(each.rotated.unflatten(1, shape), pair.looks) for each in solved.spectra]
    errors = torch.zeros(len(group), len(grid), shape[0], dtype=torch.float64, device=pair.source.device)
    for batch in batches(windows):
        items = pair.items(batch)
        y = _looked(items.targets[0] - solved.centre_y.to(pair.precision).unflatten(0, shape), pair.looks)
        for k, source in enumerate(group):
            spectrum = solved.spectra[k]
            x = (items.source(source) - solved.centre_x[k].to(y)) @ spectrum.vectors.to(y)
            for a, alpha in enumerate(grid):
                shrunk = x / (spectrum.values + alpha * solved.scale[k]).to(y)
                guess = (shrunk @ narrow[k].flatten(1)).unflatten(1, narrow[k].shape[1:])
                errors[k, a] += (guess - y).square().sum((0, 2), dtype=torch.float64)
        seen(sum(len(w.ids) for w in batch))
    return errors.argmin(1)


def _looked(columns: Tensor, looks: Tensor) -> Tensor:
    """[row state kept] on the directions that penalties are chosen on, [row state look]."""
    return torch.einsum("rsk,skl->rsl", columns.to(looks), looks)


@dataclass(frozen=True)
class Maps:
    """Finished maps of one group: y = centre_y + (x - centre_x) W, with weights W [source][d column]."""

    weights: tuple[Tensor, ...]
    centre_x: Tensor
    centre_y: Tensor

    @classmethod
    def of(cls, pair: Pair, solved: Solved, penalties: Float[Tensor, "source state"]) -> Maps:
        """With a penalty for each source and target state."""
        weights = [
            spectrum.weights((each * scale).repeat_interleave(pair.kept)).to(pair.precision)
            for spectrum, each, scale in zip(solved.spectra, penalties.double(), solved.scale, strict=True)
        ]
        return cls(tuple(weights), solved.centre_x.to(pair.precision), solved.centre_y.to(pair.precision))
