"""Teacher-forced steering: every change at one state of two texts at once, and what it does to the output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from depthscope.fits.steering_reference import Reference
from depthscope.materials.window import Window
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.predictor import Predictor
from depthscope.runtime.replay import replay
from depthscope.runtime.run import Seen, run
from depthscope.runtime.steering import (
    Along,
    Both,
    Change,
    Expect,
    Level,
    Move,
    Pieces,
    Renew,
    Scale,
    Stretch,
    random_directions,
    steered,
    steering,
    taken_apart,
    unit,
)

SCALED = ("predictable", "novel", "raw", "random_predictable", "random_novel")
ABLATED = ("predictable", "novel", "random_predictable", "random_novel", "shuffled_novel")
SWAPPED = ("predictable", "random", "shuffled", "raw", "novel")
SPACES = ("predictable", "novel", "raw", "random")
TARGETS = ("domain", "token_type")
METRICS = ("kl", "loss", "same_own", "same_other", "gain", "gain_own")
ROWS = 16
"""Rows that are replayed at a time."""


class Cell(NamedTuple):
    """What is changed in one row: a kind of change, its variant, how much, and what the gain is measured on."""

    family: str
    variant: str
    level: float = 0.0
    target: str = "domain"


def cells(levels: Sequence[float], strengths: Sequence[float]) -> list[Cell]:
    """All changes in order; the first one changes nothing."""
    return [
        Cell("nothing", "nothing"),
        *(Cell("scale", variant, level) for variant in SCALED for level in levels),
        *(Cell("ablate", variant) for variant in ABLATED),
        *(Cell("swap", variant) for variant in SWAPPED),
        *(
            Cell("vector", variant, strength, target)
            for target in TARGETS
            for variant in SPACES
            for strength in strengths
        ),
    ]


@dataclass(frozen=True, eq=False)
class Wanted:
    """What a text is steered towards.

    Args:
        domain: place of the other text's label. kind: place of a token class.
        groups: ids that tell the other domain, the own domain, and the ids of the class.
    """

    domain: int
    kind: int
    groups: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Recipe:
    """How cells become changes of one text.

    Args:
        reference: means of the state. random: a direction for each position, [position d_model].
        wanted: of the text. other: the pieces of the other text.
    """

    reference: Reference
    random: Tensor
    wanted: Wanted
    other: Pieces

    def change(self, cell: Cell) -> Change:
        """The change of one cell."""
        if cell.family == "scale":
            return self._scaled(cell.variant, cell.level)
        if cell.family == "ablate":
            return self._ablated(cell.variant)
        if cell.family == "swap":
            return self._swapped(cell.variant)
        return self._moved(cell) if cell.family == "vector" else Scale()

    def _scaled(self, variant: str, level: float) -> Change:
        part = variant.removeprefix("random_")
        if part == "raw":
            return Stretch(level)
        plain = Scale(expected=level) if part == "predictable" else Scale(novel=level)
        return Along(plain, self.random) if variant.startswith("random") else plain

    def _ablated(self, variant: str) -> Change:
        if variant == "shuffled_novel":
            return Renew(self.reference.pool)
        predictable = variant.endswith("predictable")
        found = (
            Level("expected", self.reference.mean) if predictable else Level("novel", self.reference.novel)
        )
        return Along(found, self.random) if variant.startswith("random") else found

    def _swapped(self, variant: str) -> Change:
        plain = Expect(self.other.expected)
        if variant == "novel":
            return Renew(self.other.novel)
        if variant == "shuffled":
            return Both(plain, Renew(self.reference.pool))
        if variant == "predictable":
            return plain
        return Along(plain, self.random) if variant == "random" else Along(plain, self.other.stream, True)

    def _moved(self, cell: Cell) -> Change:
        table, place = (
            (self.reference.domains, self.wanted.domain)
            if cell.target == "domain"
            else (self.reference.types, self.wanted.kind)
        )
        direction = self.random[0] if cell.variant == "random" else table[cell.variant][place]
        return Move(cell.level * self.reference.length * unit(direction))


def effects(
    model: Model,
    predictor: Predictor,
    state: int,
    pair: tuple[Window, Window],
    wanted: tuple[Wanted, Wanted],
    reference: Reference,
    plan: Sequence[Cell],
    first: int,
    seed: int,
) -> dict[str, Any]:
    """Sums over the positions of both texts of a pair, each the other one of the other.

    Returns:
        sums [cell metric], count of positions, and the largest difference of the last state that a change of nothing
        makes (0: bit for bit).
    """
    site = model.anatomy.states()[state]
    seen = run(model, Batch.of_ids([w.ids for w in pair]), read=[site, "L*.resid_post"], record=True)
    stream = seen[site]
    whole = taken_apart(predictor, stream)
    random = random_directions(stream.shape[1], stream.shape[2], seed)
    recipes = [Recipe(reference, random, wanted[k], _row(whole, 1 - k)) for k in (0, 1)]
    changed = torch.stack([
        torch.cat([steered(stream[k : k + 1], _row(whole, k), recipes[k].change(cell), first) for k in (0, 1)])
        for cell in plan
    ])  # fmt: skip
    finals = torch.stack(list(_replayed(seen, state, changed)))
    sums = sum(_outcome(seen, finals, k, pair[k], wanted[k], plan, first) for k in (0, 1))
    assert isinstance(sums, Tensor)
    return {
        "sums": sums.tolist(), "count": 2 * (len(pair[0].ids) - 1 - first),
        "unchanged": _unchanged(model, predictor, state, seen, first),
    }  # fmt: skip


def _row(pieces: Pieces, k: int) -> Pieces:
    return Pieces(pieces.stream[k : k + 1], pieces.expected[k : k + 1], pieces.start)


def _replayed(seen: Seen, state: int, changed: Tensor) -> Iterator[Tensor]:
    """The last state [row token d_model] of each cell."""
    last = seen.model.anatomy.states()[-1]
    each = max(1, ROWS // changed.shape[1])
    for start in range(0, len(changed), each):
        some = changed[start : start + each]
        found = replay(seen, state, some.flatten(0, 1))[last]
        yield from found.unflatten(0, some.shape[:2])


def _outcome(
    seen: Seen, finals: Tensor, row: int, window: Window, wanted: Wanted, plan: Sequence[Cell], first: int
) -> Tensor:
    """[cell metric], summed over positions of one text, float64."""
    head, stop = seen.model.head, len(window.ids) - 1
    clean = seen[seen.model.anatomy.states()[-1]][:, first:stop]
    targets = torch.tensor(window.ids[first + 1 :], device=clean.device)
    asked = Decode(top_k=1, kl=True, target=True, groups=wanted.groups)
    found = head.decode(torch.cat([clean, finals[:, row, first:stop]]), clean[row], asked, targets)
    assert found.top_ids is not None
    assert found.kl is not None
    assert found.cross_entropy is not None
    assert found.group_mass is not None
    top, mass = found.top_ids[..., 0], found.group_mass.double().clamp_min(1e-30).log()
    loss = found.cross_entropy.double()
    place = torch.tensor([0 if cell.target == "domain" else 2 for cell in plan], device=mass.device)
    rise = mass[2:] - mass[row]
    gain = rise.gather(-1, place[:, None, None].expand(-1, rise.shape[1], 1))[..., 0]
    parts = [
        found.kl[2:].double(), loss[2:] - loss[row], (top[2:] == top[row]).double(),
        (top[2:] == top[1 - row]).double(), gain, rise[..., 1],
    ]  # fmt: skip
    return torch.stack([part.sum(1) for part in parts], dim=1)


def _unchanged(model: Model, predictor: Predictor, state: int, seen: Seen, first: int) -> float:
    """Largest absolute difference of the last state between the clean pass and one with a change of nothing."""
    last = model.anatomy.states()[-1]
    edit = steering(predictor, state, Scale(), model.anatomy, first)
    same = run(model, seen.batch, read=[last], edit=[edit])[last]
    return float((same - seen[last]).abs().max())
