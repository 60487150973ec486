"""`depthscope fit frequency MODEL`: count how often each token of a model's tokenizer occurs in a text."""

from __future__ import annotations

from pathlib import Path

import typer

from depthscope.errors import Refused


def counted(
    model: str, text: str, field: str, tokens: int | None, out: Path, revision: str | None, as_json: bool
) -> None:
    """Count token frequencies and write them as one file, for `--set frequency_onset.table=FILE`.

    Args:
        tokens: stop after so many; None counts the whole text.
    """
    from depthscope.cli.output import say_json
    from depthscope.materials.frequency import count
    from depthscope.materials.text import read
    from depthscope.runtime.load import load

    found = load(model, revision=revision)
    if found.tokenizer is None:
        raise Refused(f"{found.name} reads {found.anatomy.family.reads}, it has no tokenizer to count with")
    where, documents = read(text or None, field)
    table = count((document.text for document in documents), found.tokenizer, where, tokens=tokens)
    table.save(out)
    seen = int((table.counts > 0).sum())
    if as_json:
        about = {"corpus": table.corpus, "tokens": table.tokens, "tokenizer": table.tokenizer}
        say_json({"table": str(out), **about, "digest": table.digest, "distinct": seen})
        return
    for note in table.notes():
        typer.echo(note, err=True)
    typer.echo(f"{seen:,} of {len(table.counts):,} token ids occur", err=True)
    typer.echo(str(out))
