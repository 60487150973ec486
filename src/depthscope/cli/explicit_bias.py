"""`depthscope explicit-bias`: whether heads leave the first token when each has a key and a value of its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from depthscope.cli import options
from depthscope.cli.output import command_line, say, say_json, say_table
from depthscope.cli.progress import bar
from depthscope.engine.progress import silent

TOLD = ("first_share", "first_idle", "pair_share")


def command(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/explicit-bias"),
    steps: Annotated[int, typer.Option(help="Steps of each of the two trainings.")] = 800,
    rows: Annotated[int, typer.Option(help="Sequences a step.")] = 32,
    lr: Annotated[float, typer.Option(help="The rate of AdamW.")] = 3e-3,
    layers: Annotated[int, typer.Option(help="Blocks of the transformers.")] = 2,
    heads: Annotated[int, typer.Option(help="Attention heads of each block.")] = 2,
    d_model: Annotated[int, typer.Option("--d-model", help="Width of the stream.")] = 32,
    length: Annotated[int, typer.Option(help="Tokens of a sequence.")] = 48,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Train both and write the report; the same command goes on where it was stopped."""
    from depthscope.engine.making import make
    from depthscope.fits.explicit_bias import ExplicitBias
    from depthscope.report.page import write_report

    begun = time.perf_counter()
    study = ExplicitBias(d_model, layers, heads, steps, rows, lr, length)
    progress = silent if as_json else bar()
    run = make("explicit_bias", study, out, seed=seed, progress=progress, command=command_line())
    page, seconds = write_report(run), time.perf_counter() - begun
    if as_json:
        say_json({"run": str(run.path), "report": str(page), "seconds": seconds})
        return
    found = [run["explicit_bias"][name] for name in TOLD]
    table = [
        (
            str(variant),
            f"L{layer}H{head}",
            *(f"{one.at(variant=variant, layer=layer, head=head):.3f}" for one in found),
        )
        for variant in found[0].axes["variant"]
        for layer in range(layers)
        for head in range(heads)
    ]
    say_table(("variant", "head", *TOLD), table)
    say(f"finished in {seconds:.1f} s")
    typer.echo(str(page))
