"""What analyses need, how needs unite, and in which waves analyses run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from depthscope.errors import BadInput
from depthscope.ranges import at_least, check_names, check_ranges
from depthscope.runtime.head import Decode

if TYPE_CHECKING:
    from depthscope.anatomy.anatomy import Anatomy, Kind
    from depthscope.engine.tally import Tally
    from depthscope.engine.view import View
    from depthscope.materials.window import Material
    from depthscope.results.result import Findings, Result
    from depthscope.runtime.model import Batch, Model


@dataclass(frozen=True, order=True)
class SweepNeed:
    """Recorded windows in float32, and one staircase of layer skips over them.

    Args:
        sublayers: what is skipped in each layer: "block", "attention" (any mixer), "mlp"; empty sweeps nothing: the
            analysis replays the recorded pass (`view.seen`) itself.
        layers: which layers; empty means all.
        tokens: positions over all windows of the sweep; 0 reads every window of the material, whole. documents:
            windows, each of another document where there are enough; a window is read from its start and cut to
            tokens / documents.
        protect: "sinks" keeps the clean stream at position 0 and at massive positions and measures at neither; "first"
            does so with position 0 only; "none" protects nothing and measures where "sinks" does.
        future: splits of a window, for effects on future tokens: edits act before the split, effects are measured from
            it on. They are chosen by hash, one in each of `future` equal stretches of the window, unless the window
            names its own in `about["splits"]`. 0: none. Ignored for encoders, which have no future.
        reach: positions from a split on that are measured.
        local: direct effects too: each layer alone reads the stream without what a skip took away.
        replays: about how many forward passes a window's own replays cost; only `depthscope plan` reads it.
    """

    sublayers: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    tokens: int = 1024
    documents: int = 8
    protect: str = "sinks"
    replays: int = 0
    future: int = 0
    reach: int = 64
    local: bool = False

    def __post_init__(self) -> None:
        check_names(self, protect=("sinks", "first", "none"))
        check_ranges(self, tokens=at_least(0), documents=at_least(0))
        check_ranges(self, future=at_least(0, what="splits"), reach=at_least(1, what="positions"))
        if self.tokens and self.tokens // max(1, self.documents) < 4:
            raise BadInput(
                f"{self.tokens} tokens in {self.documents} windows leave fewer than 4 tokens a window"
            )


@dataclass(frozen=True)
class Needs:
    """What one analysis reads; the union over analyses is what one pass provides.

    Args:
        sites: site patterns such as "L*.resid_post".
        decode: what is wanted of decoded states. positions: how many hash-sampled positions to decode, the same
            positions for every analysis; a larger number contains the smaller one.
        every_query: attention rows at every n-th query from position 1; 0 for none.
        own_queries: attention rows at the positions that each window names in `about["queries"]`. values: what heads
            read (`view.seen.heads[layer].value`) is kept beside the rows.
        sweeps: staircases of counterfactuals, each on its own windows.
        after: names of analyses whose results must exist first.
        material: what is read instead of the run's text, such as facts; analyses with equal materials share a pass.
    """

    sites: frozenset[str] = frozenset()
    decode: Decode = field(default_factory=Decode)
    positions: int = 0
    every_query: int = 0
    own_queries: bool = False
    values: bool = False
    sweeps: frozenset[SweepNeed] = frozenset()
    after: tuple[str, ...] = ()
    material: Material | None = None

    def __post_init__(self) -> None:
        check_ranges(self, positions=at_least(0), every_query=at_least(0))

    def __or__(self, other: Needs) -> Needs:
        steps = [n for n in (self.every_query, other.every_query) if n]
        if len(set(steps)) > 1:
            raise BadInput(
                f"analyses ask for attention rows at every {steps[0]}th and every {steps[1]}th query; use one"
            )
        if self.material != other.material:
            raise BadInput(f"one pass reads one material, not {self.material} and {other.material}")
        own = self.own_queries or other.own_queries
        if own and steps:
            raise BadInput(
                f"analyses ask for attention rows at every {steps[0]}th query and at each window's own queries; "
                "give them materials of their own"
            )
        return Needs(
            self.sites | other.sites,
            self.decode | other.decode,
            max(self.positions, other.positions),
            max(steps, default=0),
            own,
            self.values or other.values,
            self.sweeps | other.sweeps,
            tuple(dict.fromkeys(self.after + other.after)),
            self.material,
        )

    @property
    def captures(self) -> bool:
        """True where the clean pass over all windows is needed."""
        return bool(self.sites or self.decode or self.every_query or self.own_queries)


@dataclass(frozen=True)
class Facts:
    """What `conclude` may know: sizes and counts, no model.

    Args:
        units: "documents", or "windows" where there are fewer than 8 documents. lens: the name of the run's lens.
    """

    n_layers: int
    n_heads: int
    d_model: int
    kind_of_layer: tuple[Kind, ...]
    window_of_layer: tuple[int | None, ...]
    causal: bool
    parallel: bool
    post_norm: bool
    has_unembedding: bool
    units: str
    seed: int
    model: str = ""
    lens: str = "logit"

    @classmethod
    def of(cls, anatomy: Anatomy, units: str, seed: int, model: str = "", lens: str = "logit") -> Facts:
        """The facts of a resolved anatomy."""
        return cls(
            anatomy.n_layers, anatomy.n_heads, anatomy.d_model, anatomy.kind_of_layer, anatomy.window_of_layer,
            anatomy.family.causal, anatomy.parallel, anatomy.family.post_norm, anatomy.has_unembedding(),
            units, seed, model, lens,
        )  # fmt: skip


@runtime_checkable
class Parametrised(Protocol):
    """A frozen dataclass whose fields are its parameters: an analysis or a study."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


