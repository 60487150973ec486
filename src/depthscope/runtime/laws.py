"""The laws that hold of every supported model, each a function of a loaded model that returns its errors.

A law raises NotApplicable with the reason where the model has nothing it speaks of, and Refused where it
cannot hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from depthscope.anatomy.anatomy import Layer, base_model, walk
from depthscope.anatomy.site import Site
from depthscope.errors import Refused
from depthscope.runtime import edits
from depthscope.runtime.attention import Heads, implementation, listening
from depthscope.runtime.head_writes import head_sum
from depthscope.runtime.hooks import Tap, hooked
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.replay import call_block, replay
from depthscope.runtime.run import Seen, quiet, run


class NotApplicable(Exception):
    """The model has nothing that the law speaks of."""


@dataclass(frozen=True)
class Errors:
    """Relative errors of a law, one a compared row.

    Args:
        rounded: the comparison already follows the model's rounding.
        apart: rows that belong to sinks; in half precision they are reported and not judged.
    """

    values: Float[Tensor, " item"]
    rounded: bool = False
    apart: Bool[Tensor, " item"] | None = None

    @classmethod
    def between(cls, found: Tensor, expected: Tensor, rounded: bool = False) -> Errors:
        """‖found - expected‖ / ‖expected‖ over the last axis, in float64."""
        a, b = found.detach().double(), expected.detach().double()
        scale = torch.linalg.vector_norm(b, dim=-1).clamp_min(1e-12)
        return cls((torch.linalg.vector_norm(a - b, dim=-1) / scale).flatten().cpu(), rounded)

    @classmethod
    def joined(cls, parts: list[Errors]) -> Errors:
        """All errors of several comparisons."""
        marks = [torch.zeros(len(p.values), dtype=torch.bool) if p.apart is None else p.apart for p in parts]
        apart = None if all(p.apart is None for p in parts) else torch.cat(marks)
        return cls(torch.cat([p.values for p in parts]), all(p.rounded for p in parts), apart)


Law = Callable[[Model, Batch], Errors]
HALF = (torch.bfloat16, torch.float16)
SINK = 5.0
"""A token is a sink where its stream is this many times longer than the median token's in some state.

In SmolLM2 the first token reaches 150; others that reach 5 to 10 lose 7 % of their last state to
bfloat16 when the massive activation cancels, the rest 2 %."""


def additive(model: Model, batch: Batch) -> Errors:
    """resid_pre + mixer write (+ mlp write) = resid_post, and each block's output is the next block's input.

    Sums are rounded as the model rounds them. With post-norm blocks each add is followed by the named
    norm. The MLP of a parallel block must not depend on its mixer's write, that of any other block must.
    """
    reads = ["L*.resid_post", *(f"L{x.index}.resid_pre" for x in model.anatomy.layers)]
    reads += [f"L{x.index}.{part}" for x in model.anatomy.layers for part in _writes(x)]
    seen = run(model, batch, read=reads)
    parts = [
        Errors.between(_summed(model, seen, layer), seen[Site(layer.index, "resid_post")], True)
        for layer in model.anatomy.layers
    ]
    parts += [
        Errors.between(seen[Site(k + 1, "resid_pre")], seen[Site(k, "resid_post")], True)
        for k in range(model.anatomy.n_layers - 1)
    ]
    return Errors.joined([*parts, *_order_of_sublayers(model, batch, seen)])


def _order_of_sublayers(model: Model, batch: Batch, clean: Seen) -> Iterator[Errors]:
    """A block whose mixer writes, the mixer silenced: the MLP's write moves unless blocks are parallel."""
    layer = next((x for x in model.anatomy.layers if x.mlp and _mixes(x, clean)), None)
    if layer is None:
        return
    site = Site(layer.index, "mlp_out")
    silent = [edits.zero(f"L{layer.index}.{part}") for part, _ in layer.mixers()]
    moved = run(model, batch, read=[site], edit=silent)[site]
    if model.anatomy.parallel:
        yield Errors.between(moved, clean[site], True)
    else:
        yield Errors((moved == clean[site]).all().double()[None].cpu(), True)


def _mixes(layer: Layer, clean: Seen) -> bool:
    """True where the mixer adds something; a pruned one that adds zeros cannot show the order of sublayers."""
    parts = [clean[Site(layer.index, part)] for part, _ in layer.mixers()]  # pyright: ignore[reportArgumentType]
    return any(bool((write != 0).any()) for write in parts)


def _writes(layer: Layer) -> list[str]:
    return [part for part, _ in layer.mixers()] + (["mlp_out"] if layer.mlp else [])


