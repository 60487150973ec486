"""`depthscope pair`: a small transformer and a small Mamba trained from scratch on the same tokens."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthscope.cli import options
from depthscope.cli.output import command_line, say, say_json, say_table
from depthscope.engine.progress import silent

if TYPE_CHECKING:
    from depthscope.fits.matched_pair import MatchedPair

Seeds = Annotated[int, typer.Option(help="Trainings of each network, from --seed on.")]
Steps = Annotated[
    int, typer.Option(help="Steps of each training; 0, the powers of two and the last are kept.")
]
Rows = Annotated[int, typer.Option(help="Windows a step.")]
Vocabulary = Annotated[int, typer.Option(help="Tokens of the tokenizer that is trained on the text.")]
Width = Annotated[int, typer.Option("--d-model", help="Width of both networks.")]
EVERY = 16
"""Steps between two lines that say how far a training is."""


def command(
    text: options.TextOption = "",
    field: options.Field = "text",
    out: Annotated[Path, typer.Option(help="Folder of the pair.")] = Path("runs/pair"),
    steps: Steps = 256,
    rows: Rows = 16,
    window: options.Window = 64,
    lr: Annotated[float, typer.Option(help="The highest rate.")] = 3e-3,
    vocabulary: Vocabulary = 1024,
    d_model: Width = 64,
    transformer_layers: Annotated[int, typer.Option(help="Blocks of the transformer.")] = 6,
    mamba_layers: Annotated[int, typer.Option(help="Blocks of Mamba.")] = 9,
    heads: Annotated[int, typer.Option(help="Attention heads of the transformer.")] = 4,
    cells: Annotated[int, typer.Option(help="Cells of the state of each Mamba channel.")] = 8,
    held_out: Annotated[float, typer.Option(help="Share of the documents that losses are taken on.")] = 0.1,
    seed: options.Seed = 0,
    seeds: Seeds = 1,
    as_json: options.Json = False,
) -> None:
    """Train both networks; the same command goes on where it was stopped, and more --seeds train only those."""
    from depthscope.fits.matched_pair import CARD, MatchedPair
    from depthscope.fits.pair_nets import PairSizes
    from depthscope.fits.pair_training import PairCourse
    from depthscope.store.atomic import read_json

    begun = time.perf_counter()
    sizes = PairSizes(d_model, transformer_layers, mamba_layers, heads, cells)
    course = PairCourse(steps, rows, lr)
    pair = MatchedPair(text or None, field, window, vocabulary, sizes, course, held_out, seed, seeds)
    folder = _trained(pair, out, as_json)
    card, seconds = read_json(folder / CARD), time.perf_counter() - begun
    losses = {name: one["loss"][str(steps)] for name, one in card["trained"].items()}
    if as_json:
        say_json({"pair": str(folder), "parameters": card["networks"], "loss": losses, "seconds": seconds})
        return
    rows_ = [(n, f"{card['networks'][n.split('/')[0]]:,}", f"{loss:.4f}") for n, loss in losses.items()]
    say_table(("network", "parameters", "held-out loss (nats)"), rows_)
    say(f"trained in {seconds:.1f} s")
    typer.echo(str(folder))


def _trained(pair: MatchedPair, out: Path, as_json: bool) -> Path:
    from depthscope.fits.watch import Watch

    return pair.run(out, watch=Watch(silent if as_json else _line), command=command_line())


def _line(phase: str, done: int, total: int) -> None:
    if done % EVERY == 0 or done == total:
        say(f"{phase}: step {done} of {total}")
