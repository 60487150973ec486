"""One forward pass: read and edit at sites, stop after the last layer that anyone reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.anatomy.anatomy import base_model
from depthscope.anatomy.site import Site
from depthscope.errors import BadInput, Refused
from depthscope.runtime.attention import Heads, listening
from depthscope.runtime.edits import Edit
from depthscope.runtime.hooks import Enough, Tap, Tape, hooked
from depthscope.runtime.model import Batch, Model, learnt_positions
from depthscope.runtime.wiring import mid_is_sum, taps, wire

Call = tuple[tuple[Any, ...], Mapping[str, Any]]


@dataclass(frozen=True)
class Seen(Mapping[Site, Tensor]):
    """What one forward pass showed: site -> tensor [row token width] (heads: [row token head d_head]).

    Index it by a Site or by its text: `seen["L5.resid_post"]`. A `resid_mid` is added up when asked for.

    Args:
        norms: site -> length of its vectors in float32 or more, [row token], where only that was asked for.
    """

    model: Model
    batch: Batch
    tensors: dict[Site, Tensor]
    calls: Mapping[int, Call] = field(default_factory=dict)
    heads: Mapping[int, Heads] = field(default_factory=dict)
    norms: Mapping[Site, Tensor] = field(default_factory=dict)

    def __getitem__(self, site: Site | str) -> Tensor:
        site = self.model.anatomy.resolve(site)
        if site in self.tensors:
            return self.tensors[site]
        if site.part == "resid_mid" and mid_is_sum(self.model.anatomy):
            return sum(
                (self.tensors[s] for s in _summands(self.model, site)[1:]),
                self.tensors[_summands(self.model, site)[0]],
            )
        raise BadInput(
            f"{site} was not read; this pass read {', '.join(map(str, sorted(self.tensors, key=str)))}"
        )

    def __iter__(self) -> Iterator[Site]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def states(self) -> Float[Tensor, "state row token d_model"]:
        """All L+1 states, stacked; state s = 0 is the input of block 0, s = k the output of block k-1."""
        return torch.stack([self[site] for site in self.model.anatomy.states()])

    def pattern(self, layer: int) -> Float[Tensor, "row head query key"]:
        """Attention rows of one layer at the queries the pass was asked for.

        Raises:
            Refused: when the layer has no attention or its attention does not go through transformers' interface.
        """
        if layer not in self.heads:
            kind = self.model.anatomy.kind_of_layer[layer]
            raise Refused(
                f"layer {layer} of {self.model.anatomy.name} gave no attention rows (its mixer is {kind})"
            )
        return self.heads[layer].rows()


def run(
    model: Model,
    batch: Batch | str | Sequence[str] | Tensor,
    *,
    read: Iterable[Site | str] = (),
    norms: Iterable[Site | str] = (),
    edit: Iterable[Edit] = (),
    record: bool = False,
    queries: Tensor | None = None,
    values: bool = False,
    gradient: bool = False,
) -> Seen:
    """Run the model once and return what was seen at the asked sites.

    Args:
        batch: a Batch, one text, several texts (padded on the right) or token ids [row token].
        read: sites or patterns ("L*.attn_out"); reads see edited values.
        norms: sites or patterns whose vectors are measured as they pass and not kept, for `.norms`.
        edit: edits, applied in order.
        record: keep each block's call arguments, so that the pass can be replayed from any layer.
        queries: positions whose attention rows can be asked for afterwards with `.pattern(layer)`, [query], or each
            row's own [row query] with -1 where a row has fewer.
        values: keep the values too, in `.heads[layer].value`.
        gradient: keep the graph; the default detaches everything.

    Raises:
        Refused: when a site does not exist in this architecture; BadInput: when text or sites are malformed.

    Example:
        >>> ds.run(model, ["a text"], read=["L1.attn_out"], edit=[ds.edits.skip(0)])["L1.attn_out"].shape
        torch.Size([1, 6, 32])
    """
    batch = as_batch(model, batch).to(model.device)
    sites, measured = _sites(model, read), _sites(model, norms)
    edits = tuple(edit)
    store: dict[Site, Tensor] = {}
    lengths = _Norms()
    calls: dict[int, Call] = {}
    heads: dict[int, Heads] = {}
    places = [
        *_recording(model, calls, record),
        *taps(model.anatomy, sites, edits, store, batch.length),
        *taps(model.anatomy, measured, (), lengths, batch.length),
    ]
    with ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(gradient))
        stack.enter_context(
            hooked(
                [
                    *_tracking(model, heads, queries, values, stack),
                    *places,
                    *_stop(model, (*sites, *measured), record, queries),
                ]
            )
        )
        with contextlib.suppress(Enough):
            base_model(model.net)(**batch.inputs, **quiet(model))
    return Seen(model, batch, store, calls, heads, lengths)


class _Norms(dict[Site, Tensor]):
    """Takes tensors and keeps the lengths of their vectors."""

    def __setitem__(self, site: Site, value: Tensor) -> None:
        kind = torch.promote_types(value.dtype, torch.float32)
        super().__setitem__(site, torch.linalg.vector_norm(value.to(kind), dim=-1))


def as_batch(model: Model, batch: Batch | str | Sequence[str] | Tensor) -> Batch:
    """A Batch of whatever `run` accepts.

    Raises:
        BadInput: for nothing to read, ids that are no tokens of the model, or more of them than it has positions.
    """
    if isinstance(batch, Batch):
        return batch
    if isinstance(batch, Tensor):
        _must_be_tokens(model, batch)
        return Batch.of_ids(batch)
    texts = [batch] if isinstance(batch, str) else list(batch)
    if model.tokenizer is None:
        raise BadInput(f"{model.name} has no tokenizer; give token ids [row token] or a Batch")
    ids = [model.tokenizer.encode(text) for text in texts]
    if not ids or min(map(len, ids)) == 0:
        raise BadInput("a text gave no tokens; give at least one token a row")
    _must_have_room(model, max(map(len, ids)))
    return Batch.of_ids(ids, pad=getattr(model.tokenizer, "pad_token_id", None) or 0)


def _must_be_tokens(model: Model, ids: Tensor) -> None:
    """An id outside the embedding is an error of memory on a CPU, and the end of the process on an accelerator."""
    size = int(model.net.get_input_embeddings().weight.shape[0])  # pyright: ignore[reportCallIssue]
    if ids.dim() != 2 or ids.is_floating_point():
        raise BadInput(f"token ids are whole numbers [row token], not {ids.dtype} of shape {list(ids.shape)}")
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < size:
        raise BadInput(
            f"token ids from {int(ids.min())} to {int(ids.max())}; {model.name} has ids 0 to {size - 1}"
        )
    _must_have_room(model, ids.shape[1])


def _must_have_room(model: Model, tokens: int) -> None:
    limit = learnt_positions(model)
    if limit is not None and tokens > limit:
        raise BadInput(f"{tokens} tokens are more than the {limit} positions that {model.name} has learnt")


def quiet(model: Model) -> dict[str, bool]:
    """What every call of the network says besides its inputs: no cache, where the model knows the word."""
    return (
        {"use_cache": False} if model.anatomy.family.reads == "tokens" and model.anatomy.family.causal else {}
    )


def _sites(model: Model, read: Iterable[Site | str]) -> tuple[Site, ...]:
    found: dict[Site, None] = {}
    for pattern in read:
        for site in model.anatomy.expand(pattern):
            if site.part == "resid_mid" and mid_is_sum(model.anatomy):
                found.update(dict.fromkeys(_summands(model, site)))
            else:
                found[site] = None
    return tuple(found)


def _summands(model: Model, mid: Site) -> tuple[Site, ...]:
    mixers = model.anatomy.layers[mid.layer or 0].mixers()
    return (Site(mid.layer, "resid_pre"), *(Site(mid.layer, part) for part, _ in mixers))  # pyright: ignore[reportArgumentType]


def _recording(model: Model, calls: dict[int, Call], record: bool) -> list[Tape]:
    if not record:
        return []
    return [
        Tape(layer.block, lambda args, kwargs, k=layer.index: calls.__setitem__(k, (args, kwargs)))
        for layer in model.anatomy.layers
    ]


def _tracking(
    model: Model, heads: dict[int, Heads], queries: Tensor | None, values: bool, stack: ExitStack
) -> list[Tap]:
    if queries is None:
        return []
    current = [-1]
    stack.enter_context(
        listening(
            model, queries.to(model.device), lambda found, _: heads.__setitem__(current[0], found), values
        )
    )
    return [
        Tap(layer.block, "in", lambda _, k=layer.index: current.__setitem__(0, k))
        for layer in model.anatomy.layers
    ]


def _stop(model: Model, sites: Sequence[Site], record: bool, queries: Tensor | None) -> list[Tap]:
    """A last tap that ends the pass after the last layer anyone reads."""
    if record or queries is not None or not sites or any(site.layer is None for site in sites):
        return []
    last = max(site.layer or 0 for site in sites)
    deepest = [site for site in sites if site.layer == last]
    only_input = all(site.part == "resid_pre" for site in deepest)
    place = wire(model.anatomy, Site(last, "resid_pre" if only_input else "resid_post"))
    return [Tap(place.module, place.side, _enough)]


def _enough(_: Tensor) -> None:
    raise Enough
