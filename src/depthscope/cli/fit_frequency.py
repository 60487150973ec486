"""`depthscope fit frequency MODEL`: count how often each token of a model's tokenizer occurs in a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from depthscope.cli.run import Field, Json, Model, Revision
from depthscope.errors import Refused


def command(
    model: Model,
    out: Annotated[Path, typer.Option(help="The file to write, such as frequency.npz.")],
    text: Annotated[
        str, typer.Option(help="File, folder, hub:NAME[:SPLIT]; default: the packaged sample.")
    ] = "",
    tokens: Annotated[
        int | None, typer.Option(help="Stop after so many tokens; default: the whole text.")
    ] = None,
    field: Field = "text",
    special: Annotated[bool, typer.Option("--special", help="Count special tokens too.")] = False,
    corpus: Annotated[str, typer.Option(help="A name for the text; default: that of the file.")] = "",
    date: Annotated[
        str, typer.Option(help="Kept in the table; default: none, so equal text, equal bytes.")
    ] = "",
    revision: Revision = None,
    as_json: Json = False,
) -> None:
    """Count token frequencies and write them as one file for --set frequency_onset.table=FILE."""
    from depthscope.cli.output import say_json
    from depthscope.materials.frequency import count
    from depthscope.materials.text import read
    from depthscope.runtime.load import load

    found = load(model, revision=revision)
    if found.tokenizer is None:
        raise Refused(f"{found.name} reads {found.anatomy.family.reads}, it has no tokenizer to count with")
    where, documents = read(text or None, field)
    texts = (document.text for document in documents)
    table = count(texts, found.tokenizer, corpus or where, tokens=tokens, special=special, date=date)
    table.save(out)
    seen = int((table.counts > 0).sum())
    if as_json:
        about = {"corpus": table.corpus, "tokens": table.tokens, "tokenizer": table.tokenizer}
        say_json({"out": str(out), **about, "digest": table.digest, "distinct": seen})
        return
    for note in table.notes():
        typer.echo(note, err=True)
    typer.echo(f"{out}: {seen:,} of {len(table.counts):,} token ids occur")
