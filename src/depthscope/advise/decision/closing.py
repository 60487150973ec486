"""The end of a decision: which variant answers which task, the cautions, the sentences, where it all comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

import depthscope
from depthscope.advise.decision.compare import Matter, drifted, task_costs
from depthscope.advise.decision.evidence import Evidence
from depthscope.advise.decision.risks import notes
from depthscope.advise.decision.sentences import headline, meeting
from depthscope.advise.decision.sheet import Sheet
from depthscope.advise.decision.verdicts import chosen, monthly, pareto, routed
from depthscope.results.decision import Decision, Depth, Route, Said, Step, TaskFound, Variant, Width


@dataclass(frozen=True)
class Gathered:
    """What the steps found.

    Args:
        base: name of the present model. evidence, hints: by variant; hints are verdicts on the items to choose by.
        command, text: for the provenance.
    """

    sheet: Sheet
    matters: tuple[Matter, ...]
    base: str
    evidence: Mapping[str, Evidence]
    rows: Sequence[Variant]
    hints: Mapping[str, Mapping[str, TaskFound]]
    depth: Depth | None
    width: Width | None
    command: str
    text: str


def sketch(found: Gathered) -> Decision:
    """What is known so far, without verdicts."""
    lines = tuple(m.line for m in found.matters)
    return Decision(
        title=found.sheet.title, base=found.base, currency=found.sheet.prices.currency, headline=(), meeting=(),
        risks=(), steps=(), tasks=lines, variants=tuple(found.rows), depth=found.depth, width=found.width,
        chosen=found.base,
    )  # fmt: skip


def concluded(found: Gathered, steps: tuple[Step, ...]) -> Decision:
    """The decision; where the work stopped early without routes and savings."""
    best = pareto(found.rows, found.base)
    found = replace(found, rows=[replace(one, pareto=one.name in best) for one in found.rows])
    made = replace(sketch(found), steps=steps, risks=_risks(found), provenance=_provenance(found))
    if steps[-1].state != "done":
        made = replace(made, meeting=meeting(made, _focus(found, {})))
        return replace(made, headline=headline(made))
    choice = _choice(found)
    routes = _routes(found, made, choice)
    moved = [route.variant for route in routes if route.variant != found.base]
    most = max(moved, key=moved.count, default=found.base)
    made = replace(made, routes=routes, chosen=most, monthly=monthly(routes, found.base))
    made = replace(made, meeting=meeting(made, _focus(found, choice)))
    return replace(made, headline=headline(made))


def _choice(found: Gathered) -> dict[str, str | None]:
    """For each task the cheapest variant that keeps within its limits, or None."""
    order = sorted(found.hints, key=lambda name: _expense(found, name))
    return {
        m.line.name: chosen(m.line, {n: found.hints[n][m.line.name] for n in order}, order)
        for m in found.matters
    }


def _routes(found: Gathered, made: Decision, choice: Mapping[str, str | None]) -> tuple[Route, ...]:
    timed = {**found.evidence, found.base: drifted(found.evidence[found.base], found.evidence.values())}
    costs = {n: task_costs(e, found.matters, found.sheet.prices) for n, e in timed.items()}
    return routed(made.tasks, found.rows, choice, costs, found.base)


def _expense(found: Gathered, name: str) -> tuple[float, float]:
    """What variants are ordered by, cheapest first: measured cost, then size."""
    row = next(one for one in found.rows if one.name == name)
    return (row.cost.value if row.cost.value is not None else float("inf"), float(row.parameters))


def _focus(found: Gathered, choice: Mapping[str, str | None]) -> dict[str, str]:
    """For each task the variant that sentences speak of: the chosen one, else the first that was tested."""
    others = [one.name for one in found.rows if one.name != found.base]
    if not others:
        return {}
    return {m.line.name: choice.get(m.line.name) or others[0] for m in found.matters}


def _about(found: Gathered) -> Mapping[str, Any]:
    return found.evidence[found.base].about if found.base in found.evidence else {}


def _risks(found: Gathered) -> tuple[Said, ...]:
    about, sheet = _about(found), found.sheet
    return notes(
        [m.line for m in found.matters], found.rows, flags=sheet.risks, family=str(about.get("family", "")),
        chat_template=bool(about.get("chat_template")), own_text=bool(sheet.text),
        quantised_after=any(one.quantised_after_pruning for one in sheet.alternatives),
    )  # fmt: skip


def _provenance(found: Gathered) -> dict[str, Any]:
    sheet, about = found.sheet, _about(found)
    return {
        "command": found.command, "depthscope": depthscope.__version__, "model": about.get("model", sheet.model),
        "weights": about.get("weights_hash"), "revision": about.get("revision"), "dtype": about.get("dtype"),
        "device": about.get("device"), "threads": torch.get_num_threads(), "seed": sheet.seed,
        "text": found.text, "tokens": sheet.tokens,
        "sheet_hash": hashlib.sha256(sheet.path.read_bytes()).hexdigest()[:16],
        "tasks": "; ".join(f"{m.line.name} {m.line.hash}" for m in found.matters),
    }  # fmt: skip
