"""Residual contribution: how much each layer changes the stream.

Question: How large is what attention, the MLP and the whole block add, relative to the stream they read,
and does it strengthen, leave or erase what is there?

Method: Per token and layer, attention_relative_norm = |a| / |h|, mlp_relative_norm = |m| / |h + a| (|h| in
parallel blocks), block_relative_norm = |h' - h| / |h|, with a and m the tensors that are ADDED (after post-
norms and scales), and the cosines of each write with the stream it is added to. Means of per-token ratios
over positions that are no sinks (position 0 and massive positions left out, see `sinks`); beside them medians
and percentiles, norm_ratio = mean |w| / mean |h|, and both kinds with sinks left out, included, and alone
(`_by_sinks`). growth = (|h'|^2 - |h|^2) / |h|^2 is the sum of parallel_gain = 2 <c, h> / |h|^2 and
orthogonal_energy = |c|^2 / |h|^2, c = h' - h, each a ratio of sums. A write erases where its cosine is below
-t, strengthens above t, and is new between them, t = max(0.05, 3 / sqrt(d)): mode_share counts tokens, mode is
the class of the mean cosine. cosine_crossing is the last layer after which the mean of the three cosine
curves rises through zero. norm_change_layer is where the logarithm of block_relative_norm changes level,
over layers 2 to L - 2, accepted if two levels beat one (permutation p < 0.05) and fit better than a straight
line. `attention` is the token mixer of the layer, whatever its kind.

How to read: Ratios well below 1 mean small steps on a large stream. A cosine near 0 writes something new,
above 0 strengthens, below 0 erases. A drop of the ratios in the second half, if there is one, is the sign
of depth used less: norm_change_ratio below 1. "None found" is an answer: small models often have no such change.

What misleads: The first layer's ratio is huge because embeddings are small; leave it and the last out of
summaries. With sinks included one layer can look ten times as large as it is. Cosine is weak evidence about
features that overlap in few dimensions. Layers are not exchangeable, so the permutation p is too small where
neighbours are alike. Largest values grow with the number of positions.

Source: Csordas, Manning and Potts 2025, Do Language Models Use Their Depth Efficiently? (arXiv 2505.13898),
section 3; Hu et al. 2025 (arXiv 2512.14064) for the crossing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.contribution_findings import (
    SINKS,
    by_sinks,
    changes,
    curves,
    modes,
    of_writer,
    quantiles,
    sizes,
    threshold,
)
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import Extremes, PerDocument, Rows, Tally
from depthscope.engine.transitions import cosine_crossing, norm_change
from depthscope.engine.view import View
from depthscope.engine.written import WRITERS, summed, written
from depthscope.measures.residual import Against
from depthscope.ranges import at_least, check_names, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model


@dataclass(frozen=True)
class ResidualContribution:
    """Sizes and angles of each layer's writes.

    Args:
        sinks: what every measurement but the `_by_sinks` ones counts: "exclude" leaves position 0 and massive
            positions out, "include" counts all positions, "only" counts just the sinks.
        sample: positions kept for medians and percentiles.
    """

    sinks: str = "exclude"
    sample: int = 2048

    def __post_init__(self) -> None:
        check_names(self, sinks=SINKS)
        check_ranges(self, sample=at_least(1, what="positions of a median"))

    def needs(self, anatomy: Anatomy) -> Needs:
        """States and every write; post-norm blocks have no additive writes, their states suffice."""
        writes = () if anatomy.family.post_norm else anatomy.write_parts()
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post", *(f"L*.{p}" for p in writes)}))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Sums by row, the largest values, and a sample of positions."""
        del given
        found = written(model.anatomy, seen)
        ratios, cosines = found.ratio(), found.cosine()
        kept = {"exclude": seen.plain, "include": batch.mask, "only": batch.mask & seen.sinks}
        chosen = kept[self.sinks]
        border = threshold(model.anatomy.d_model)
        classes = [cosines < -border, cosines.abs() <= border, cosines > border]
        shares = torch.where(
            cosines.isnan()[:, :, None], torch.nan, torch.stack(classes, 2).to(cosines.dtype)
        )
        return Tally({
            **{f"ratio_{name}": summed(ratios, at, seen.units) for name, at in kept.items()},
            **{f"cosine_{name}": summed(cosines, at, seen.units) for name, at in kept.items()},
            "size": summed(found.size, chosen, seen.units),
            "stream": summed(found.stream, chosen, seen.units),
            "mode": summed(shares, chosen, seen.units),
            **{name: summed(v, chosen, seen.units) for name, v in _growth(found, seen.norms).items()},
            "rows": self._rows(seen, chosen, ratios, cosines),
            "largest": _largest(seen, chosen, torch.stack([ratios, found.size])),
        })  # fmt: skip

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Curves over layers for each writer, and where they change over."""
        ratios, cosines = (part(total, f"{name}_{self.sinks}", PerDocument) for name in ("ratio", "cosine"))
        found = [
            *curves(ratios, "relative_norm", facts, self.sinks),
            *curves(cosines, "cosine", facts, self.sinks),
            by_sinks(total, "ratio", "relative_norm", facts),
            by_sinks(total, "cosine", "cosine", facts),
            *quantiles(part(total, "rows", Rows), facts, self.sinks),
            *sizes(total, facts, self.sinks),
            *changes(total, facts, self.sinks),
            *modes(part(total, "mode", PerDocument), cosines, facts, self.sinks),
            *cosine_crossing(cosines, facts),
            *norm_change(of_writer(ratios, "block"), facts),
        ]
        return Findings({m.name: m for m in found})

    def _rows(self, seen: View, chosen: Tensor, ratios: Tensor, cosines: Tensor) -> Rows:
        rows, positions = chosen.nonzero(as_tuple=True)
        keys = seen.sampling_keys(rows, positions)
        first = np.argsort(keys, kind="stable")[: self.sample]
        at = torch.from_numpy(first).to(rows.device)
        columns = {
            name: values[..., rows[at], positions[at]].permute(2, 0, 1).float().cpu().numpy()
            for name, values in (("ratio", ratios), ("cosine", cosines))
        }
        columns["unit"] = np.asarray(seen.units, dtype=str)[rows[at].cpu().numpy()]
        return Rows(keys[first], columns, self.sample)


def _growth(found: Against, norms: Tensor) -> dict[str, Tensor]:
    """Energy of the stream before, both terms of its growth, its growth measured, and the cosine of both states."""
    size, stream, product = (each[:, WRITERS.index("block")].double() for each in found)
    before, after = stream.square(), norms[1:].double().square()
    length = (norms[1:].double() * stream).clamp_min(1e-30)
    return {
        "energy": before,
        "gain": 2 * product,
        "added": size.square(),
        "grown": after - before,
        "kept": ((before + product) / length).clamp(-1, 1),
    }


def _largest(seen: View, chosen: Tensor, values: Tensor) -> Extremes:
    """Largest ratio and size of each layer and writer, and where it was."""
    flat = torch.where(chosen & ~values.isnan(), values, -torch.inf).flatten(-2)
    value, at = flat.max(-1)
    row, position = at // values.shape[-1], at % values.shape[-1]
    window = torch.tensor(seen.shard.windows)[row.cpu()]
    return Extremes(value.double().cpu().numpy(), torch.stack([window, position.cpu()], -1).numpy())
