"""Groups of options are the options they hold."""

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from depthscope.cli.groups import expanded

GIVEN: list[object] = []


@dataclass(frozen=True)
class Cut:
    window: Annotated[int, typer.Option(help="Tokens a window.")] = 256
    chat: Annotated[bool, typer.Option()] = False


SHORT = Cut(window=8)


def verb(model: Annotated[str, typer.Argument()], *, cut: Cut, seed: int = 0) -> None:
    """One verb."""
    GIVEN.append((model, cut, seed))


def short(*, cut: Cut = SHORT) -> None:
    GIVEN.append(cut)


def twice(*, cut: Cut, again: Cut) -> None:
    GIVEN.append((cut, again))


def called(command, *arguments: str):
    GIVEN.clear()
    app = typer.Typer()
    app.command()(expanded(command))
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return GIVEN[0]


def test_options_of_a_group_stand_in_its_place_and_come_back_as_the_group():
    assert list(inspect.signature(expanded(verb)).parameters) == ["model", "window", "chat", "seed"]
    assert called(verb, "m", "--window", "32", "--chat", "--seed", "7") == ("m", Cut(32, True), 7)
    assert called(verb, "m") == ("m", Cut(), 0)


def test_a_verbs_default_for_a_group_is_that_of_its_options():
    assert called(short) == Cut(8, False)
    assert called(short, "--chat") == Cut(8, True)


def test_an_option_in_two_groups_is_an_error_of_the_verb():
    with pytest.raises(TypeError, match="chat, window stands in two groups"):
        expanded(twice)
