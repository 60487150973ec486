"""Residual contribution: how much each layer changes the stream.

Question: How large is what attention, the MLP and the whole block add, relative to the stream they read,
and does it strengthen, leave or erase what is there?

Method: Per token and layer, attention_relative_norm = |a| / |h|, mlp_relative_norm = |m| / |h + a| (|h| in
parallel blocks), block_relative_norm = |h' - h| / |h|, with a and m the tensors that are ADDED (after post-
norms and scales), and the cosines of each write with the stream it is added to. Means of per-token ratios
over positions that are no sinks (position 0 and massive positions left out). `attention` is the token mixer
of the layer, whatever its kind.

How to read: Ratios well below 1 mean small steps on a large stream. A cosine near 0 writes something new,
above 0 strengthens, below 0 erases. A drop of the ratios in the second half, if there is one, is the sign
of depth used less.

What misleads: The first layer's ratio is huge because embeddings are small. With sinks included one layer
can look ten times as large as it is. Cosine is weak evidence about features that overlap in few dimensions.

Source: Csordas, Manning and Potts 2025, Do Language Models Use Their Depth Efficiently? (arXiv 2505.13898),
section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy, Layer
from depthscope.anatomy.site import Site
from depthscope.engine.measured import layers, mean, part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.view import View
from depthscope.measures.residual import cosine, relative_norm
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

WRITERS = ("attention", "mlp", "block")


@dataclass(frozen=True)
class ResidualContribution:
    """Relative norms and cosines of each layer's writes, sinks left out."""

    def needs(self, anatomy: Anatomy) -> Needs:
        """States and every write; post-norm blocks have no additive writes, their states suffice."""
        writes = () if anatomy.family.post_norm else anatomy.write_parts()
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post", *(f"L*.{p}" for p in writes)}))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Ratios and cosines of every plain position, [item, layer]."""
        del batch, given
        anatomy = model.anatomy
        rows = seen.plain.nonzero()[:, 0].tolist()
        units = [seen.units[r] for r in rows]
        columns: dict[str, list[np.ndarray]] = {
            f"{w}_{k}": [] for w in WRITERS for k in ("relative_norm", "cosine")
        }
        for layer in anatomy.layers:
            for writer, pair in _pairs(anatomy, layer, seen).items():
                norm, angle = _measured(pair, len(rows))
                columns[f"{writer}_relative_norm"].append(norm)
                columns[f"{writer}_cosine"].append(angle)
        return Tally({name: PerDocument.of(units, np.stack(c, -1)) for name, c in columns.items()})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """One curve over layers for each writer and kind."""
        kinds = ", ".join(dict.fromkeys(facts.kind_of_layer))
        found = []
        for name in total:
            writer = name.partition("_")[0]
            note = "sinks left out" + (
                f"; attention is the mixer, here: {kinds}" if writer == "attention" else ""
            )
            found.append(
                mean(
                    part(total, name, PerDocument),
                    name,
                    layers(facts),
                    "1",
                    facts,
                    note,
                    _missing(writer, facts),
                )
            )
        return Findings({m.name: m for m in found})


def _missing(writer: str, facts: Facts) -> str:
    if writer == "block":
        return ""
    if facts.post_norm:
        return "the stream is normalised after each add, so only the whole block has a contribution"
    return f"these layers have no {'MLP' if writer == 'mlp' else 'mixer'}"


def _pairs(anatomy: Anatomy, layer: Layer, seen: View) -> dict[str, tuple[Tensor, Tensor] | None]:
    """(write, stream it is added to) of each writer at plain positions; None where there is none."""
    k, plain = layer.index, seen.plain
    before, after = seen.states[k][plain], seen.states[k + 1][plain]
    found: dict[str, tuple[Tensor, Tensor] | None] = {
        "attention": None,
        "mlp": None,
        "block": (after - before, before),
    }
    if anatomy.family.post_norm:
        return found
    mixed = [seen[Site(k, p)][plain].to(before) for p, _ in layer.mixers()]  # pyright: ignore[reportArgumentType]
    middle = before
    if mixed:
        write = sum(mixed[1:], mixed[0])
        found["attention"] = (write, before)
        middle = before if anatomy.parallel else before + write
    if layer.mlp is not None:
        found["mlp"] = (seen[Site(k, "mlp_out")][plain].to(before), middle)
    return found


def _measured(pair: tuple[Tensor, Tensor] | None, n: int) -> tuple[np.ndarray, np.ndarray]:
    if pair is None:
        return np.full(n, np.nan), np.full(n, np.nan)
    norm, angle = relative_norm(*pair), cosine(*pair)
    return norm.to(torch.float64).cpu().numpy(), angle.to(torch.float64).cpu().numpy()
