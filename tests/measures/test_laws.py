"""Every promise in every LAWS table of `depthscope.measures`, on inputs drawn from the measure's signature.

A measure's annotations name its axes, so inputs can be drawn without knowing the measure: real arrays are
normal, Booleans a coin, integers small ids. Only names with a meaning (a distribution, a mask) are
drawn on purpose.
"""

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, get_args

import numpy as np
import pytest
import torch
from jaxtyping import AbstractArray, Bool, Float, Num
from torch import Tensor

from depthscope import measures
from depthscope.errors import UnknownName
from depthscope.measures.distribution import cross_entropy, entropy, kl
from depthscope.measures.geometry import curvature
from depthscope.measures.laws import PROPERTIES, Law
from depthscope.measures.onset import changes, first_onset
from depthscope.measures.residual import cosine, growth, relative_norm

DRAWS = 5
TOLERANCE = 1e-9
WITHOUT_LAWS = ("laws", "precision", "threads")


@dataclass(frozen=True)
class Input:
    """One array argument: its values and the names of its axes."""

    values: Tensor
    axes: tuple[str, ...]
    kind: type
    numpy: bool

    @property
    def real(self) -> bool:
        return self.kind in (Float, Num)

    def replaced(self, values: Tensor) -> "Input":
        return Input(values, self.axes, self.kind, self.numpy)

    def plain(self) -> Any:
        return self.values.numpy() if self.numpy else self.values


Inputs = dict[str, Input]


def _modules() -> list[ModuleType]:
    names = [
        module.name for module in pkgutil.iter_modules(measures.__path__) if module.name not in WITHOUT_LAWS
    ]
    return [importlib.import_module(f"depthscope.measures.{name}") for name in names]


def _laws() -> list[Law]:
    return [law for module in _modules() for law in module.LAWS]


def _array_type(annotation: Any) -> Any | None:
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, AbstractArray)), None)


def _draw_values(name: str, kind: type, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    purpose: dict[str, Callable[[], Tensor]] = {
        "p": lambda: normal.softmax(-1),
        "rows": lambda: normal.softmax(-1),
        "gram": lambda: normal @ normal.mT,
        "norms": normal.abs,
        "weights": normal.abs,
        "counts": lambda: torch.randint(1, 6, shape, generator=generator).double(),
        "p_values": normal.sigmoid,
        "query_positions": lambda: torch.arange(shape[-1]),
        "mask": lambda: torch.arange(shape[-1]) < torch.tensor([shape[-1], 4, shape[-1] - 1])[:, None],
        "ids_a": lambda: normal.argsort(-1) + 2,
        "ids_b": lambda: normal.argsort(-1),
    }
    if name in purpose:
        return purpose[name]()
    if kind in (Float, Num):
        return normal
    return normal > 0 if kind is Bool else torch.randint(0, 5, shape, generator=generator)


def draw(law: Law, seed: int) -> Inputs:
    """Random inputs for all array parameters without an option: 3 items, other axes 5 and longer, float64."""
    generator = torch.Generator().manual_seed(seed)
    sizes: dict[str, int] = {"batch": 3}
    inputs: Inputs = {}
    for name, parameter in inspect.signature(law.measure).parameters.items():
        annotation = _array_type(parameter.annotation)
        if annotation is None or name in law.options:
            continue
        axes = tuple(annotation.dim_str.split())
        shape = tuple(3 if axis[0] in "*." else sizes.setdefault(axis, 4 + len(sizes)) for axis in axes)
        values = _draw_values(name, annotation.dtype, shape, generator)
        inputs[name] = Input(values, axes, annotation.dtype, issubclass(annotation.array_type, np.ndarray))
    return inputs


def outputs(law: Law, inputs: Inputs) -> list[Tensor]:
    """All outputs of the measure, as a flat list of float64 tensors."""
    found = law.measure(**{name: given.plain() for name, given in inputs.items()}, **law.options)
    parts = found.values() if isinstance(found, dict) else found if isinstance(found, tuple) else [found]
    return [torch.as_tensor(part).double() for part in parts]


def _first_two_equal(inputs: Inputs) -> Inputs:
    a, b = list(inputs)[:2]
    return {**inputs, b: inputs[b].replaced(inputs[a].values)}


def _exchanged(inputs: Inputs) -> Inputs:
    a, b = list(inputs)[:2]
    return {**inputs, a: inputs[b], b: inputs[a]}


def _mapped(inputs: Inputs, chosen: Callable[[Input], bool], change: Callable[[Tensor], Tensor]) -> Inputs:
    assert any(chosen(given) for given in inputs.values()), "the property says nothing about this measure"
    return {
        n: given.replaced(change(given.values)) if chosen(given) else given for n, given in inputs.items()
    }


def _last_axis(inputs: Inputs) -> str:
    return next(iter(inputs.values())).axes[-1]


def _rotated(inputs: Inputs) -> Inputs:
    axis = _last_axis(inputs)
    d = next(iter(inputs.values())).values.shape[-1]
    rotation = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64)).Q
    return _mapped(
        inputs, lambda given: given.real and given.axes[-1] == axis, lambda values: values @ rotation
    )


def _reordered(inputs: Inputs, axis: str) -> Inputs:
    def reorder(given: Input) -> Input:
        if axis not in given.axes:
            return given
        place = given.axes.index(axis) - len(given.axes)
        return given.replaced(given.values.roll(2, place).flip(place))

    assert any(axis in given.axes for given in inputs.values())
    return {name: reorder(given) for name, given in inputs.items()}


