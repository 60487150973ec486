"""The designs of a sweep over predictors: all combinations, or one thing changed at a time; and what each is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from depthscope.errors import BadInput, UnknownName
from depthscope.runtime.predictor import Design

GRIDS = ("around", "full")
FACTORS = ("kind", "layers", "heads", "head_dim", "window", "rope")
"""What is varied, in the order of the fields of a name."""


@dataclass(frozen=True)
class Factors:
    """The values that each field of a design takes; the first one of each is the base.

    Args:
        windows: positions seen, 0 for all; lags: the same of linear maps, solved and not trained.
    """

    kinds: tuple[str, ...] = ("attention", "mlp", "gru", "linear")
    layers: tuple[int, ...] = (1, 2, 4)
    heads: tuple[int, ...] = (8, 32)
    head_dims: tuple[int, ...] = (32, 128)
    windows: tuple[int, ...] = (0, 1, 4, 16, 64)
    lags: tuple[int, ...] = (1, 4)
    rope: tuple[bool, ...] = (True, False)

    def __post_init__(self) -> None:
        empty = [name for name, values in vars(self).items() if not values]
        if empty:
            raise BadInput(f"{', '.join(empty)}: a sweep needs one value of each at least")

    def by_name(self) -> Mapping[str, Sequence[Any]]:
        """Values by field of a design."""
        return dict(
            zip(
                FACTORS,
                (self.kinds, self.layers, self.heads, self.head_dims, self.windows, self.rope),
                strict=True,
            )
        )


def designs(factors: Factors, grid: str, norm: str, residual: str) -> dict[str, Design]:
    """Name -> design, the base first; designs that are the same network stand once.

    "around" changes one field of the base at a time, "full" takes all combinations.

    Raises:
        UnknownName: for another grid, or a kind that does not exist.
    """
    if grid not in GRIDS:
        raise UnknownName("grid", grid, GRIDS)
    chosen = _around(factors) if grid == "around" else _full(factors)
    found: dict[str, Design] = {}
    for values in chosen:
        for design in _made(values, factors.lags, norm, residual):
            found.setdefault(name_of(design), design)
    return found


def _around(factors: Factors) -> Iterator[Mapping[str, Any]]:
    values = factors.by_name()
    base = {name: each[0] for name, each in values.items()}
    yield base
    for name, each in values.items():
        yield from ({**base, name: value} for value in each[1:])


def _full(factors: Factors) -> Iterator[Mapping[str, Any]]:
    values = factors.by_name()
    yield from (dict(zip(values, combination, strict=True)) for combination in product(*values.values()))


def _made(values: Mapping[str, Any], lags: Sequence[int], norm: str, residual: str) -> Iterator[Design]:
    """The design of some values, without the fields that its kind does not have."""
    shape = {name: values[name] for name in ("kind", "heads", "head_dim", "rope")}
    design = replace(Design(norm=norm, residual=residual), **shape)
    if design.kind == "linear":
        plain = replace(design, heads=1, head_dim=1, rope=False, residual="none")
        yield from (replace(plain, window=lag) for lag in lags)
    elif design.kind == "gru":
        yield replace(design, layers=values["layers"], rope=False)
    else:
        yield replace(design, layers=values["layers"], window=values["window"])


def name_of(design: Design) -> str:
    """What a design is called: "attention 1x8x32, all, rope", "gru 1x128", "linear, 4"."""
    sizes = f"{design.layers}x{design.heads}x{design.head_dim}"
    if design.kind == "linear":
        return f"linear, {max(1, design.window)}"
    if design.kind == "gru":
        return f"gru {design.layers}x{max(1, design.heads * design.head_dim // 2)}"
    return f"{design.kind} {sizes}, {design.window or 'all'}, {'rope' if design.rope else 'no positions'}"
