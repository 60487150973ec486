"""`depthscope plan MODEL`: what a run would read, compute, hold and take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from depthscope.cli import run as run_verb

if TYPE_CHECKING:
    from depthscope.engine.plan import Plan


def command(
    model: run_verb.Model,
    analyses: run_verb.Analyses = "",
    text: run_verb.TextOption = "",
    tokens: run_verb.Tokens = 8192,
    dtype: run_verb.Dtype = "auto",
    seed: run_verb.Seed = 0,
    window: run_verb.Window = 256,
    field: run_verb.Field = "text",
    max_length: run_verb.MaxLength = None,
    layers: run_verb.Layers = "",
    settings: run_verb.Set = None,
    bos: run_verb.Bos = "auto",
    chat: run_verb.Chat = False,
    data: run_verb.Data = "",
    device: run_verb.Device = None,
    revision: run_verb.Revision = None,
    attn: run_verb.Attention = None,
    trust_remote_code: run_verb.Remote = False,
    as_json: run_verb.Json = False,
) -> None:
    """Say what `run` with the same options would do; two batches are timed."""
    from depthscope.cli.output import say_json
    from depthscope.engine.plan import plan
    from depthscope.engine.reading import Reading
    from depthscope.runtime.load import load

    run_verb.use_data(data)
    found = load(
        model, revision=revision, dtype=None if dtype == "auto" else dtype, device=device, attn_implementation=attn,
        trust_remote_code=trust_remote_code,
    )  # fmt: skip
    asked = run_verb.selected(analyses, settings or [], layers, found.anatomy)
    policy: Any = bos
    reading = Reading(text or None, field, tokens, window, policy, max_length, chat)
    planned = plan(found, asked, reading=reading, seed=seed)
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
