"""The only file with PyTorch hooks: one context manager, and nothing is left behind when its block ends."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

Touch = Callable[[Tensor], Tensor | None]
Record = Callable[[tuple[Any, ...], Mapping[str, Any]], None]


class Enough(Exception):
    """Raised inside a tap when nothing later is needed; `run` catches it."""


@dataclass(frozen=True)
class Tap:
    """One place to look at or replace a tensor.

    Args:
        module: whose call is watched.
        side: "in" for the first tensor argument, "out" for the output (or element 0 of a container).
        touch: sees the tensor; what it returns, unless None, takes the tensor's place.
    """

    module: nn.Module
    side: Literal["in", "out"]
    touch: Touch


@dataclass(frozen=True)
class Tape:
    """One place to record how a module is called, before anything is replaced."""

    module: nn.Module
    record: Record


@contextmanager
def hooked(places: Iterable[Tap | Tape]) -> Generator[None]:
    """Install taps in order; all are removed when the block ends, whatever ends it."""
    handles = []
    try:
        for place in places:
            if isinstance(place, Tape):
                hook = partial(_recorded, place.record)
                handles.append(place.module.register_forward_pre_hook(hook, with_kwargs=True))
            elif place.side == "in":
                hook = partial(_before, place.touch)
                handles.append(place.module.register_forward_pre_hook(hook, with_kwargs=True))
            else:
                handles.append(place.module.register_forward_hook(partial(_after, place.touch)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def stream_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, str | int]:
    """The tensor a module is called with and where it stands: position 0, or the name of its keyword."""
    if args and isinstance(args[0], Tensor):
        return args[0], 0
    for name in ("hidden_states", "hidden", "x"):
        if isinstance(kwargs.get(name), Tensor):
            return kwargs[name], name
    raise TypeError(f"no tensor among the arguments {len(args)} positional and {sorted(kwargs)}")


def put_stream(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], stream: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call with another tensor in the stream's place."""
    _, place = stream_of(args, kwargs)
    if place == 0:
        return (stream, *args[1:]), dict(kwargs)
    return args, {**kwargs, str(place): stream}


def tensor_of(output: object) -> Tensor:
    """The tensor itself, or element 0 of a tuple or list."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, tuple | list) and isinstance(output[0], Tensor):
        return output[0]
    raise TypeError(
        f"a module returned {type(output).__name__}; a tensor or a tuple that starts with one was expected"
    )


def put_tensor(output: object, tensor: Tensor) -> object:
    """The same container with another first tensor."""
    if isinstance(output, tuple | list):
        rest = (tensor, *output[1:])
        return type(output)(rest) if type(output) in (tuple, list) else type(output)(*rest)
    return tensor


def _before(touch: Touch, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401  (torch's protocol)
    changed = touch(stream_of(args, kwargs)[0])
    return None if changed is None else put_stream(args, kwargs, changed)


def _after(touch: Touch, _: nn.Module, __: object, output: object) -> object:
    changed = touch(tensor_of(output))
    return None if changed is None else put_tensor(output, changed)


def _recorded(record: Record, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    record(args, kwargs)
