"""`depthscope registers [MODEL]`: what tokens without content are used for, in encoders trained here or in a model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from depthscope.cli import options
from depthscope.cli.output import command_line, say, say_json, say_table
from depthscope.cli.progress import bar
from depthscope.engine.progress import silent
from depthscope.errors import BadInput

TOLD = ("received", "class_probe")
PICTURES = 256

Model = Annotated[
    str, typer.Argument(help="A model of images; default: small encoders that are trained here.")
]
Images = Annotated[str, typer.Option(help="Folder of photos that MODEL reads; default: synthetic pictures.")]
Pictures = Annotated[int, typer.Option(help="Pictures that MODEL reads, of photos the most.")]
Counts = Annotated[str, typer.Option(help="Numbers of registers, one training each, with commas between.")]
Width = Annotated[int, typer.Option("--d-model", help="Width of the encoders.")]
Out = Annotated[Path | None, typer.Option(help="Run folder; default: runs/registers, runs/MODEL-registers.")]


def command(
    model: Model = "",
    *,
    images: Images = "",
    pictures: Pictures = PICTURES,
    counts: Counts = "0,1,4",
    steps: Annotated[int, typer.Option(help="Steps of each training.")] = 500,
    rows: Annotated[int, typer.Option(help="Pictures a step.")] = 32,
    lr: Annotated[float, typer.Option(help="The rate of AdamW.")] = 3e-3,
    layers: Annotated[int, typer.Option(help="Blocks of the encoders.")] = 3,
    heads: Annotated[int, typer.Option(help="Attention heads of each block.")] = 4,
    d_model: Width = 32,
    out: Out = None,
    loading: options.Loading,
    work: options.Work,
) -> None:
    """Train the encoders, or read the model, and write the report; the same command goes on where it was stopped."""
    from depthscope.engine.making import make
    from depthscope.engine.study import conduct
    from depthscope.fits.image_registers import ImageRegisters
    from depthscope.fits.registers import Registers
    from depthscope.materials.pictures import PictureReading

    begun, progress = work.begin(), silent if work.as_json else bar()
    if not model:
        if images or pictures != PICTURES:
            raise BadInput("--images and --pictures say what MODEL reads, and no model is named")
        study = Registers(options.numbers("--counts", counts, int), d_model, layers, heads, steps, rows, lr)
        folder = out or Path("runs/registers")
        run = make("registers", study, folder, seed=work.seed, progress=progress, command=command_line())
    else:
        reading = PictureReading(images, pictures, work.seed)
        folder = out or Path("runs") / f"{Path(model).name}-registers"
        study, found = ImageRegisters(), loading.open(model)
        run = conduct("image_registers", study, found, reading, folder, progress=progress, **work.said())
    _tell(run, begun, work.as_json)


def _tell(run: Any, begun: float, as_json: bool) -> None:  # noqa: ANN401  (a run)
    from depthscope.report.page import write_report

    (name,) = run
    page, seconds = write_report(run), time.perf_counter() - begun
    if as_json:
        say_json({"run": str(run.path), "report": str(page), "seconds": seconds})
        return
    found = [run[name][told] for told in TOLD]
    last = int(found[0].axes["layer"][-1])
    rows = [
        (
            str(variant),
            str(kind),
            *(f"{one.at(variant=variant, layer=last, token=kind):.3g}" for one in found),
        )
        for variant in found[0].axes["variant"]
        for kind in found[0].axes["token"]
    ]
    say_table(("variant", f"token (layer {last})", *TOLD), rows)
    say(f"finished in {seconds:.1f} s")
    typer.echo(str(page))
