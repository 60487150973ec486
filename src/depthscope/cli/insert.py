"""`depthscope insert`: facts put into an MLP by a change of rank one, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from depthscope.cli import options
from depthscope.cli.output import say_json, say_table
from depthscope.cli.progress import bar
from depthscope.engine.progress import silent

Facts = Annotated[
    str, typer.Option("--facts", help="JSON lines of facts to put in; the packaged ones by default.")
]
Layers = Annotated[str, typer.Option(help="Layers, as 6,11,16; every fourth one by default.")]
Out = Annotated[Path | None, typer.Option(help="Run folder; default: runs/MODEL-insert.")]


def command(
    model: options.Model,
    *,
    facts: Facts = "",
    layers: Layers = "",
    out: Out = None,
    steps: Annotated[int, typer.Option(help="Steps of Adam, at most.")] = 25,
    rate: Annotated[float, typer.Option(help="Rate of Adam.")] = 0.3,
    prefixes: Annotated[int, typer.Option(help="Pieces of the text before the prompt, besides none.")] = 4,
    ridge: Annotated[float, typer.Option(help="Of the second moment, in mean diagonals.")] = 1e-2,
    corpus: options.Corpus,
    loading: options.Loading,
    work: options.Work,
) -> None:
    """Put each fact into each layer and say what changed; the same command resumes one that was stopped."""
    from depthscope.engine.study import conduct
    from depthscope.fits.insertion import RankOneInsertion

    work.begin()
    found = loading.open(model)
    chosen = options.parse_layers(layers, found.anatomy.n_layers) if layers else ()
    study = RankOneInsertion(facts, chosen, prefixes, steps, rate, ridge=ridge)
    folder = out or Path("runs") / f"{Path(model).name}-insert"
    progress = silent if work.as_json else bar()
    run = conduct("insertion", study, found, corpus.reading(), folder, progress=progress, **work.said())
    result = run["insertion"]
    target, kept = result["target_probability"], result["neighbours_kept"]
    rows = [
        (
            str(layer),
            *(
                f"{target.at(layer=layer, variant='after', option=place):.3f}"
                for place in ("prompt", "paraphrases")
            ),
            f"{kept.at(layer=layer):.3f}",
        )
        for layer in target.axes["layer"].tolist()
    ]
    if work.as_json:
        say_json({"run": str(folder), "layers": [row[0] for row in rows]})
        return
    say_table(("layer", "P(target)", "in paraphrases", "neighbours kept"), rows)
    typer.echo(str(folder))
