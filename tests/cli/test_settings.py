"""What `--set` makes of the text behind the equals sign: the kind of the parameter's default."""

from __future__ import annotations

import pytest

from depthscope.cli.options import parse_layers
from depthscope.cli.run import _changes, _typed
from depthscope.errors import BadInput


@pytest.mark.parametrize(
    ("text", "default", "found"),
    [
        ("block, mlp", ("attention",), ("block", "mlp")),
        ("1,2", (), (1, 2)),
        ("0.5,3,inf", (), (0.5, 3, float("inf"))),
        ("3", (7,), (3,)),
        ("true", False, True),
    ],
)
def test_a_setting_takes_the_kind_of_the_default(text: str, default: object, found: object) -> None:
    assert _typed(text, default, f"x.y={text}") == found


def test_a_setting_that_does_not_fit_says_so() -> None:
    with pytest.raises(BadInput, match="'a' does not fit"):
        _typed("a", (1,), "x.y=a")


def test_names_are_taken_where_the_default_is_an_empty_list_of_names():
    changed = _changes(["function_vectors.tasks=antonym, next_item"])
    assert changed == {"function_vectors": {"tasks": ("antonym", "next_item")}}


def test_layers_that_do_not_exist_are_told_with_the_flag_that_gave_them():
    assert parse_layers("0,2-3,-1", 8) == (0, 2, 3, 7)
    with pytest.raises(BadInput, match=r"^--protect '9': \[9\] do not exist, the model has layers 0 to 7"):
        parse_layers("9", 8, "--protect")