def _padded(inputs: Inputs) -> Inputs:
    def pad(given: Input) -> Input:
        place = given.axes.index("token") - len(given.axes)
        shape = list(given.values.shape)
        shape[place] = 3
        end = (
            torch.zeros(shape, dtype=torch.bool) if given.kind is Bool else 100 * torch.randn(shape).double()
        )
        return given.replaced(torch.cat([given.values, end], dim=place))

    return {name: pad(given) if "token" in given.axes else given for name, given in inputs.items()}


def _second_item(inputs: Inputs) -> Inputs:
    return _mapped(inputs, lambda g: g.axes[0] == "batch" or g.axes[0][0] in "*.", lambda values: values[1:2])


CHANGES: dict[str, Callable[[Inputs], Inputs]] = {
    "symmetric": _exchanged,
    "shift_free": lambda inputs: _mapped(inputs, lambda given: given.real, lambda values: values + 3.7),
    "scale_free": lambda inputs: _mapped(inputs, lambda given: given.real, lambda values: values * 7.3),
    "rotation_free": _rotated,
    "permutation_free": lambda inputs: _reordered(inputs, _last_axis(inputs)),
    "token_order_free": lambda inputs: _reordered(inputs, "token"),
    "padding_free": _padded,
}
"""Properties that say: this change of the inputs changes no output."""


def _close(found: list[Tensor], expected: list[Tensor]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        # Padding may lengthen an output; what was there before must stay.
        kept = ours[tuple(slice(n) for n in theirs.shape)]
        torch.testing.assert_close(kept, theirs, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


def _bound(inputs: Inputs, name: str) -> float:
    return math.log(next(iter(inputs.values())).values.shape[-1]) if name == "at_most_log_n" else 1.0


def check(law: Law, name: str, seed: int) -> None:
    """Assert one property of one law on one draw."""
    inputs = draw(law, seed)
    if name in CHANGES:
        _close(outputs(law, CHANGES[name](inputs)), outputs(law, inputs))
    elif name == "batch_free":
        _close(outputs(law, _second_item(inputs)), [whole[1:2] for whole in outputs(law, inputs)])
    elif name in ("zero_on_equal", "one_on_equal"):
        for found in outputs(law, _first_two_equal(inputs)):
            expected = torch.full_like(found, float(name == "one_on_equal"))
            torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)
    else:
        known = [found[~found.isnan()] for found in outputs(law, inputs)]
        assert sum(found.numel() for found in known), "only NaN: nothing was checked"
        for found in known:
            if name == "non_negative":
                assert (found >= 0).all()
            else:
                assert (found.abs() <= _bound(inputs, name) + TOLERANCE).all()


def check_draws(law: Law, name: str) -> None:
    for seed in range(DRAWS):
        check(law, name, seed)


def _label(law: Law) -> str:
    return f"{law.measure.__name__}({','.join(f'{key}={value}' for key, value in law.options.items())})"


@pytest.mark.parametrize(
    ("law", "name"),
    [pytest.param(law, name, id=f"{_label(law)}-{name}") for law in _laws() for name in law.properties],
)
def test_measure_keeps_its_promise(law: Law, name: str) -> None:
    check_draws(law, name)


@pytest.mark.parametrize("module", _modules(), ids=lambda module: module.__name__.rpartition(".")[2])
def test_each_public_function_stands_in_the_laws_of_its_file(module: ModuleType) -> None:
    own = {n for n, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__}
    assert {n for n in own if not n.startswith("_")} == {law.measure.__name__ for law in module.LAWS}


def _takes_real_tensors(law: Law) -> bool:
    return any(given.real and not given.numpy for given in draw(law, seed=0).values())


@pytest.mark.parametrize("law", [law for law in _laws() if _takes_real_tensors(law)], ids=_label)
def test_bfloat16_inputs_are_upcast_before_anything_else(law: Law) -> None:
    small = _mapped(draw(law, seed=0), lambda given: given.real, lambda values: values.bfloat16())
    upcast = _mapped(small, lambda given: given.real, lambda values: values.float())
    for ours, theirs in zip(outputs(law, small), outputs(law, upcast), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def _in_bits(logits: Float[Tensor, "*items vocab"]) -> Float[Tensor, "*items"]:
    return torch.distributions.Categorical(logits=torch.zeros_like(logits)).entropy() / math.log(2)


def _minus_batch_mean(vectors: Float[Tensor, "batch token d"]) -> Float[Tensor, "batch token d"]:
    return vectors - vectors.mean(0)


def _mean_with_padding(
    vectors: Float[Tensor, "batch token d"], mask: Bool[Tensor, "batch token"]
) -> Float[Tensor, "batch d"]:
    return vectors.mean(1)


FALSE_PROMISES = [
    (growth, "non_negative"),
    (first_onset, "bounded_by_one"),
    (_in_bits, "at_most_log_n"),
    (cosine, "zero_on_equal"),
    (kl, "one_on_equal"),
    (kl, "symmetric"),
    (relative_norm, "shift_free"),
    (cross_entropy, "scale_free"),
    (entropy, "rotation_free"),
    (changes, "permutation_free"),
    (curvature, "token_order_free"),
    (_mean_with_padding, "padding_free"),
    (_minus_batch_mean, "batch_free"),
]


@pytest.mark.parametrize(
    ("measure", "name"), FALSE_PROMISES, ids=lambda part: getattr(part, "__name__", part)
)
def test_a_false_promise_is_noticed(measure: Callable[..., Any], name: str) -> None:
    with pytest.raises(AssertionError):
        check_draws(Law(measure, (name,)), name)


def test_false_promises_cover_all_properties() -> None:
    assert {name for _, name in FALSE_PROMISES} == set(PROPERTIES)


def test_unknown_property_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="symmetric"):
        Law(kl, ("symetric",))
