"""Representation profile: the shape of what each layer holds.

Question: At which depth are the token vectors of a text most diverse, most compressed, most straight?

Method: For every window and state: prompt_entropy = entropy of the spectrum of the token Gram matrix over
ln of the largest number of directions (S1, modes: wei = centred unit rows, uncentred; _no_first without
position 0, _no_massive without massive positions); prompt_entropy_s2 the same of order 2; effective_rank =
exp of the entropy of the singular values; top_share = share of the largest eigenvalue; vanished_share = tokens
that centring leaves nothing of. curvature = mean angle between successive steps of the token path, in radians
(signed; folded ignores the sense); curvature_change = the same minus that of state 0. anisotropy = mean cosine
between the vectors of different positions of a window. largest_token_share = share of the squared lengths that
the longest vector holds. Values are means over windows.

How to read: Entropy near 1 means that tokens point in many directions, near 0 that they share one. A
curvature of 2.09 is that of independent vectors, 1.57 of a random walk, 0 of a straight line. Richest means
highest entropy with massive positions left out. Where largest_token_share is near 1, the uncentred spectrum
describes one token.

What misleads: One massive token can make a valley by itself: compare wei with wei_no_massive before you
speak of compression. Entropy depends on window length. Folding reverses the order of angles beyond a right
one, and most are: folded rises where signed falls. A high score does not say that the layer is best for a task.

Source: Skean et al. 2025, Layer by Layer (arXiv 2502.02013); Wei et al. 2024 (2401.17139); Hosseini and
Fedorenko 2023.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import difference, mean, part, states
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.pooled import final_normed
from depthscope.engine.profile import WHICH, Asked, Chosen, Curved, Shapes, Spectral, shapes
from depthscope.engine.sublayer_points import points, sublayer_sites, sublayer_vectors
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.view import View
from depthscope.errors import BadInput
from depthscope.measures.spectrum import NORMALISATIONS, VANISHED, VANISHED_OF
from depthscope.ranges import at_least, check_names, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model
from depthscope.threads import spread

SPECTRA = ("prompt_entropy", "prompt_entropy_s2", "effective_rank", "top_share", "vanished_share")
UNITS = {**dict.fromkeys((*SPECTRA, "renyi_entropy", "anisotropy", "largest_token_share"), "1"),
         "curvature": "radians"}  # fmt: skip
NORMED, SUBLAYER = "normed_", "sublayer_"
MISSING = "fewer than two different token vectors, or fewer than three tokens"


@dataclass(frozen=True)
class RepresentationProfile:
    """Spectra, curvature and anisotropy of every state.

    Args:
        exact: windows whose full spectrum is taken (S1, effective rank); S2, curvature and anisotropy use all windows.
        modes: of spectra: wei, uncentred, unit, centred, reference (see `measures.reference`), each also with
            _no_first or _no_massive.
        curved: of curvature: signed, folded, state_angle, each also with _wei (of vectors prepared so), _k2 (steps of
            two tokens, or more), _no_first, _no_massive, in that order.
        orders: further orders of the entropy on the exact windows, as renyi_entropy.
        normalisation: what entropies are divided by: raw, logN, logD, logNlogD, maxEntropy, maxRank.
        final_norm: everything once more of states after the model's final norm, as normed_*.
        sublayers: spectra at the points of each block besides, as sublayer_*.
    """

    exact: int = 100
    modes: tuple[str, ...] = ("wei", "wei_no_first", "wei_no_massive", "uncentred")
    curved: tuple[str, ...] = ("signed", "signed_no_first", "folded")
    orders: tuple[float, ...] = ()
    normalisation: str = "maxEntropy"
    final_norm: bool = False
    sublayers: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, exact=at_least(0))
        if not self.modes or not self.curved:
            raise BadInput(f"modes={self.modes} and curved={self.curved}; at least one of each is needed")
        check_names(self, normalisation=NORMALISATIONS)
        if self.orders:
            check_ranges(self, orders=at_least(0, what="orders of an entropy"))
        for mode in self.modes:
            Spectral.of(mode)
        for mode in self.curved:
            Curved.of(mode)

    def needs(self, anatomy: Anatomy) -> Needs:
        """The states, and where asked what passes between them."""
        more = sublayer_sites(anatomy) if self.sublayers else ()
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post", *more}))

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One row a window: [window, state, ...] of each measure."""
        del given
        chosen = self._chosen(batch, seen)
        measured = partial(self._shapes, chosen=chosen, seen=seen)
        tally = _tallied("", spread(measured, seen.each_state), seen.units)
        if self.final_norm:
            normed = [final_normed(model, state) for state in seen.each_state]
            tally |= _tallied(NORMED, spread(measured, normed), seen.units)
        if self.sublayers:
            found = spread(
                partial(self._point, chosen=chosen, seen=seen), list(sublayer_vectors(model.anatomy, seen))
            )
            named = {name: [each[name] for each in found] for name in SPECTRA}
            tally |= {
                SUBLAYER + name: _stacked(values, seen.units, (model.anatomy.n_layers, -1))
                for name, values in named.items()
            }
        return Tally(tally)

    def _chosen(self, batch: Batch, seen: View) -> Chosen:
        later = batch.mask.clone()
        later[:, 0] = False
        exact = torch.tensor([w < self.exact for w in seen.shard.windows], device=later.device)
        return Chosen(dict(zip(WHICH, (batch.mask, later, seen.plain), strict=True)), exact)

    def _shapes(self, vectors: Tensor, chosen: Chosen, seen: View) -> Shapes:
        vanished = VANISHED_OF.get(seen.seen["L0.resid_pre"].dtype, VANISHED)
        asked = Asked(self.modes, self.curved, self.orders, self.normalisation, vanished)
        return shapes(vectors, chosen, asked)

    def _point(self, vectors: Tensor | None, chosen: Chosen, seen: View) -> Shapes:
        if vectors is None:
            nothing = chosen.exact.new_full(
                (len(chosen.exact), len(self.modes)), torch.nan, dtype=torch.float64
            )
            return dict.fromkeys(SPECTRA, nothing)
        return self._shapes(vectors, chosen, seen)

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """One curve over states for each measure and mode."""
        found = [*self._curves(total, "", "before", facts)]
        if self.final_norm:
            found += self._curves(total, NORMED, "after", facts)
        if self.sublayers:
            found += self._sublayer_curves(total, facts)
        return Findings({m.name: m for m in found})

    def _curves(self, total: Tally, prefix: str, where: str, facts: Facts) -> Iterator[Measurement]:
        spectral, curved = {"mode": np.asarray(self.modes)}, {"mode": np.asarray(self.curved)}
        axes = {
            **dict.fromkeys(SPECTRA, spectral),
            "curvature": curved,
            "anisotropy": {"mode": np.asarray(WHICH)},
            "largest_token_share": {},
        }
        if self.orders:
            axes["renyi_entropy"] = {**spectral, "definition": np.asarray([f"S_{a:g}" for a in self.orders])}
        note = f"mean over windows; states {where} the final norm"
        for name, more in axes.items():
            values = part(total, prefix + name, PerDocument)
            said = f"{note}; {self._said(name)}" if self._said(name) else note
            yield mean(
                values, prefix + name, {**states(facts), **more}, UNITS.get(name, "1"), facts, said, MISSING
            )
        turned = part(total, f"{prefix}curvature", PerDocument)
        yield difference(
            _at_first(turned), turned, f"{prefix}curvature_change", {**states(facts), **curved}, "radians", facts,
            f"{note}; minus that of state 0, same windows", MISSING,
        )  # fmt: skip

    def _said(self, name: str) -> str:
        """What the note of an entropy adds: its divisor, and what the reference mode is."""
        if "entropy" not in name:
            return ""
        reference = any(mode.startswith("reference") for mode in self.modes)
        quirk = (
            "; reference = published code: negative entries of the Gram matrix set to 0" if reference else ""
        )
        return f"{self.normalisation}{quirk}"

    def _sublayer_curves(self, total: Tally, facts: Facts) -> Iterator[Measurement]:
        axes = {
            "layer": np.arange(facts.n_layers), "sublayer": np.asarray(points()), "mode": np.asarray(self.modes),
        }  # fmt: skip
        stream = (
            "resid_pre + mixer write, which no module reads: blocks are parallel"
            if facts.parallel
            else "a state"
        )
        note = f"mean over windows; resid_mid is {stream}"
        for name in SPECTRA:
            values = part(total, SUBLAYER + name, PerDocument)
            gone = f"{MISSING}; or the block has no such point"
            yield mean(values, SUBLAYER + name, axes, "1", facts, note, gone)


def _tallied(prefix: str, found: list[Shapes], units: tuple[str, ...]) -> dict[str, PerDocument]:
    return {prefix + name: _stacked([state[name] for state in found], units, (-1,)) for name in found[0]}


def _stacked(values: list[Tensor], units: tuple[str, ...], lead: tuple[int, ...]) -> PerDocument:
    """[row, *lead, ...] from one tensor [row, ...] a state, or a layer and point."""
    stacked = torch.stack(values, 1).unflatten(1, lead)
    return PerDocument.of(units, stacked.cpu().numpy())


def _at_first(found: PerDocument) -> PerDocument:
    """The sums of state 0 at every state."""
    sums, counts = (np.broadcast_to(a[:, :1], a.shape) for a in (found.sums, found.counts))
    return PerDocument(found.units, sums, counts)
