"""Words of the decision report in one language: phrases from a data file, and numbers that carry their intervals."""

from __future__ import annotations

import math
import string
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from depthscope.errors import BadInput, UnknownName
from depthscope.results.decision import Decision, Estimate, Said, Variant

FOLDER = Path(__file__).parent / "phrases"
MINUS = "\N{MINUS SIGN}"
MISSING = "\N{EN DASH}"
BOUNDED = ("points", "score", "range", "money", "hours", "layers", "ratio", "index", "gap")
"""Forms of estimates: each names value and both ends, so none can be said without its interval."""


@cache
def languages() -> tuple[str, ...]:
    """The languages that there are phrases for."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@cache
def phrases(language: str) -> Mapping[str, Mapping[str, str]]:
    """All phrases of a language: section -> key -> template.

    Raises:
        UnknownName: for a language without phrases.
    """
    if language not in languages():
        raise UnknownName("language", language, languages())
    return tomllib.loads((FOLDER / f"{language}.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Words:
    """What is said of one decision in one language.

    Forms of slots: `points` (change of a share, 100 = all), `score` and `range` (percent), `money`, `hours` (from
    seconds),
    `layers`, `ratio`, `index` (a score of 0 to 1), `gap` (of two of them) take an Estimate with its interval; `drop` is
    a share as points, `count` and `plain` are numbers, `reason` is a word of the rules that propose a criticality,
    `list` and `variants` are several names, `variant` is the name of one; without a form a text stands as it is.
    """

    decision: Decision
    language: str

    def t(self, section: str, key: str, **slots: Any) -> str:
        """A phrase of the page.

        Raises:
            UnknownName: for a phrase that the language does not have.
        """
        known = phrases(self.language)[section]
        if key not in known:
            raise UnknownName(f"phrase of {section} in {self.language}", key, known)
        return _Slots(self._formed).vformat(known[key], (), slots)

    def say(self, said: Said) -> str:
        """A sentence."""
        return self.t("said", said.key, **said.slots)

    def variant(self, name: str) -> str:
        """What a variant is called in a sentence."""
        found = self.decision.variant(name)
        return name if found is None or found.kind == "base" else self.named(found)

    def named(self, variant: Variant) -> str:
        """What a variant is called in a table."""
        base = self.decision.variant(self.decision.base)
        slots = {
            "name": variant.name, "base": self.decision.base, "removed": len(variant.removed),
            "layers": base.layers if base else variant.layers + len(variant.removed),
        }  # fmt: skip
        one = variant.kind == "ladder" and len(variant.removed) == 1
        return self.t("kind", "ladder_one" if one else variant.kind, **slots)

    def short(self, variant: Variant) -> str:
        """What a variant is called beside a point of a chart."""
        return f"{MINUS}{len(variant.removed)}" if variant.kind == "ladder" else variant.name

    def cell(self, found: Estimate, factor: float = 1.0, digits: int = 1, sign: bool = False) -> str:
        """An estimate in a table: value [low, high]; without ends the value alone is not shown as a share."""
        if found.value is None:
            return MISSING
        scaled = found.scaled(factor)
        if not found.bounded:
            return MISSING if factor == 100 else _number(scaled.value, digits, sign)
        parts = {"value": _number(scaled.value, digits, sign), "low": _number(scaled.low, digits, sign)}
        return self.t("form", "cell", **parts, high=_number(scaled.high, digits, sign))

    def joined(self, names: Sequence[str]) -> str:
        """Names in one list."""
        form = phrases(self.language)["form"]
        if len(names) < 2:
            return "".join(names)
        return form["separator"].join(names[:-1]) + form["last"] + names[-1]

    def _formed(self, value: Any, form: str) -> str:  # noqa: ANN401
        if form in BOUNDED:
            return self._bounded(_estimate(value), form)
        if form == "drop":
            points = f"{100 * float(value):g}"
            return self.t("form", "drop_one" if points == "1" else "drop", value=points)
        if form == "count":
            return f"{round(float(value)):,}"
        if form == "plain":
            return f"{float(value):g}"
        if form == "reason":
            return self.t("because", str(value))
        if form == "list":
            return self.joined([str(one) for one in value])
        if form == "variants":
            return self.joined([self.variant(str(one)) for one in value])
        return self.variant(str(value)) if form == "variant" else str(value)

    def _bounded(self, found: Estimate, form: str) -> str:
        if not found.bounded:
            raise BadInput(f"an estimate without its interval, {found}, may not be said as {form}")
        factor = {"points": 100.0, "score": 100.0, "range": 100.0, "hours": 1 / 3600}.get(form, 1.0)
        scaled = found.scaled(factor)
        digits = (
            0
            if form == "layers"
            else amount_digits(scaled)
            if form in ("money", "hours")
            else {"ratio": 2, "index": 3, "gap": 3}.get(form, 1)
        )
        parts = {
            part: _number(getattr(scaled, part), digits, form in ("points", "gap"))
            for part in ("value", "low", "high")
        }
        return self.t(
            "form",
            form,
            **parts,
            n=MISSING if found.n is None else f"{found.n:,}",
            currency=self.decision.currency,
        )


class _Slots(string.Formatter):
    """Formats slots by the forms of this module; a form of Python's own is not understood."""

    def __init__(self, formed: Callable[[Any, str], str]) -> None:
        self.formed = formed

    def format_field(self, value: Any, format_spec: str) -> str:  # noqa: ANN401
        return self.formed(value, format_spec)


def amount_digits(found: Estimate) -> int:
    """Digits after the point that show an amount of money or time to about three places."""
    size = max((abs(part) for part in (found.value, found.low, found.high) if part is not None), default=0.0)
    return 0 if size >= 100 else 2 if size >= 1 else 4


def _estimate(value: Any) -> Estimate:  # noqa: ANN401
    return value if isinstance(value, Estimate) else Estimate(**value)


def _number(value: float | None, digits: int, sign: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    rounded = round(value, digits) + 0.0
    said = f"{abs(rounded):,.{digits}f}"
    if rounded < 0:
        return MINUS + said
    return f"+{said}" if sign and rounded > 0 else said
