"""How much of the width of its stream the base needs: an audit on the calibration text, and what may be said of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from depthscope.advise.decision.diagnosis import cell
from depthscope.engine.audit import audit
from depthscope.engine.reading import Reading
from depthscope.registry import ANALYSES
from depthscope.results.decision import Said, Width, WidthLine
from depthscope.runtime.model import Model
from depthscope.store.run import Run

FIT = 8192
"""Positions at most that directions are fitted on."""
FEWEST = 8
"""Stretches of text below which no sentence is said."""


def narrowed(model: Model, reading: Reading, out: Path, seed: int, run: str) -> dict[str, Any]:
    """The width that the loss needs as JSON; the audit behind it stays in `out` for `show` and `report`.

    Args:
        reading: the calibration text; at most `FIT` of its tokens are read. run: where `out` is, as seen from the
            report.

    Raises:
        EmptyMaterial, BadInput: when the text is too short. Refused: when the model has no next token to lose.
    """
    analysis = ANALYSES["residual_width"](fit=min(FIT, reading.tokens))
    found = audit(
        model, [analysis], out=out, text=reading.text, field=reading.field, tokens=min(FIT, reading.tokens),
        window=reading.window, bos=reading.bos, max_length=reading.max_length, seed=seed,
    )  # fmt: skip
    return asdict(width_of(found, model.anatomy.d_model, analysis.allowed, run))


def width_of(found: Run, directions: int, allowed: float, run: str) -> Width:
    """Directions that the loss needs by state, from a run with residual_width."""
    states = found["residual_width"]["causal_width"].axes["state"].tolist()
    needed = [cell(found, "residual_width", "causal_width", state=state) for state in states]
    lines = (
        WidthLine(int(state), one, one.scaled(1 / directions))
        for state, one in zip(states, needed, strict=True)
    )
    return Width(directions, allowed, tuple(lines), cell(found, "residual_width", "late_minus_middle"), run)


def spoken(found: Width) -> tuple[Said, ...]:
    """What may be said of late states and those of the middle, by the interval of the difference, and of the extremes.

    The states that need most and least are named without the embedding and the final one. Too few stretches of text
    decide nothing.
    """
    if (found.late.n or 0) < FEWEST:
        return (Said.of("width.few", n=found.late.n or 0), Said.of("width.not_wider"))
    said: list[Said] = []
    inner = [line for line in found.lines[1:-1] if line.share.bounded]
    if inner:
        most, least = (pick(inner, key=lambda line: line.share.value or 0.0) for pick in (max, min))
        slots = {
            "most": most.share,
            "most_state": most.state,
            "least": least.share,
            "least_state": least.state,
        }
        said.append(Said.of("width.needed", directions=found.directions, **slots))
    if found.late.bounded:
        word = "more" if (found.late.low or 0) > 0 else "less" if (found.late.high or 0) < 0 else "open"
        said.append(Said.of(f"width.{word}", late=found.late))
    return (*said, Said.of("width.not_wider"))
