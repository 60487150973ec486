"""Values out of a TOML table: each checked, each error with the file, the place, what was found and what to give."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from depthscope.errors import BadInput, UnknownName


@dataclass(frozen=True)
class Reader:
    """One TOML table.

    Args:
        place: where it stands, for messages, such as "sheet.toml, tasks[2]". values: the table. asked: names that
        were
            read, so that `done` finds those nobody knows.
    """

    place: str
    values: Mapping[str, Any]
    asked: set[str] = field(default_factory=set[str])

    def text(self, name: str, default: str | None = None) -> str:
        """A text that is not empty; required without a default."""
        found = self._found(name, default)
        if not isinstance(found, str) or (found == "" and default is None):
            raise self.wrong(name, found, "give a text in quotes")
        return found

    def choice(self, name: str, known: Iterable[str], default: str | None = None) -> str:
        """One of the known words.

        Raises:
            UnknownName: for another word; the message names the nearest.
        """
        found = self.text(name, default)
        if found not in tuple(known):
            raise UnknownName(f"{name} in {self.place}", found, known)
        return found

    def number(
        self, name: str, default: float | None = None, low: float = 0.0, high: float = math.inf
    ) -> float:
        """A finite number from low to high; required without a default."""
        found = self._found(name, default)
        if isinstance(found, bool) or not isinstance(found, int | float) or not low <= found <= high:
            span = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of {low:g} or more"
            raise self.wrong(name, found, f"give a number {span}")
        return float(found)

    def whole(self, name: str, default: int | None = None, low: int = 0, high: float = math.inf) -> int:
        """A whole number from low to high."""
        found = self.number(name, None if default is None else float(default), float(low), float(high))
        if found != int(found):
            raise self.wrong(name, found, "give a whole number")
        return int(found)

    def maybe(self, name: str, low: float = 0.0, high: float = math.inf) -> float | None:
        """A number, or None where it is not there."""
        self.asked.add(name)
        return self.number(name, low=low, high=high) if name in self.values else None

    def truth(self, name: str) -> bool:
        """True or false; false where it is not there."""
        found = self._found(name, False)
        if not isinstance(found, bool):
            raise self.wrong(name, found, "give true or false")
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; empty where it is not there."""
        found = self._found(name, [])
        if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
            raise self.wrong(name, found, "give a list of texts")
        return tuple(found)

    def numbers(self, name: str, default: tuple[float, ...], low: float, high: float) -> tuple[float, ...]:
        """A list of numbers from low to high."""
        found = self._found(name, list(default))
        if not isinstance(found, list):
            raise self.wrong(name, found, "give a list of numbers")
        fine = all(
            isinstance(one, int | float) and not isinstance(one, bool) and low <= one <= high for one in found
        )
        if not fine or not found:
            raise self.wrong(name, found, f"give a list of numbers from {low:g} to {high:g}")
        return tuple(float(one) for one in found)

    def table(self, name: str) -> Reader:
        """A table inside this one; empty where it is not there."""
        found = self._found(name, {})
        if not isinstance(found, dict):
            raise self.wrong(name, found, f"write it as [{name}]")
        return Reader(f"{self.place}, [{name}]", found)

    def tables(self, name: str) -> tuple[Reader, ...]:
        """The tables of a list of tables, in order; none where it is not there."""
        found = self._found(name, [])
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise self.wrong(name, found, f"write each as [[{name}]]")
        return tuple(Reader(f"{self.place}, {name}[{k}]", one) for k, one in enumerate(found, start=1))

    def done(self) -> None:
        """Every name was understood.

        Raises:
            UnknownName: for one that nobody asked for.
        """
        for name in self.values:
            if name not in self.asked:
                raise UnknownName(f"entry of {self.place}", name, self.asked)

    def wrong(self, name: str, found: object, advice: str) -> BadInput:
        """The error for a value that cannot be used."""
        return BadInput(f"{self.place}: {name} = {found!r} cannot be used; {advice}")

    def _found(self, name: str, default: object) -> object:
        self.asked.add(name)
        if name not in self.values and default is None:
            raise BadInput(f"{self.place} has no {name}; it has {', '.join(self.values) or 'nothing'}")
        return self.values.get(name, default)


def opened(path: Path) -> Reader:
    """The reader of a TOML file.

    Raises:
        BadInput: when it cannot be read or is not TOML; the line is named.
    """
    try:
        return Reader(path.name, tomllib.loads(path.read_bytes().decode("utf-8-sig")))
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read: {error.strerror}; give the TOML file of a task sheet"
        ) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise BadInput(
            f"{path.name} is not TOML: {error}; see the example on the page of `decide`"
        ) from error
