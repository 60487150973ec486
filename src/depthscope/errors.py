"""The whole exception tree of depthscope.

    DepthscopeError
    ├── UnknownName            a name that no registry, site grammar or run folder knows
    ├── LoadError              a model could not be found or opened
    │   └── MissingPackage     the package that holds it is not installed; the message is the one command
    ├── UnsupportedModel       the architecture is unknown and the generic guess broke a law
    ├── Refused                the request cannot hold for this model; the reason is the message
    │   └── LawBroken          a law that the request relies on is red on the loaded weights
    ├── BadInput               text, ids, sites or parameters that cannot be used
    │   └── EmptyMaterial      nothing readable was found
    ├── StoreError             the run folder cannot be read or written
    │   ├── RunMismatch        the folder holds a run of other parameters
    │   └── StoreFull          the disk has no room; what was there stays as it was
    ├── NonFinite              the model produced only NaN or infinite numbers
    └── WorkerLost             a worker process died twice on the same shard

Every message says what was asked, what was found and what to do. `exit_code` is what the command line returns.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DepthscopeError(Exception):
    """Anything depthscope refuses or cannot do; catch this one to catch them all."""

    exit_code = 1


class UnknownName(DepthscopeError):
    """A name that is not known; the message lists the nearest names.

    Args:
        kind: what sort of thing was asked for, such as "analysis".
        asked: the name as it was given.
        known: all names that would have been accepted.
    """

    exit_code = 2

    def __init__(self, kind: str, asked: str, known: Iterable[str]) -> None:
        self.kind, self.asked, self.known = kind, asked, tuple(sorted(known))
        near = difflib.get_close_matches(asked, self.known, n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(map(repr, near))}?"
            if near
            else f"known: {', '.join(self.known) or 'none'}."
        )
        super().__init__(f"unknown {kind} {asked!r}; {hint}")

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, str, tuple[str, ...]]]:
        return type(self), (self.kind, self.asked, self.known)


class LoadError(DepthscopeError):
    """A model could not be found or opened."""

    exit_code = 3


class MissingPackage(LoadError):
    """The package that holds the asked thing is not installed."""

    def __init__(self, asked: str, command: str) -> None:
        self.asked, self.command = asked, command
        super().__init__(f"{asked} is not installed here; run: {command}")

    def __reduce__(self) -> tuple[type[MissingPackage], tuple[str, str]]:
        return type(self), (self.asked, self.command)


class UnsupportedModel(DepthscopeError):
    """The architecture is unknown and the generic guess broke a law."""

    exit_code = 4


class Refused(DepthscopeError):
    """The request cannot hold for this model; the message is the reason."""

    exit_code = 4


class LawBroken(Refused):
    """A law that the request relies on is red on the loaded weights."""


class BadInput(DepthscopeError):
    """Text, ids, sites or parameters that cannot be used."""

    exit_code = 2


class EmptyMaterial(BadInput):
    """Nothing readable was found where material was expected."""


class StoreError(DepthscopeError):
    """The run folder cannot be read or written."""

    exit_code = 5


class RunMismatch(StoreError):
    """The folder holds a run of other parameters."""


class StoreFull(StoreError):
    """The disk has no room; what was there stays as it was."""


class NonFinite(DepthscopeError):
    """The model produced only NaN or infinite numbers."""

    exit_code = 6


class WorkerLost(DepthscopeError):
    """A worker process died twice on the same shard."""

    exit_code = 7
