"""Whom long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""(phase, done, in all): tokens of an audit, steps of a study."""


def silent(phase: str, done: int, total: int) -> None:
    """Progress that nobody watches."""
    del phase, done, total
