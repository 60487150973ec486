"""Written texts on the page: one prompt, what was written under each change, and what a judge says of it.

Model text is hostile: control and formatting characters are made visible, the template escapes the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from depthscope.report.tables import number
from depthscope.results.measurement import Table
from depthscope.results.visible import readable

SHOWN = 6
"""So many prompts are shown, in the order of the run: none is chosen."""

NAMES = {
    "plain": "unsteered",
    "swap_predictable": "expected of A, novel of B",
    "swap_novel": "novel of A, expected of B",
    "swap_raw": "a step as long, towards A",
    "swap_random": "a step as long, random",
    "swap_shuffled": "expected of A, novel of other texts",
    "vector_predictable": "vector of A's domain, predictable part",
    "vector_novel": "vector of A's domain, novel part",
    "vector_raw": "vector of A's domain, whole state",
    "vector_random": "random vector as long",
    "other": "prompt of A, unsteered",
}
"""Rows of a prompt in this order; others follow, but "nothing", which is "plain" again."""


@dataclass(frozen=True)
class Continuation:
    """One text: what was done, what was written, and the judge's share for A's domain against B's, also in words."""

    name: str
    text: str
    leaning: float
    share: str
    kept: str
    strong: bool = False


@dataclass(frozen=True)
class Passage:
    """One prompt of domain B, the other text's domain A, and everything written after the prompt."""

    prompt: str
    own: str
    other: str
    rows: tuple[Continuation, ...]


def passages_of(table: Table) -> list[Passage]:
    """The first prompts of an example table.

    Its columns: pair, prompt, own, other, variant, text, towards_other, shared_own.
    """
    numbers = np.asarray(table.columns["pair"])
    return [_passage(table, numbers == each) for each in np.unique(numbers)[:SHOWN]]


def _passage(table: Table, chosen: np.ndarray) -> Passage:
    columns = {name: np.asarray(values)[chosen] for name, values in table.columns.items()}
    found = {str(v): k for k, v in enumerate(columns["variant"])}
    order = [*(v for v in NAMES if v in found), *(v for v in found if v not in NAMES and v != "nothing")]
    rows = tuple(
        Continuation(
            NAMES.get(v, readable(v)),
            readable(str(columns["text"][found[v]])),
            float(columns["towards_other"][found[v]]),
            _share(float(columns["towards_other"][found[v]])),
            _share(float(columns["shared_own"][found[v]])),
            v == "swap_predictable",
        )
        for v in order
    )
    prompt, own, other = (readable(str(columns[name][0])) for name in ("prompt", "own", "other"))
    return Passage(prompt, own, other, rows)


def _share(value: float) -> str:
    return number(round(value, 2)) if math.isfinite(value) else number(None)
