"""The shape of one set of token vectors a text: what `representation_profile` measures of each state and sublayer.

A mode says how vectors are prepared and which of them count: `wei`, `unit_no_first`, `reference`, `folded_wei_k2`.
Everything comes from one Gram matrix of a text in float64; only the `reference` mode goes back to the vectors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.errors import BadInput, UnknownName
from depthscope.measures.geometry import mean_turn
from depthscope.measures.gram import (
    mean_cosines,
    prepared_gram,
    s2_of,
    spectrum_of,
    state_turns,
    step_turns,
    token_gram,
)
from depthscope.measures.reference import reference_spectrum
from depthscope.measures.spectrum import (
    CENTRED_MODES,
    MODES,
    VANISHED,
    effective_rank,
    log_bound,
    renyi_entropy,
)

WHICH = ("all", "no_first", "no_massive")
"""Which tokens count: all, all but position 0, all but position 0 and massive ones."""
REFERENCE = "reference"
TURNED = ("signed", "folded", "state_angle")
CELLS = 1_000_000
"""Entries of Gram matrices held at a time by each thread (8 MB, and a few copies); one text at least."""
_CURVED = re.compile(r"(?P<kind>signed|folded|state_angle)(?P<wei>_wei)?(?:_k(?P<step>\d+))?")


@dataclass(frozen=True)
class Spectral:
    """One mode of spectra: how vectors are prepared, and which tokens count."""

    kind: str
    which: str

    @classmethod
    def of(cls, name: str) -> Spectral:
        """Read `wei`, `centred_no_first`, `reference_no_massive`, ...

        Raises:
            UnknownName: for another name.
        """
        kind, which = _split(name)
        if kind not in (*MODES, REFERENCE):
            known = [k + ("" if w == "all" else f"_{w}") for k in (*MODES, REFERENCE) for w in WHICH]
            raise UnknownName("spectrum mode", name, known)
        return cls(kind, which)


@dataclass(frozen=True)
class Curved:
    """One mode of curvature: the angle, whether vectors are `wei` before, tokens a step, which tokens count."""

    kind: str
    wei: bool
    step: int
    which: str

    @classmethod
    def of(cls, name: str) -> Curved:
        """Read `signed`, `folded_wei`, `signed_k2_no_first`, `state_angle`, ...

        Raises:
            UnknownName: for another name. BadInput: for steps of no token, or of a state angle, which has none.
        """
        said, which = _split(name)
        found = _CURVED.fullmatch(said)
        if found is None:
            raise UnknownName("curvature mode", name, [*TURNED, "folded_wei", "signed_k2", "signed_no_first"])
        step = int(found["step"] or 1)
        if step < 1 or (found["kind"] == "state_angle" and (found["step"] or found["wei"])):
            raise BadInput(
                f"curvature mode {name!r}: a step goes 1 token or more; state_angle takes no _k and no _wei"
            )
        return cls(found["kind"], bool(found["wei"]), step, which)


def _split(name: str) -> tuple[str, str]:
    for which in WHICH[1:]:
        if name.endswith(f"_{which}"):
            return name.removesuffix(f"_{which}"), which
    return name, "all"


@dataclass(frozen=True)
class Asked:
    """What is measured of each set of vectors.

    Args:
        spectral, curved: names of modes. orders: further orders of the entropy, on the exact texts.
        normalisation: what entropies are divided by. vanished: see `prepared_gram`.
    """

    spectral: tuple[str, ...]
    curved: tuple[str, ...]
    orders: tuple[float, ...] = ()
    normalisation: str = "maxEntropy"
    vanished: float = VANISHED


@dataclass(frozen=True)
class Chosen:
    """Which tokens count by `WHICH` [row token] each, and of which rows the full spectrum is taken."""

    masks: Mapping[str, Tensor]
    exact: Bool[Tensor, " row"]

    def part(self, rows: slice) -> Chosen:
        """Some rows."""
        return Chosen({which: mask[rows] for which, mask in self.masks.items()}, self.exact[rows])


Shapes = dict[str, Tensor]
"""Measure -> values [row, ...], float64; NaN where a text has no such value."""


def shapes(vectors: Float[Tensor, "row token d"], chosen: Chosen, asked: Asked) -> Shapes:
    """All measures of one set of vectors a text."""
    rows, length = vectors.shape[:2]
    step = max(1, CELLS // length**2)
    parts = [slice(start, start + step) for start in range(0, rows, step)]
    found = [_shapes(vectors[part], chosen.part(part), asked) for part in parts]
    return {name: torch.cat([each[name] for each in found]) for name in found[0]}


def _shapes(vectors: Tensor, chosen: Chosen, asked: Asked) -> Shapes:
    gram = token_gram(vectors)
    spectra = [_spectral(gram, vectors, chosen, Spectral.of(mode), asked) for mode in asked.spectral]
    masks = torch.stack([chosen.masks[which] for which in WHICH], 1)
    found = {name: torch.stack([each[name] for each in spectra], 1) for name in spectra[0]}
    found["curvature"] = _curvatures(gram, chosen.masks, asked)
    found["anisotropy"] = mean_cosines(gram, masks)
    energy = torch.where(chosen.masks["all"], gram.diagonal(dim1=-2, dim2=-1), 0.0)
    found["largest_token_share"] = energy.amax(-1) / energy.sum(-1)
    return {name: values.double() for name, values in found.items()}


def _spectral(gram: Tensor, vectors: Tensor, chosen: Chosen, mode: Spectral, asked: Asked) -> Shapes:
    """Entropies and ranks of one mode, [row] each; what needs the full spectrum is NaN outside the exact rows."""
    mask, exact = chosen.masks[mode.which], chosen.exact
    centred = mode.kind in (*CENTRED_MODES, REFERENCE)
    if mode.kind == REFERENCE:
        p = reference_spectrum(vectors, mask)
        n, second, some = mask.sum(-1), renyi_entropy(p, 2.0), p[exact]
    else:
        prepared = prepared_gram(gram, mask, mode.kind, asked.vanished)
        n, second = (prepared.diagonal(dim1=-2, dim2=-1) > 0).sum(-1), s2_of(prepared)
        some = spectrum_of(prepared[exact]) if exact.any() else None
    bound = log_bound(n, vectors.shape[-1], asked.normalisation, centred=centred)
    bound = torch.where((n > 1) & (bound > 0), bound, torch.nan)
    return {
        "prompt_entropy_s2": second / bound,
        "vanished_share": 1 - n.double() / mask.sum(-1),
        **_exact(some, exact, bound, asked.orders),
    }


def _exact(p: Tensor | None, exact: Tensor, bound: Tensor, orders: Sequence[float]) -> Shapes:
    """What the full spectra of the exact rows give, [row] each, [row order] the entropies of further orders.

    Args:
        p: their spectra, None where there is no such row. bound: by which entropies are divided, [row]; NaN where a
            text has no value.
    """
    found = {
        name: bound.new_full((len(exact),), torch.nan)
        for name in ("prompt_entropy", "effective_rank", "top_share")
    }
    if orders:
        found["renyi_entropy"] = bound.new_full((len(exact), len(orders)), torch.nan)
    if p is not None and len(p):
        below = bound[exact]
        found["prompt_entropy"][exact] = renyi_entropy(p, 1.0) / below
        for name, values in (("effective_rank", effective_rank(p)), ("top_share", p.amax(-1))):
            found[name][exact] = torch.where(below.isnan(), torch.nan, values.to(below))
        if orders:
            entropies = torch.stack([renyi_entropy(p, order) for order in orders], -1)
            found["renyi_entropy"][exact] = entropies / below[:, None]
    return found


def _curvatures(gram: Tensor, masks: Mapping[str, Tensor], asked: Asked) -> Tensor:
    """Mean angles of every asked mode, [row mode]; the angles of one kind are taken once."""
    taken: dict[tuple[str, bool, int, str], tuple[Tensor, Tensor]] = {}
    found = []
    for name in asked.curved:
        mode = Curved.of(name)
        # steps are the same whatever the mask; centred states are not
        around = mode.which if mode.wei or mode.kind == "state_angle" else "all"
        key = ("state_angle" if mode.kind == "state_angle" else "steps", mode.wei, mode.step, around)
        if key not in taken:
            taken[key] = _turns(gram, masks[around], mode, asked.vanished)
        angles, defined = taken[key]
        fold = mode.kind == "folded"
        found.append(mean_turn(angles, defined, masks[mode.which], fold=fold, step=mode.step).angle)
    return torch.stack(found, 1) if found else gram.new_zeros(len(gram), 0)


def _turns(gram: Tensor, mask: Tensor, mode: Curved, vanished: float) -> tuple[Tensor, Tensor]:
    if mode.kind == "state_angle":
        return state_turns(prepared_gram(gram, mask, "wei", vanished))
    gram = prepared_gram(gram, mask, "wei", vanished) if mode.wei else gram
    if gram.shape[-1] <= 2 * mode.step:
        return gram.new_zeros(len(gram), 0), torch.zeros(len(gram), 0, dtype=torch.bool, device=gram.device)
    return step_turns(gram, mode.step)
