"""`depthscope verify MODEL`: the laws on the loaded weights."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscope.cli import options
from depthscope.cli.output import say_json, say_table
from depthscope.errors import BadInput, LawBroken
from depthscope.registry import FAMILIES

if TYPE_CHECKING:
    from depthscope.runtime.model import Model
    from depthscope.runtime.verify import Verdict


SMALL = 20_000_000
"""Below so many weights one thread is faster than several: they would mostly wait for each other."""


def command(
    *,
    model: Annotated[
        str, typer.Argument(help="Hub id, folder, .gguf file, embedded name, tiny-FAMILY.")
    ] = "",
    tiny: Annotated[str, typer.Option(help="A family's name, or all: tiny random models.")] = "",
    loading: options.Loading,
    revision: options.Revision = None,
    as_json: options.Json = False,
) -> None:
    """Check the laws on a model; the exit code is 0 only where none is broken."""
    if bool(model) == bool(tiny):
        raise BadInput(f"name one model, or --tiny FAMILY or --tiny all; got {model!r} and --tiny {tiny!r}")
    names = [model] if model else [f"tiny-{name}" for name in (FAMILIES if tiny == "all" else (tiny,))]
    checked: list[Checked] = []
    for name in names:
        begun = time.perf_counter()
        found = loading.open(name, revision)
        checked.append(_check(found, time.perf_counter() - begun))
    _say(checked, as_json)
    broken = [f"law {v.law} of {c.name}" for c in checked for v in c.verdicts if v.status == "broken"]
    if broken:
        if not as_json:
            typer.echo(f"depthscope: broken: {', '.join(broken)}", err=True)
        raise typer.Exit(LawBroken.exit_code)


@dataclass(frozen=True)
class Checked:
    """One model's verdicts and how long loading and checking took, in seconds."""

    name: str
    dtype: str
    weights_hash: str
    verdicts: tuple[Verdict, ...]
    load_seconds: float
    verify_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "model": self.name,
            "dtype": self.dtype,
            "weights_hash": self.weights_hash,
            "holds": all(v.status != "broken" for v in self.verdicts),
            "laws": [verdict.as_dict() for verdict in self.verdicts],
            "load_seconds": self.load_seconds,
            "verify_seconds": self.verify_seconds,
        }


def _check(model: Model, load_seconds: float) -> Checked:
    import torch

    if sum(p.numel() for p in model.net.parameters()) < SMALL:
        torch.set_num_threads(1)
    begun = time.perf_counter()
    verdicts = tuple(_verdicts(model))
    dtype = str(model.dtype).removeprefix("torch.")
    hashed = str(model.provenance.get("weights_hash", ""))
    return Checked(model.name, dtype, hashed, verdicts, load_seconds, time.perf_counter() - begun)


def _verdicts(model: Model) -> Iterator[Verdict]:
    """The laws one by one, with a line on what is being checked where somebody watches."""
    from depthscope.runtime.laws import LAWS
    from depthscope.runtime.verify import probe, verify

    batch, watched = probe(model), sys.stderr.isatty()
    for number, title, _ in LAWS:
        if watched:
            typer.echo(f"\r\x1b[K{model.name}: law {number}: {title}", nl=False, err=True)
        yield from verify(model, [number], batch)
    if watched:
        typer.echo("\r\x1b[K", nl=False, err=True)


def _say(checked: Sequence[Checked], as_json: bool) -> None:
    if as_json:
        say_json({"models": [one.as_dict() for one in checked]})
    elif len(checked) == 1:
        _say_one(checked[0])
    else:
        _say_all(checked)


def _say_one(one: Checked) -> None:
    typer.echo(
        f"{one.name} in {one.dtype}: loaded in {one.load_seconds:.1f} s, checked in {one.verify_seconds:.1f} s"
    )
    rows = [
        (f"{v.law}", v.title, v.status, _number(v.worst), _number(v.tolerance), v.reason)
        for v in one.verdicts
    ]
    say_table(("law", "says", "status", "worst error", "tolerance", "reason"), rows)


def _say_all(checked: Sequence[Checked]) -> None:
    laws = [f"law {v.law}" for v in checked[0].verdicts]
    rows = [
        (c.name, c.dtype, *(v.status if v.worst is None else f"{v.status} {v.worst:.1e}" for v in c.verdicts))
        for c in checked
    ]
    say_table(("model", "dtype", *laws), rows)
    for one in checked:
        for v in one.verdicts:
            if v.reason:
                typer.echo(f"{one.name}, law {v.law} ({v.title}) {v.status}: {v.reason}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"
