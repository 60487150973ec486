"""Representation profile: the shape of what each layer holds.

Question: At which depth are the token vectors of a text most diverse, most compressed, most straight?

Method: For every window and state: prompt_entropy = entropy of the spectrum of the token Gram matrix over
ln of the largest number of directions (S1, modes: wei = centred unit rows, uncentred; _no_first without
position 0, _no_massive without massive positions); prompt_entropy_s2 the same of order 2; effective_rank =
exp of the entropy of the singular values; curvature = mean angle between successive steps of the token
path, in radians (signed; folded ignores the sense); anisotropy = mean cosine between the vectors of
different positions of a window. Values are means over windows.

How to read: Entropy near 1 means that tokens point in many directions, near 0 that they share one. A
curvature of 2.09 is that of independent vectors, 1.57 of a random walk, 0 of a straight line. Richest means
highest entropy with massive positions left out.

What misleads: One massive token can make a valley by itself: compare wei with wei_no_massive before you
speak of compression. Entropy depends on window length. A high score does not say that the layer is best for
a task.

Source: Skean et al. 2025, Layer by Layer (arXiv 2502.02013); Wei et al. 2024 (2401.17139); Hosseini and
Fedorenko 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import mean, part, states
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.view import View
from depthscope.measures.geometry import anisotropy_from_sums, mean_turn, turns
from depthscope.measures.spectrum import (
    effective_rank,
    prepared_gram,
    renyi_entropy,
    s2_of,
    spectrum_of,
    token_gram,
)
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

SPECTRAL = ("wei", "wei_no_first", "wei_no_massive", "uncentred")
CURVED = ("signed", "signed_no_first", "folded")
COSINE = ("all", "no_first", "no_massive")
UNITS = {
    "prompt_entropy": "1",
    "prompt_entropy_s2": "1",
    "effective_rank": "1",
    "curvature": "radians",
    "anisotropy": "1",
}
MODES = {
    "prompt_entropy": SPECTRAL,
    "prompt_entropy_s2": SPECTRAL,
    "effective_rank": SPECTRAL,
    "curvature": CURVED,
    "anisotropy": COSINE,
}


@dataclass(frozen=True)
class RepresentationProfile:
    """Spectra, curvature and anisotropy of every state.

    Args:
        exact: windows whose full spectrum is taken (S1, effective rank); S2, curvature and anisotropy use all windows.
    """

    exact: int = 100

    def needs(self, anatomy: Anatomy) -> Needs:
        """The states."""
        del anatomy
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One row a window: [window, state, mode] of each measure."""
        del model, given
        masks = _masks(batch, seen)
        exact = torch.tensor([w < self.exact for w in seen.shard.windows])
        per_state = [_state(vectors, masks, exact) for vectors in seen.states]
        stacked = {
            name: torch.stack([s[name] for s in per_state], 1).double().cpu().numpy() for name in UNITS
        }
        return Tally({name: PerDocument.of(seen.units, values) for name, values in stacked.items()})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """One curve over states for each measure and mode."""
        found = []
        for name, unit in UNITS.items():
            axes = {**states(facts), "mode": np.asarray(MODES[name])}
            note = "mean over windows; states before the final norm"
            missing = "fewer than two different token vectors, or fewer than three tokens"
            found.append(mean(part(total, name, PerDocument), name, axes, unit, facts, note, missing))
        return Findings({m.name: m for m in found})


def _masks(batch: Batch, seen: View) -> dict[str, Tensor]:
    later = batch.mask.clone()
    later[:, 0] = False
    return {"all": batch.mask, "no_first": later, "no_massive": seen.plain}


def _state(vectors: Tensor, masks: dict[str, Tensor], exact: Tensor) -> dict[str, Tensor]:
    """All measures of one state, [row, mode]."""
    gram = token_gram(vectors)
    spectra = [_spectrum(gram, vectors.shape[-1], masks, mode, exact) for mode in SPECTRAL]
    turned = turns(vectors, masks["all"])
    bends = [
        mean_turn(*turned, masks["all"]).angle,
        mean_turn(*turned, masks["no_first"]).angle,
        mean_turn(*turned, masks["all"], fold=True).angle,
    ]
    return {
        "prompt_entropy": torch.stack([s[0] for s in spectra], -1),
        "prompt_entropy_s2": torch.stack([s[1] for s in spectra], -1),
        "effective_rank": torch.stack([s[2] for s in spectra], -1),
        "curvature": torch.stack(bends, -1),
        "anisotropy": _anisotropy(vectors, torch.stack([masks[m] for m in COSINE], 1)),
    }


def _spectrum(
    gram: Tensor, d: int, masks: dict[str, Tensor], mode: str, exact: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(S1, S2, effective rank) of each row; S1 and rank are NaN where the row is not among the exact ones."""
    kind, _, which = mode.partition("_")
    prepared = prepared_gram(gram, masks[which or "all"], kind)
    n = (prepared.diagonal(dim1=-2, dim2=-1) > 0).sum(-1)
    most = torch.log(n.clamp(max=d).double())
    usable = n > 1
    second = torch.where(usable, s2_of(prepared) / most, torch.nan)
    first, rank = torch.full_like(second, torch.nan), torch.full_like(second, torch.nan)
    if exact.any():
        p = spectrum_of(prepared[exact])
        first[exact] = torch.where(usable[exact], renyi_entropy(p, 1.0) / most[exact], torch.nan)
        rank[exact] = torch.where(usable[exact], effective_rank(p), torch.nan)
    return first, second, rank


def _anisotropy(vectors: Tensor, masks: Tensor) -> Tensor:
    """Mean cosine between different tokens, [row, mode], of the tokens in each mask [row, mode, token]."""
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    return anisotropy_from_sums(masks.to(unit) @ unit, masks.sum(-1))