def _summed(model: Model, seen: Seen, layer: Layer) -> Tensor:
    mixed = [seen[Site(layer.index, part)] for part, _ in layer.mixers()]  # pyright: ignore[reportArgumentType]
    stream = seen[Site(layer.index, "resid_pre")]
    mlp = [seen[Site(layer.index, "mlp_out")]] if layer.mlp else []
    if model.anatomy.parallel and mlp:
        return mlp[0] + mixed[0] + stream
    total = stream + sum(mixed[1:], mixed[0]) if mixed else stream
    if model.anatomy.family.post_norm:
        total = _norm(layer, model.anatomy.family.attn_norm)(total)
    total = total + mlp[0] if mlp else total
    return _norm(layer, model.anatomy.family.mlp_norm)(total) if model.anatomy.family.post_norm else total


def _norm(layer: Layer, path: str | None) -> nn.Module:
    found = walk(layer.block, path or "")
    if found is None or not path:
        raise Refused(
            f"a post-norm family must name attn_norm and mlp_norm; {path!r} is not in layer {layer.index}"
        )
    return found


def decoding(model: Model, batch: Batch) -> Errors:
    """head(resid_post of the last layer) = the model's own logits.

    Without an unembedding: final_norm(resid_post of the last layer) = the model's own last hidden state.
    """
    last = Site(model.anatomy.n_layers - 1, "resid_post")
    seen = run(model, batch, read=[last])
    with torch.no_grad():
        if not model.anatomy.has_unembedding():
            own = base_model(model.net)(**batch.to(model.device).inputs, **quiet(model)).last_hidden_state
            norm = model.anatomy.final_norm
            return Errors.between(seen[last] if norm is None else norm(seen[last]), own)
        logits = model.net(**batch.to(model.device).inputs, **quiet(model)).logits
    return Errors.between(model.head.logits(seen[last]), logits)


def attention_rows(model: Model, batch: Batch) -> Errors:
    """Rows sum to 1 (less a learned sink), see nothing ahead, outside the window or padded; they are the eager rows."""
    if not model.anatomy.attention_layers:
        raise NotApplicable("no layer has softmax attention")
    found: list[tuple[Heads, Tensor | None]] = []
    padded = (
        batch
        if "attention_mask" in batch.inputs or model.anatomy.family.reads != "tokens"
        else right_padded(batch, 3)
    )
    queries = torch.arange(padded.length if padded.mask.dim() > 1 else 8)
    with (
        torch.no_grad(),
        implementation(model, "eager"),
        listening(model, queries, lambda h, w: found.append((h, w))),
    ):
        model.net(**padded.to(model.device).inputs, **quiet(model))
    layers = [model.anatomy.layers[k] for k in model.anatomy.attention_layers]
    if len(found) != len(layers):
        raise Refused(
            f"{len(layers)} layers have attention, but transformers' attention interface was called {len(found)} times"
        )
    return Errors.joined(
        [
            e
            for x, (heads, weights) in zip(layers, found, strict=True)
            for e in _rows_agree(x, heads, weights, padded)
        ]
    )


def _rows_agree(layer: Layer, heads: Heads, weights: Tensor | None, batch: Batch) -> Iterator[Errors]:
    rows = heads.rows().detach()
    if weights is not None:
        real = (
            batch.mask
            if rows.shape[2] == batch.length
            else torch.ones(rows.shape[0], rows.shape[2], dtype=torch.bool)
        )
        yield Errors.between(rows.transpose(1, 2)[real], weights[:, :, : rows.shape[2]].transpose(1, 2)[real])
    if heads.sinks is None:
        total = rows.sum(-1)
        yield Errors.between(total[total > 0][:, None], torch.ones_like(total[total > 0])[:, None])
    yield Errors((rows.double() * _unseen(layer, heads, batch)).amax(-1).flatten().cpu())


def _unseen(layer: Layer, heads: Heads, batch: Batch) -> Bool[Tensor, "#row #head query key"]:
    """Keys that a row must give nothing: ahead of it, outside the layer's window, padded (for real queries)."""
    back = heads.queries[:, None] - torch.arange(heads.key.shape[2], device=heads.queries.device)
    hidden = (back < 0) & heads.causal
    if layer.window is not None:
        hidden |= back >= layer.window
    if batch.length != heads.key.shape[2]:
        return hidden[None, None]
    mask = batch.mask.to(hidden.device)
    return hidden | (mask[:, None, heads.queries, None] & ~mask[:, None, None, :])