@runtime_checkable
class Analysis(Parametrised, Protocol):
    """One question. A frozen dataclass whose fields are its parameters.

    `needs` raises Refused with the reason where the question makes no sense for a model. `observe` says what one shard
    contributes; it is called for the clean pass and for each sweep that the analysis asked for. `conclude` turns the
    total into findings and needs no model, so it can be done again from stored tallies.
    """

    def needs(self, anatomy: Anatomy) -> Needs:
        """What it reads."""
        ...

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """What one shard contributes."""
        ...

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """What the total says."""
        ...


@runtime_checkable
class Particular(Protocol):
    """An analysis that not every model fits whose anatomy does: it names files or runs that are about one model."""

    def must_fit(self, model: Model) -> None:
        """Raises what is wrong, before a run folder is made."""
        ...


def parameters(analysis: Parametrised) -> dict[str, Any]:
    """The parameters an analysis or a study was made with, defaults included, as JSON values."""
    return {f.name: _plain(getattr(analysis, f.name)) for f in fields(analysis)}


def _plain(value: object) -> object:
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def waves(needs: Mapping[str, Needs]) -> list[tuple[str, ...]]:
    """Names in waves: an analysis comes after everything in its `after`.

    Raises:
        BadInput: when analyses wait for each other or for one that is not among them.
    """
    left, done, found = dict(needs), set[str](), []
    while left:
        ready = tuple(name for name in left if set(left[name].after) <= done)
        if not ready:
            waiting = {name: sorted(set(n.after) - done) for name, n in left.items()}
            raise BadInput(f"analyses wait for what never comes: {waiting}")
        found.append(ready)
        done.update(ready)
        left = {name: n for name, n in left.items() if name not in ready}
    return found


def united(needs: Iterable[Needs]) -> Needs:
    """The union of several needs of one material.

    Raises:
        BadInput: when they cannot share a pass: other materials, strides of queries, or groups of tokens.
    """
    first, *others = needs
    for each in others:
        first = first | each
    return first


def by_material(needs: Mapping[str, Needs]) -> list[tuple[str, ...]]:
    """Names in groups that read the same, the run's own text first: each group is one pass."""
    found: dict[Material | None, list[str]] = {None: []}
    for name, each in needs.items():
        found.setdefault(each.material, []).append(name)
    return [tuple(names) for names in found.values() if names]
