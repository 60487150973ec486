"""What parameters may hold, checked when an object is made and told in the same words everywhere: ranges and names."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from depthscope.errors import BadInput, UnknownName

Number = int | float


@dataclass(frozen=True)
class Range:
    """The numbers a field may hold; of a field of several numbers, each of them, one at least.

    Args:
        low, high: the ends. without_low, without_high: whether an end is no part of the range. what: what the number
            is of, where its name does not say it.
    """

    low: Number
    high: Number = math.inf
    without_low: bool = False
    without_high: bool = False
    what: str = ""

    def __contains__(self, value: Number) -> bool:
        above = value > self.low if self.without_low else value >= self.low
        return above and (value < self.high if self.without_high else value <= self.high)

    def __str__(self) -> str:
        begins = f"above {self.low:g}" if self.without_low else f"{self.low:g} or more"
        if self.high == math.inf:
            return begins
        if self.without_low or self.without_high:
            begins = begins if self.without_low else f"at least {self.low:g}"
            return f"{begins} and {'below' if self.without_high else 'at most'} {self.high:g}"
        return f"from {self.low:g} to {self.high:g}"


def at_least(low: Number, *, most: Number = math.inf, below: Number = math.inf, what: str = "") -> Range:
    """From `low` on, up to and with `most`, or up to `below`."""
    return Range(low, min(most, below), without_high=below <= most and below < math.inf, what=what)


def above(low: Number, *, most: Number = math.inf, below: Number = math.inf, what: str = "") -> Range:
    """Above `low`, up to and with `most`, or up to `below`."""
    return Range(low, min(most, below), True, below <= most and below < math.inf, what)


def check_ranges(thing: object, **ranges: Range) -> None:
    """Hold fields of an object against their ranges.

    Raises:
        BadInput: which fields are outside, what they hold, and what they may hold.
    """
    wrong = [
        f"{name}={value}{f' ({allowed.what})' if allowed.what else ''} must be {_asked(value, allowed)}"
        for name, allowed in ranges.items()
        if not _holds(value := getattr(thing, name), allowed)
    ]
    if wrong:
        raise BadInput(", ".join(wrong))


def check_names(thing: object, **known: Collection[str]) -> None:
    """Hold fields of an object against the names they may hold; a field of several names holds one at least.

    Raises:
        UnknownName: for a name that is none of them; it says which are near. BadInput: for a field without a name.
    """
    for field, names in known.items():
        value = getattr(thing, field)
        if isinstance(value, tuple | list) and not value:
            raise BadInput(f"{field} is empty; give one or more of {', '.join(sorted(names))}")
        for name in value if isinstance(value, tuple | list) else (value,):
            if name not in names:
                raise UnknownName(f"value of {field}", str(name), names)


def _holds(value: object, allowed: Range) -> bool:
    if isinstance(value, tuple | list):
        return len(value) > 0 and all(each in allowed for each in value)
    return value in allowed  # pyright: ignore[reportOperatorIssue]


def _asked(value: object, allowed: Range) -> str:
    return f"one number or more, each {allowed}" if isinstance(value, tuple | list) else str(allowed)
