"""A view: what one shard showed. Streams, one shared decode, attention rows, effects of counterfactuals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.engine.needs import Needs, SweepNeed
from depthscope.engine.shard import Shard, hashed
from depthscope.engine.splits import splits_of
from depthscope.errors import BadInput
from depthscope.materials.window import Window, Windows
from depthscope.measures.residual import sink_mask
from depthscope.runtime.attention import Queries
from depthscope.runtime.head import Decode, Trace
from depthscope.runtime.lens import LOGIT, Lens
from depthscope.runtime.run import Seen
from depthscope.runtime.sweep import Effects, next_ids, skip_variants, sweep


@dataclass(frozen=True)
class Decoded:
    """The shared decode of one shard.

    Args:
        trace: reductions, [state, item]. rows, positions: where each item is. units: its unit.
        targets: next token ids; has_target is False where there is none (encoders, last position).
        key: uint64 keys for Rows.
    """

    trace: Trace
    rows: Int[Tensor, " item"]
    positions: Int[Tensor, " item"]
    units: tuple[str, ...]
    targets: Int[Tensor, " item"]
    has_target: Bool[Tensor, " item"]


@dataclass(frozen=True)
class View(Mapping[Site, Tensor]):
    """What an analysis may look at in one shard.

    `view["L3.attn_out"]` is a tensor [row token d_model]; `view.decoded` the shared decode; `view.effects` the shared
    staircase of this shard's sweep; `view.pattern(layer)` attention rows at `view.queries`; `view.sinks` the positions
    that statistics leave out or report apart.

    Args:
        windows: the window of each row, with what it says of itself.
        lenses: all lenses of the run; `view.lens`, the first, is the one that everything is decoded through.
        whole: all windows of the material, of which `windows` are some.
        kept: what analyses of this shard leave for each other, such as decodes through further lenses.
    """

    seen: Seen
    needs: Needs
    shard: Shard
    seed: int
    windows: tuple[Window, ...] = ()
    lenses: tuple[Lens, ...] = (LOGIT,)
    whole: Windows | None = None
    kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, site: Site | str) -> Tensor:
        return self.seen[site]

    def __iter__(self) -> Iterator[Site]:
        return iter(self.seen)

    def __len__(self) -> int:
        return len(self.seen)

    @property
    def sweep(self) -> SweepNeed | None:
        """The staircase of this shard; None in a capture."""
        return self.shard.sweep

    @property
    def units(self) -> tuple[str, ...]:
        """The independent unit of each row."""
        return self.seen.batch.documents

    @property
    def lens(self) -> Lens:
        """The run's lens."""
        return self.lenses[0]

    @cached_property
    def states(self) -> Float[Tensor, "state row token d_model"]:
        """All states, upcast to float32 or more: a copy of them all, where one by one (`each_state`) will not do."""
        return torch.stack(self.each_state)

    @cached_property
    def each_state(self) -> tuple[Float[Tensor, "row token d_model"], ...]:
        """The states one by one, upcast to float32 or more; float32 ones are no copies."""
        found = [self.seen[site] for site in self.seen.model.anatomy.states()]
        return tuple(state.to(torch.promote_types(state.dtype, torch.float32)) for state in found)

    def states_at(
        self, rows: Int[Tensor, " item"], positions: Int[Tensor, " item"]
    ) -> Float[Tensor, "state item d_model"]:
        """All states at some positions."""
        return torch.stack([state[rows, positions] for state in self.each_state])

    @cached_property
    def norms(self) -> Float[Tensor, "state row token"]:
        """Norm of every state at every position; padded positions are NaN."""
        norms = torch.stack([self.seen.norms[site] for site in self.seen.model.anatomy.states()])
        return torch.where(self.seen.batch.mask, norms, torch.nan)

    @cached_property
    def sinks(self) -> Bool[Tensor, "row token"]:
        """Position 0 and every position whose norm exceeds 4 times the median of its row at some state from 1 on."""
        return sink_mask(self.norms.transpose(0, 1))

    @cached_property
    def plain(self) -> Bool[Tensor, "row token"]:
        """Real positions that are no sinks."""
        return self.seen.batch.mask & ~self.sinks

    @cached_property
    def queries(self) -> Queries:
        """Positions whose attention rows were kept, [query], or each window's own, [row query] with -1 for none."""
        return queries_of(self.needs, self.windows, self.seen.batch.length)

    def pattern(self, layer: int) -> Float[Tensor, "row head query key"]:
        """Attention rows of one layer at `queries`; consume them layer by layer."""
        return self.seen.pattern(layer)

    @cached_property
    def decoded(self) -> Decoded:
        """The one decode that all analyses share: the planned positions with the union of what is wanted."""
        if not self.needs.decode:
            raise BadInput("no analysis of this wave declared a decode in its needs")
        pairs = torch.tensor(self.shard.positions, dtype=torch.long).reshape(-1, 2)
        return self.decode(pairs, self.needs.decode)

    def decode(
        self,
        pairs: Int[Tensor, "item 2"],
        wanted: Decode,
        *,
        candidates: Int[Tensor, "item candidate"] | None = None,
        lens: Lens | None = None,
    ) -> Decoded:
        """Decode all states at some (row, position) pairs; for a handful of positions beyond the shared ones.

        Args:
            candidates: ids whose probabilities and ranks are wanted at each pair.
            lens: another one than the run's. The reference is the true final state whatever the lens.
        """
        rows, positions = pairs[:, 0], pairs[:, 1]
        states = self.states_at(rows, positions)
        final = states[-1]
        targets, has_target = next_ids(self.seen, pairs)
        if not self.seen.model.anatomy.family.causal:
            has_target = torch.zeros_like(has_target)
        trace = self.seen.model.head.decode((lens or self.lens)(states), final, wanted, targets, candidates)
        return Decoded(
            trace, rows, positions, tuple(self.units[r] for r in rows.tolist()), targets, has_target
        )

    def sampling_keys(self, rows: Tensor, positions: Tensor) -> np.ndarray:
        """Sampling keys (uint64 numpy array) of some positions of this shard."""
        windows = torch.tensor(self.shard.windows)[rows.cpu()]
        return hashed(windows.numpy(), positions.cpu().numpy(), self.seed)

    @cached_property
    def effects(self) -> Effects:
        """The shared staircase of this shard."""
        need = self.shard.sweep
        if need is None or not need.sublayers:
            raise BadInput("this shard skips nothing; effects belong to a sweep that names sublayers")
        variants = skip_variants(self.seen.model.anatomy, need.sublayers)
        wanted = set(need.layers) or set(range(self.seen.model.anatomy.n_layers))
        chosen = [v for v in variants if v.start() in wanted]
        splits = None
        if need.future and self.seen.model.anatomy.family.causal:
            splits = splits_of(self.windows, self.seen.batch.length, need.future, self.seed)
        edited, measured = edited_positions(self, need), measured_positions(self, need)
        return sweep(self.seen, chosen, edited, measured, splits=splits, reach=need.reach, local=need.local)


