"""What a measure promises, as data beside the measure.

Each file of measures ends in `LAWS`, a tuple of `Law`. One general test reads every table, draws inputs from
the shapes in the measure's own signature and checks each promised property, so a new measure needs one line
here and one value derived by hand, and no new law test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from depthscope.errors import UnknownName

PROPERTIES: dict[str, str] = {
    "non_negative": "no output is below zero",
    "bounded_by_one": "no output is above one in absolute value",
    "at_most_log_n": "no output is above ln n, n = length of the first input's last axis",
    "zero_on_equal": "two equal first inputs give zero",
    "one_on_equal": "two equal first inputs give one",
    "symmetric": "exchanging the first two inputs changes nothing",
    "shift_free": "one constant added to all entries of all real inputs changes nothing",
    "scale_free": "one positive factor on all real inputs changes nothing",
    "rotation_free": "one rotation of the last axis of all real inputs changes nothing",
    "permutation_free": "one reordering of the last axis of all inputs that have it changes nothing",
    "token_order_free": "one reordering of the tokens, mask included, changes nothing",
    "padding_free": "masked tokens added at the end, whatever they hold, change nothing",
    "batch_free": "an item alone gives what it gives inside a batch",
}
"""Name of a property -> its meaning; it holds for every output of a measure, NaN outputs passed over."""


@dataclass(frozen=True)
class Law:
    """What one measure promises, with the options under which it does.

    Attributes:
        measure: the function.
        properties: names out of `PROPERTIES`.
        options: arguments that are not arrays, where the default is not meant or there is none.

    Raises:
        UnknownName: a property is not in `PROPERTIES`.
    """

    measure: Callable[..., Any]
    properties: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        for name in self.properties:
            if name not in PROPERTIES:
                raise UnknownName(f"property of {self.measure.__name__}", name, PROPERTIES)
