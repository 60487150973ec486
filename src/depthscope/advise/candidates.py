"""Candidates: sets of layers that several criteria would remove, and what removing each costs in loss on a text.

Criteria: `influence` (the layers that turn the stream least), `angular` (the run of layers across which it turns least
at the last token), `loss` (the layers whose removal alone costs least) and `greedy` (again and again the layer whose
removal costs least next). A removed layer is gone at every position, sinks included: only then is a layer
that writes a sink seen for what it does.

Sources: Men et al. 2024 (arXiv 2403.03853), Gromov et al. 2024 (2403.17887), Kim et al. 2024 (2402.02834), Song et al.
2024 (2402.09025).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscope.advise.layer_config import reduced
from depthscope.engine import replayed
from depthscope.engine.criteria import flattest, lowest
from depthscope.engine.protect import protected, sink_ratios
from depthscope.engine.replayed import batches, outputs, recorded
from depthscope.engine.tally import PerDocument
from depthscope.errors import Refused
from depthscope.measures.pruning import angular_distance, influence
from depthscope.runtime.model import Model
from depthscope.runtime.orders import without
from depthscope.runtime.run import Seen

TOKENS = 512
"""Token ids of one batch at most."""


@dataclass(frozen=True)
class Candidate:
    """Layers that could be removed, ascending, and the criteria that propose them."""

    removed: tuple[int, ...]
    origins: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its size and criteria: `3 greedy+loss`."""
        return f"{len(self.removed)} {'+'.join(self.origins)}"


@dataclass(frozen=True)
class Criteria:
    """What one clean pass and the removal of each layer alone say.

    Args:
        influence: [layer]. angles: [size - 1, layer], between the input of a layer and that of the layer `size` later;
            infinite where there is none. loss: rise of the loss without the layer, nats, [layer].
        kept_back: layers that are never removed, with the reason.
    """

    influence: tuple[float, ...]
    angles: tuple[tuple[float, ...], ...]
    loss: tuple[float, ...]
    kept_back: Mapping[int, str]

    def as_dict(self) -> dict[str, Any]:
        """The criteria as JSON."""
        angles = [[None if np.isinf(a) else a for a in row] for row in self.angles]
        kept = {str(k): reason for k, reason in self.kept_back.items()}
        return {"influence": self.influence, "angles": angles, "loss": self.loss, "kept_back": kept}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Criteria:
        """The criteria that `as_dict` gave."""
        angles = tuple(tuple(np.inf if a is None else a for a in row) for row in stored["angles"])
        kept = {int(k): reason for k, reason in stored["kept_back"].items()}
        return cls(tuple(stored["influence"]), angles, tuple(stored["loss"]), kept)


def passes(model: Model, windows: Sequence[Sequence[int]], units: Sequence[str]) -> Iterator[Seen]:
    """A pass of each batch that can be replayed, in float32 whatever the model runs in."""
    for batch in batches(windows, units, TOKENS):
        yield recorded(model.precise, batch)


def criteria(
    model: Model, windows: Sequence[Sequence[int]], units: Sequence[str], largest: int, asked: Collection[int]
) -> Criteria:
    """Score every layer on some windows.

    Args:
        largest: size of the largest run of layers. asked: layers that the user wants kept.

    Raises:
        BadInput: for an asked layer that does not exist.
    """
    depth = model.anatomy.n_layers
    turned, rows, tokens = np.zeros(depth), 0, 0
    angles = np.full((largest, depth), np.inf)
    sinks: list[np.ndarray] = []
    rise = PerDocument((), np.zeros((0, depth)), np.zeros((0, depth), np.int64))
    for seen in passes(model, windows, units):
        states = seen.states()
        turned += influence(states[:-1], states[1:]).double().sum((1, 2)).cpu().numpy()
        for size in range(1, min(largest, depth) + 1):
            end = angular_distance(states[:-size, :, -1], states[size:, :, -1]).double().sum(1).cpu().numpy()
            place = angles[size - 1, : len(end)]
            place[:] = np.where(np.isinf(place), 0.0, place) + end
        sinks.append(sink_ratios(seen).double().cpu().numpy())
        alone = [without(depth, (layer,)) for layer in range(depth)]
        rise = rise.add(outputs(seen, alone, seen.batch.documents).increase())
        rows, tokens = rows + seen.batch.rows, tokens + seen.batch.rows * seen.batch.length
    kept_back = {
        **dict.fromkeys(
            _shared(model), "calls the shared transformer, whose adapters are numbered by its calls"
        ),
        **protected(np.concatenate(sinks, 1).mean(1), asked=asked),
    }
    loss = rise.sums.sum(0) / np.maximum(rise.counts.sum(0), 1)
    loss = np.where(rise.counts.sum(0) > 0, loss, 1e9)  # the model overflows without the layer
    return Criteria(
        tuple((turned / tokens).tolist()),
        tuple(tuple(row) for row in (angles / rows).tolist()),
        tuple(loss.tolist()),
        dict(sorted(kept_back.items())),
    )


def _shared(model: Model) -> list[int]:
    return list(getattr(model.config, "hybrid_layer_ids", None) or ())


def proposed(
    model: Model, found: Criteria, greedy: Sequence[Sequence[int]], size: int
) -> tuple[Candidate, ...]:
    """Candidates of one size that can be exported, equal sets once.

    Args:
        greedy: the layers of each size in the order of removal, as far as the search went.

    Raises:
        Refused: when no candidate of this size can be exported; the reason of each is in the message.
    """
    depth = model.anatomy.n_layers
    free = [k for k in range(depth) if k not in found.kept_back]
    sets: dict[tuple[int, ...], list[str]] = {}

    def add(origin: str, layers: Sequence[int]) -> None:
        if len(layers) == size:
            sets.setdefault(tuple(sorted(layers)), []).append(origin)

    stays = found.kept_back
    add("influence", lowest(np.asarray(found.influence), size, stays) or ())
    add("angular", flattest(np.asarray(found.angles[size - 1]), size, stays) or ())
    add("loss", lowest(np.asarray(found.loss), size, stays) or ())
    add("greedy", greedy[size - 1] if size <= len(greedy) else ())
    able, reasons = _exportable(model, sets)
    if not able:
        said = "; ".join(reasons) or f"only {len(free)} of {depth} layers are free"
        raise Refused(f"no set of {size} layers of {model.name} can be removed: {said}")
    return able


def _exportable(
    model: Model, sets: Mapping[tuple[int, ...], Sequence[str]]
) -> tuple[tuple[Candidate, ...], list[str]]:
    depth, config = model.anatomy.n_layers, getattr(model.net, "config", None)
    able, reasons = [], []
    for removed, origins in sets.items():
        try:
            reduced(config, [k for k in range(depth) if k not in removed], depth)
        except Refused as reason:
            reasons.append(f"without {list(removed)}: {reason}")
            continue
        able.append(Candidate(removed, tuple(origins)))
    return tuple(able), reasons


def increases(
    model: Model, windows: Sequence[Sequence[int]], units: Sequence[str], sets: Sequence[Sequence[int]]
) -> PerDocument:
    """Rise of the loss without each set of layers over the intact model at the same positions, nats, [unit, set]."""
    orders = [without(model.anatomy.n_layers, s) for s in sets]
    return replayed.increases(passes(model, windows, units), orders)
