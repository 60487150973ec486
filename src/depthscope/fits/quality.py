"""How good a lens is on documents that it was not fitted on: KL and agreement at every state, beside the logit lens."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from depthscope.engine.measured import mean
from depthscope.engine.needs import Facts
from depthscope.engine.provenance import identity
from depthscope.engine.shard import hashed
from depthscope.engine.tally import PerDocument
from depthscope.errors import NonFinite
from depthscope.fits.states import Split, batches, read
from depthscope.fits.watch import Watch
from depthscope.materials.window import Window
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result, Text
from depthscope.runtime.head import Decode
from depthscope.runtime.lens import Lens
from depthscope.runtime.model import Model

if TYPE_CHECKING:
    from depthscope.fits.study import LensStudy

_WANTED = Decode(kl=True, final_rank=True)


def judged(
    study: LensStudy, model: Model, lens: Lens, parts: Split, positions: int, seed: int, watch: Watch
) -> Result:
    """KL(final || state) in nats and top-1 agreement under the logit lens and the fitted one, on held-out documents.

    Axes lens and state 0..L (state L is not translated, KL 0), intervals over documents.
    """
    names = ["logit", lens.kind]
    values, units = [], []
    done = 0
    for states, windows in held_states(model, parts.held_out, positions, seed):
        values.append(_measured(model, lens, states).cpu().double().numpy())
        units += [parts.unit_of[w.index] for w in windows]
        done += states.shape[1]
        watch.progress("judge", done, positions)
    found = np.concatenate(values, axis=-1)
    facts = Facts.of(model.anatomy, parts.kind, seed, model.name)
    axes = {"lens": np.asarray(names), "state": np.arange(model.anatomy.n_layers + 1)}
    note = f"held-out {parts.kind}, sinks left out; state 0 is the embedding output, state L the last block's"
    kl = PerDocument.of(units, np.moveaxis(found[0], -1, 0))
    agreement = PerDocument.of(units, np.moveaxis(found[1], -1, 0))
    measured = {
        "kl_to_final": mean(kl, "kl_to_final", axes, "nats", facts, note),
        "top1_agreement": mean(agreement, "top1_agreement", axes, "probability", facts, note),
    }
    words = Text.of(sys.modules[type(study).__module__].__doc__ or "")
    return Result(f"{study.kind}_lens", parameters(study), Findings(measured), words, identity(model))


def parameters(study: LensStudy) -> dict[str, Any]:
    """The fields of a study as JSON; texts given in memory are only counted, their hash stands elsewhere."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(study), default=str))  # pyright: ignore[reportArgumentType]
    text = study.reading.text
    if text is not None and not isinstance(text, str | Path):
        found["reading"]["text"] = f"{len(text)} texts given in memory"
    return found


def held_states(
    model: Model, windows: Sequence[Window], positions: int, seed: int
) -> Iterator[tuple[Tensor, list[Window]]]:
    """States [state, position, d_model] at hash-chosen kept positions, at most 256 at a time, with their windows.

    Raises:
        NonFinite: when no position is left.
    """
    spread = -(-positions // max(1, len(windows)))
    left = positions
    for batch in batches(windows):
        found = read(model, batch)
        at = chosen(found.kept, batch, min(spread, max(1, left)), seed)
        rows, places = at.nonzero(as_tuple=True)
        for k in range(0, len(rows), 256):
            here = torch.zeros_like(at)
            here[rows[k : k + 256], places[k : k + 256]] = True
            yield found.states(here), [batch[int(r)] for r in rows[k : k + 256]]
        left -= len(rows)
        if left <= 0:
            return
    if left == positions:
        raise NonFinite(
            f"no held-out position has finite states in {model.name}; check weights, text and type"
        )


def chosen(kept: Tensor, windows: Sequence[Window], count: int, seed: int) -> Tensor:
    """In each row the `count` kept positions with the smallest hashes of (seed, window, position)."""
    rows, length = kept.shape
    numbers = np.repeat([w.index for w in windows], length)
    key = hashed(numbers, np.tile(np.arange(length), rows), seed).reshape(rows, length)
    key = np.where(kept.cpu().numpy(), key >> np.uint64(1), np.uint64(2**63))
    order = np.argsort(key, axis=1, kind="stable")[:, :count]
    at = np.zeros((rows, length), bool)
    np.put_along_axis(at, order, True, axis=1)
    return torch.from_numpy(at).to(kept.device) & kept


def _measured(model: Model, lens: Lens, states: Tensor) -> Tensor:
    """KL and agreement, [2, lens, state, position]."""
    with torch.no_grad():
        both = torch.cat([states, lens(states)])
        trace = model.head.decode(both, states[-1], _WANTED)
    assert trace.kl is not None
    assert trace.final_rank is not None
    found = torch.stack([trace.kl, (trace.final_rank == 1).to(trace.kl)])
    return found.unflatten(1, (2, len(states)))


def card(result: Result) -> dict[str, Any]:
    """Quality by state as plain lists, for a lens's card; null for what is unknown, as the interval of one unit."""
    return {name: _listed(found) for name, found in result.findings.measurements.items()}


def _listed(found: Measurement) -> dict[str, Any]:
    listed: dict[str, Any] = {"unit": found.unit, "note": found.note}
    for k, name in enumerate(found.axes["lens"]):
        listed[str(name)] = {
            part: [v if math.isfinite(v) else None for v in np.asarray(getattr(found, part)[k]).tolist()]
            for part in ("value", "low", "high")
        }
    if found.n is not None and found.n_items is not None:
        listed |= {"n": int(found.n.max()), "n_items": int(found.n_items.max())}
    return listed
