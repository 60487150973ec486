"""Groups of options: a verb takes a group as one parameter, and the command line shows what it holds, one by one.

A group is a frozen dataclass whose fields are options, such as `options.Loading`. A verb's default for it changes the
defaults of its options: `loading: options.Loading = PRECISE` with `PRECISE = options.Loading(dtype="float32")`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints


def expanded(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb as typer is to see it: each group replaced by its options, in its place.

    Raises:
        TypeError: when an option stands there twice.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    shown = [
        option
        for parameter in inspect.signature(verb).parameters.values()
        for option in _options(parameter, hints[parameter.name], groups)
    ]
    names = [option.name for option in shown]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TypeError(f"{verb.__module__}: {', '.join(twice)} stands in two groups")

    @functools.wraps(verb)
    def call(**given: Any) -> None:
        gathered = {
            name: kind(**{field.name: given.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        verb(**given, **gathered)

    call.__signature__ = inspect.Signature(shown)  # pyright: ignore[reportFunctionMemberAccess, reportAttributeAccessIssue]
    call.__annotations__ = {option.name: option.annotation for option in shown} | {"return": type(None)}
    return call


def _options(
    parameter: inspect.Parameter, hint: object, groups: dict[str, Any]
) -> Iterator[inspect.Parameter]:
    kind = groups.get(parameter.name)
    if kind is None:
        yield inspect.Parameter(
            parameter.name, inspect.Parameter.KEYWORD_ONLY, default=parameter.default, annotation=hint
        )
        return
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        default = (
            field.default if parameter.default is parameter.empty else getattr(parameter.default, field.name)
        )
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=parameter.empty if default is MISSING else default,
            annotation=hints[field.name],
        )
