"""A model whose tasks are two numbers in its stream, and made-up findings of function_vectors that hold them.

The input of a prompt is a list of one or two letters. A first number picks the list's first or last letter, a second
says it or the letter after it: the vectors of four tasks are (+-1, +-1), and that of the fourth is the sum of two of
the others without the third.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from planted import SAID, SLOT, TOKEN, WIDTH, V, Write, axis, following, planted
from torch import Tensor, nn

from depthscope.engine.needs import Analysis, Facts, Needs
from depthscope.engine.shard import Shard
from depthscope.engine.view import View
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings, Result, Text
from depthscope.runtime import continued, injection
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import Seen
from depthscope.runtime.tiny import PlainTokenizer

PICK, DO = SLOT.start, SLOT.start + 1
FIRST, LAST, COPY, NEXT = axis(PICK), axis(PICK, -1), axis(DO), axis(DO, -1)
VECTORS = {
    "first": FIRST + COPY, "last": LAST + COPY, "first_next": FIRST + NEXT, "last_next": LAST + NEXT,
}  # fmt: skip
STATE, LAYER = 1, 2
"""Where vectors are added, and the layer that reads them."""


class Handing(nn.Module):
    """In attention's place: every position is handed the tokens four and, twice, five back."""

    def forward(self, hidden_states: Tensor, **_: object) -> tuple[Tensor, None]:
        passed = torch.zeros_like(hidden_states)
        passed[:, 4:, SLOT] += hidden_states[:, :-4, TOKEN]
        passed[:, 5:, SLOT] += 2 * hidden_states[:, :-5, TOKEN]
        return passed, None


def answering(x: Tensor) -> Tensor:
    """Says the letter that the two numbers ask for, where they are there."""
    held = x[..., SLOT].clone()
    pick, do = held[..., :1].clone(), held[..., 1:2].clone()
    held[..., :3] = 0
    letter = torch.where(pick > 0.5, (held > 1.5).to(x), ((held > 0.5) & (held < 1.5)).to(x))
    letter = torch.where(do < -0.5, following(letter), letter)
    added = torch.zeros_like(x)
    added[..., SAID] = 40 * letter * ((pick.abs() > 0.5) & (do.abs() > 0.5))
    return added


class Spelling(PlainTokenizer):
    """Ids read back as the small letters that were written."""

    def decode(self, ids: Sequence[int] | int) -> str:
        return "".join(chr(V - 3 + i - 3) for i in ([ids] if isinstance(ids, int) else ids))


def asked(write: Write) -> Model:
    """A planted model whose layer 2 writes, behind one that hands letters on."""
    model = planted({LAYER: write}, n_layers=4)
    model.net.model.layers[0].self_attn = Handing()  # type: ignore[union-attr, index]
    model.net.model.layers[0].input_layernorm = nn.Identity()  # type: ignore[union-attr, index]
    return replace(model, tokenizer=Spelling(V))


def tasked() -> Model:
    return asked(answering)


def written(folder: Path, pairs: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    path = folder / "some.jsonl"
    rows = [{"task": task, "input": x, "output": y} for task, every in pairs.items() for x, y in every]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def lists() -> dict[str, list[tuple[str, str]]]:
    """Two letters that lie five apart: their copies and the letters after them are four different answers."""
    both = [(chr(k), chr(k + 5)) for k in range(ord("a"), ord("a") + 4)]
    return {
        "first": [(f"{a}{b}", a) for a, b in both],
        "last": [(f"{a}{b}", b) for a, b in both],
        "first_next": [(f"{a}{b}", chr(ord(a) + 1)) for a, b in both],
        "last_next": [(f"{a}{b}", chr(ord(b) + 1)) for a, b in both],
    }


def vectors_of(
    source: str,
    pairs: Mapping[str, Sequence[tuple[str, str]]],
    vectors: Mapping[str, Tensor],
    unsolved: Sequence[tuple[str, str]] = (),
) -> dict[str, Result]:
    """Findings of function_vectors: tasks without a vector are not solved, all pairs are judged.

    Args:
        unsolved: pairs that are not solved with examples.
    """
    tasks, nothing = np.array(list(pairs)), torch.full((WIDTH,), torch.nan)
    every = np.stack([vectors.get(name, nothing).double().numpy() for name in tasks.tolist()])
    state = np.array([[STATE if name in vectors else np.nan] for name in tasks.tolist()])
    found = [
        Measurement("vector", {"task": tasks, "feature": np.arange(WIDTH)}, every, "1", missing="unsolved"),
        Measurement("chosen_state", {"task": tasks, "variant": np.array(["vector"])}, state, "1", missing="unsolved"),
    ]  # fmt: skip
    rows = [(name, x, y, True, (x, y) not in unsolved) for name, each in pairs.items() for x, y in each]
    rows += [(name, *each[0], False, True) for name, each in pairs.items()]  # one of the other half
    columns = dict(
        zip(
            ("task", "input", "output", "judged", "solved"),
            map(np.array, zip(*rows, strict=True)),
            strict=True,
        )
    )
    findings = Findings({m.name: m for m in found}, {"queries": Table(columns)})
    words = Text("t", "q", "m", "h", "w", "s")
    return {"function_vectors": Result("function_vectors", {"source": source}, findings, words, {})}


def observed(model: Model, analysis: Analysis, given: Mapping[str, Result]) -> Findings:
    """The findings of an analysis that goes on from vectors; the model's attention keeps no keys."""
    material = analysis.needs(model.anatomy).material
    assert material is not None
    windows = material.windows(model, 0).items
    batch = Batch.of_ids([list(windows[0].ids)])
    seen = View(Seen(model, batch, {}), Needs(), Shard("s", (0,), 1), 0, windows)
    ways = [mock.patch.object(where, "goes_by_cache", return_value=False) for where in (injection, continued)]
    with ways[0], ways[1]:
        total = analysis.observe(model, batch, seen, given)
    return analysis.conclude(total, Facts.of(model.anatomy, "windows", 0))