def replaying(model: Model, batch: Batch) -> Errors:
    """Edited replays give the edited pass, and after all of them a clean replay still gives the clean one.

    From every layer: skipping it in a replay is skipping it in a pass, seen one layer later; skipping it
    twice is skipping it once; the block called alone on its recorded input gives its recorded output.
    Then one clean replay of all layers gives every state. By induction a clean replay from any layer
    gives the clean pass, at the price of one replay instead of one for each layer.
    """
    clean = run(model, batch, read=["L0.resid_pre", "L*.resid_post"], record=True)
    states, last = clean.states(), model.anatomy.n_layers - 1
    parts: list[Errors] = []
    for layer in range(model.anatomy.n_layers):
        skip, after = edits.skip(layer), min(layer + 1, last)
        seen_at = Site(after, "resid_post")
        steps = range(layer, after + 1)
        once = replay(clean, layer, states[layer], order=steps, edit=[skip], read=[seen_at])[seen_at]
        twice = replay(clean, layer, states[layer], order=steps, edit=[skip, skip], read=[seen_at])[seen_at]
        edited = run(model, batch, read=[seen_at], edit=[skip])[seen_at]
        parts += [Errors.between(twice, once), Errors.between(once, edited)]
    parts += [
        Errors.between(call_block(clean, layer, states[layer]), states[layer + 1])
        for layer in range(last + 1)
    ]
    again = replay(clean, 0, states[0], read=["L*.resid_post"])
    parts.append(
        Errors.between(torch.stack([again[site] for site in model.anatomy.states()[1:]]), states[1:])
    )
    final = Site(last, "resid_post")
    parts.append(Errors.between(run(model, batch, read=[final])[final], clean[final]))
    return Errors.joined(parts)


def batching(model: Model, batch: Batch) -> Errors:
    """A row gives the same states alone, in a batch, right-padded, and left-padded where declared.

    Padding means another kernel, so in half precision the numbers differ by rounding. At a sink that
    rounding is large against what is left once the massive activation cancels: sinks are marked, and
    reported apart.
    """
    last = Site(model.anatomy.n_layers - 1, "resid_post")
    together = run(model, batch, read=[last])[last]
    alone = torch.cat([run(model, batch.select([r]), read=[last])[last] for r in range(batch.rows)])
    others = [together]
    if model.anatomy.family.reads == "tokens":
        others.append(run(model, right_padded(batch, 4), read=[last])[last][:, : batch.length])
    if model.anatomy.family.left_padding:
        others.append(run(model, _left_padded(batch, 4), read=[last])[last][:, 4:])
    apart = sinks(model, batch).flatten().cpu() if model.dtype in HALF else None
    return Errors.joined([replace(Errors.between(other, alone), apart=apart) for other in others])


def sinks(model: Model, batch: Batch) -> Bool[Tensor, "row token"]:
    """Tokens whose stream is longer than SINK times the median token's, in any state."""
    norms = run(model, batch, read=["L0.resid_pre", "L*.resid_post"]).states().float().norm(dim=-1)
    median = norms.flatten(1).median(dim=1).values
    return (norms > SINK * median[:, None, None]).any(0)


def right_padded(batch: Batch, extra: int) -> Batch:
    """The same rows with padding after them."""
    ids = nn.functional.pad(batch.ids, (0, extra))
    mask = nn.functional.pad(batch.mask, (0, extra), value=False)
    return Batch({"input_ids": ids, "attention_mask": mask.long()}, mask, batch.documents, batch.windows)


def _left_padded(batch: Batch, extra: int) -> Batch:
    ids = nn.functional.pad(batch.ids, (extra, 0))
    mask = nn.functional.pad(batch.mask, (extra, 0), value=False)
    return Batch({"input_ids": ids, "attention_mask": mask.long()}, mask, batch.documents, batch.windows)


def heads_sum(model: Model, batch: Batch) -> Errors:
    """The sum over heads of each head's slice through its part of W_O (plus the bias) = the attention's output."""
    layers = [x for x in model.anatomy.layers if x.attn is not None and x.attn.proj is not None]
    if not layers:
        raise NotApplicable("no layer has attention heads with an output projection")
    whole: dict[int, Tensor] = {}
    taps = [
        Tap(x.attn.projected(), "out", lambda t, k=x.index: whole.__setitem__(k, t)) for x in layers if x.attn
    ]
    with hooked(taps):
        seen = run(model, batch, read=[f"L{x.index}.head_out" for x in layers])
    return Errors.joined(
        [
            Errors.between(
                head_sum(x, seen[f"L{x.index}.head_out"]),
                whole[x.index].view(batch.rows, -1, model.anatomy.d_model),
            )
            for x in layers
        ]
    )


LAWS: tuple[tuple[int, str, Law], ...] = (
    (1, "writes add up to the stream", additive),
    (2, "the head gives the model's logits", decoding),
    (3, "attention rows are the kernel's rows", attention_rows),
    (4, "replay gives the clean pass and leaves no trace", replaying),
    (5, "a row alone is the row in a batch", batching),
    (6, "heads add up to attention", heads_sum),
)
