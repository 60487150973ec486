"""How the base uses its depth on the prompts of the tasks: an audit, and what can be read from it with an interval."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from depthscope.engine.audit import audit
from depthscope.materials.tasks import Item, Task
from depthscope.registry import ANALYSES
from depthscope.results.decision import Depth, Estimate, LayerLine
from depthscope.runtime.model import Model
from depthscope.store.run import Run

WINDOW = 128
"""Tokens read of each prompt."""
SHORT = 120
"""Characters below which a prompt is read together with the next."""
FUTURE = 4
"""Splits of each prompt, before which a layer is left out and after which the output is compared."""


def prompts(tasks: Sequence[Task], most: int, seed: int) -> tuple[str, ...]:
    """Prompts of the tasks with their answers, chosen by hash, the same number of each task as far as there are.

    Prompts too short for effects on later tokens are read in a row, with line breaks between them.
    """
    each = [_texts(task, seed) for task in tasks]
    longest = max(map(len, each))
    turns = [texts[k] for k in range(longest) for texts in each if k < len(texts)]
    return tuple(turns[:most])


def _texts(task: Task, seed: int) -> list[str]:
    texts = [""]
    for item in sorted(task.items, key=lambda item: _order(item, task.name, seed)):
        said = f"{item.prompt} {item.answers[0]}"
        if len(texts[-1]) >= SHORT:
            texts.append("")
        texts[-1] += f"\n{said}" if texts[-1] else said
    return texts if len(texts) == 1 or len(texts[-1]) >= SHORT else texts[:-1]


def diagnosed(model: Model, texts: Sequence[str], out: Path, seed: int, run: str) -> dict[str, Any]:
    """The depth diagnosis as JSON; the audit behind it stays in `out` for `show` and `report`.

    Args:
        texts: prompts with answers, the units of all intervals. run: where `out` is, as seen from the report.

    Raises:
        EmptyMaterial: when every prompt is too short. Refused: when the model cannot answer.
    """
    n = len(texts)
    skips = ANALYSES["layer_skip"](tokens=WINDOW * n, sublayer_tokens=0, documents=n, future=FUTURE)
    found = audit(
        model, [skips, "residual_contribution", "logit_lens"], out=out, text=list(texts), tokens=WINDOW * n,
        window=WINDOW, seed=seed,
    )  # fmt: skip
    return asdict(depth_of(found, model.anatomy.n_layers, run))


def depth_of(found: Run, layers: int, run: str) -> Depth:
    """The box and the table of layers from a run with layer_skip, residual_contribution and logit_lens."""
    holding = cell(found, "layer_skip", "depth_holding_90", variant="future_shift")
    everywhere, later = (
        cell(found, "layer_skip", "half_ratio", variant=name) for name in ("shift", "future_shift")
    )
    return Depth(
        layers,
        holding.scaled(float(layers)),
        everywhere,
        later,
        tuple(_line(found, layer) for layer in range(layers)),
        holding.n or 0,
        run,
    )


def _line(found: Run, layer: int) -> LayerLine:
    return LayerLine(
        layer,
        cell(found, "layer_skip", "shift", layer=layer, sublayer="block"),
        cell(found, "layer_skip", "future_shift", layer=layer, sublayer="block"),
        cell(found, "residual_contribution", "block_relative_norm", layer=layer, sinks="exclude"),
        cell(found, "logit_lens", "kl_to_final", state=layer + 1),
    )


def cell(found: Run, analysis: str, name: str, **labels: int | str) -> Estimate:
    """One cell of a measurement, labels that it has no axis for left out; empty where it is missing."""
    measured = found[analysis].findings.measurements.get(name)
    if measured is None or set(measured.axes) - set(labels):
        return Estimate()
    one = measured.select(**{axis: label for axis, label in labels.items() if axis in measured.axes})
    value, low, high = (
        None if a is None or not np.isfinite(a) else float(a) for a in (one.value, one.low, one.high)
    )
    return Estimate(value, low, high, None if one.n is None else int(one.n))


def _order(item: Item, task: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{task}:{item.id}".encode()).digest()
