"""Values of declared types from the JSON that they were stored as."""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from depthscope.errors import StoreError

T = TypeVar("T")


def decoded(kind: type[T], stored: object) -> T:
    """A value of a declared type from its JSON: dataclasses from mappings, tuples from lists, the rest as it is.

    Raises:
        StoreError: when a field is missing, unknown, or of another form.
    """
    try:
        return _decoded(kind, stored)
    except (TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"the stored {kind.__name__} does not fit: {error}; run `decide` again") from error


def _decoded(kind: Any, stored: Any) -> Any:  # noqa: ANN401  (any annotation, any JSON)
    if stored is None:
        return None
    if typing.get_origin(kind) is types.UnionType:
        return _decoded(next(k for k in typing.get_args(kind) if k is not type(None)), stored)
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        unknown = set(stored) - {f.name for f in fields(kind)}
        if unknown:
            raise TypeError(f"unknown {', '.join(sorted(unknown))}")
        return typing.cast("Any", kind)(
            **{name: _decoded(hints[name], value) for name, value in stored.items()}
        )
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return tuple(_decoded(inner, one) for one in stored)
    return stored
