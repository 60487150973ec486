"""Shapes in signatures are read when a function is first called with checks on, not when its module is imported.

Every process of a test run imports the whole package; most of its functions are never called there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from beartype import beartype


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, put under beartype's checks at its first call."""
    under_checks: Callable[..., Any] | None = None

    @wraps(function)
    def late(*args: Any, **kwargs: Any) -> Any:
        nonlocal under_checks
        if under_checks is None:
            under_checks = beartype(function)
        return under_checks(*args, **kwargs)

    return late