def edited_positions(view: View, need: SweepNeed) -> Bool[Tensor, "row token"]:
    """Where a sweep's edits apply: everywhere, everywhere but at sinks, or everywhere but at position 0."""
    return view.seen.batch.mask if need.protect == "none" else measured_positions(view, need)


def measured_positions(view: View, need: SweepNeed) -> Bool[Tensor, "row token"]:
    """Where a sweep's effects are measured: at all positions but sinks, or at all but position 0."""
    if need.protect != "first":
        return view.plain
    later = view.seen.batch.mask.clone()
    later[:, 0] = False
    return later


def queries_of(needs: Needs, windows: Sequence[Window], length: int) -> Queries:
    """The positions whose attention rows a pass over some windows keeps.

    Raises:
        BadInput: where a window should name its own queries and does not, or names one outside its text.
    """
    if not needs.own_queries:
        return queries(length, needs.every_query)
    named = [list(window.about.get("queries", ())) for window in windows]
    longest = max((len(each) for each in named), default=0)
    beyond = [q for each in named for q in each if not 0 <= q < length]
    if not longest or beyond:
        raise BadInput(
            "attention rows are wanted at each window's own queries, about['queries']; "
            + (f"found {beyond[0]} in a window of {length} tokens" if beyond else "no window names any")
        )
    return torch.tensor([each + [-1] * (longest - len(each)) for each in named])


def queries(length: int, every: int) -> Int[Tensor, " query"]:
    """Every n-th position from 1 on; none for n = 0."""
    return torch.arange(1, length, every) if every else torch.arange(0)
