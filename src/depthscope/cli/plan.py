"""`depthscope plan MODEL`: what a run would read, compute, hold and take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from depthscope.cli import options
from depthscope.cli.output import say_json
from depthscope.cli.run import selected

if TYPE_CHECKING:
    from depthscope.engine.plan import Plan


def command(
    model: options.Model,
    *,
    analyses: options.Analyses = "",
    corpus: options.Corpus,
    layers: options.Layers = "",
    settings: options.Set = None,
    loading: options.Loading,
    revision: options.Revision = None,
    seed: options.Seed = 0,
    data: options.Data = "",
    as_json: options.Json = False,
) -> None:
    """Say what `run` with the same options would do; two batches are timed."""
    from depthscope.engine.plan import plan

    options.use_data(data)
    found = loading.open(model, revision)
    asked = selected(analyses, settings or [], layers, found.anatomy)
    planned = plan(found, asked, reading=corpus.reading(), seed=seed)
    if as_json:
        say_json(planned.as_dict())
        return
    for line in lines(planned):
        typer.echo(line)


def lines(planned: Plan) -> list[str]:
    """The plan in words."""
    found = [
        f"{planned.model}: {planned.tokens:,} tokens in {planned.windows} windows of {planned.documents} documents"
    ]
    for number, wave in enumerate(planned.waves):
        found.append(f"wave {number}: {', '.join(wave.analyses)}")
        if wave.capture_shards:
            found.append(f"  one clean pass: {wave.capture_tokens:,} tokens in {wave.capture_shards} shards")
        if wave.decoded_positions:
            found.append(f"  one decode: {wave.decoded_positions:,} positions x {wave.decoded_states} states")
        if wave.sweep_shards:
            found.append(
                f"  sweeps: {wave.sweep_tokens:,} tokens, {wave.sweep_rows:,} counterfactual rows x tokens"
            )
        found.append(f"  {wave.flops / 1e12:.2f} TFLOP")
    low, high = planned.seconds or (float("nan"), float("nan"))
    found.append(f"memory {planned.memory / 2**30:.2f} GiB at the peak, disk {planned.disk / 2**20:.1f} MiB")
    found.append(f"time {low:,.0f} to {high:,.0f} s on this machine as it is now")
    found += [f"left out {name}: {reason}" for name, reason in planned.refused.items()]
    return found
