"""Steering by components: a stream taken apart into what a predictor expects and what is new, changed, put together.

Every change is a difference that is added to the stream, so a change of nothing passes the stream on bit for bit. The
predictor reads the stream as it was before the change; below the edited state nothing is steered, so in a text that is
written it sees what it would see without steering, token by token, and keeps its own cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.anatomy.site import Site
from depthscope.errors import BadInput
from depthscope.runtime.edits import Edit


@runtime_checkable
class Predicting(Protocol):
    """What is asked of a predictor: row t of what it returns is the expectation for row t + 1 of what it was given."""

    def __call__(self, stream: Tensor) -> Tensor:
        """Expectations of a whole stream, [row token d_model]."""
        ...

    def step(self, new: Tensor, cache: Any) -> tuple[Tensor, Any]:  # noqa: ANN401  (each predictor has its own)
        """Expectations after new tokens [row new d_model], and the cache for the next ones; None begins a text."""
        ...


@dataclass(frozen=True)
class Pieces:
    """Some tokens of a stream, taken apart.

    Args:
        stream: h, [row token d_model], float32 at least. expected: what was expected from the tokens before, as wide.
        start: the position of the first token.
    """

    stream: Float[Tensor, "row token d_model"]
    expected: Float[Tensor, "row token d_model"]
    start: int = 0

    @property
    def novel(self) -> Float[Tensor, "row token d_model"]:
        """What was not expected: h minus the expectation."""
        return self.stream - self.expected

    def of(self, table: Float[Tensor, "... position d_model"], what: str) -> Tensor:
        """The rows of a table of positions that belong to these tokens.

        Raises:
            BadInput: when the table ends before them.
        """
        stop = self.start + self.stream.shape[1]
        if table.shape[-2] < stop:
            raise BadInput(
                f"{what} has {table.shape[-2]} positions, the stream is at position {stop - 1}; give a longer text or "
                "write fewer tokens"
            )
        return table[..., self.start : stop, :].to(self.stream)


Change = Callable[[Pieces], Tensor]
"""What is added to a stream: a function of its pieces, [row token d_model]."""


@dataclass(frozen=True)
class Scale:
    """Longer or shorter parts: h' = expected (1 + a) + novel (1 + b), as h + a expected + b novel."""

    expected: float = 0.0
    novel: float = 0.0

    def __call__(self, pieces: Pieces) -> Tensor:
        """The difference, a expected + b novel."""
        return self.expected * pieces.expected + self.novel * pieces.novel


@dataclass(frozen=True)
class Stretch:
    """A longer or shorter stream: h' = h (1 + a); a control of `Scale`."""

    by: float

    def __call__(self, pieces: Pieces) -> Tensor:
        """The difference, a h."""
        return self.by * pieces.stream


@dataclass(frozen=True, eq=False)
class Level:
    """One part takes its mean: novel -> mean novel, or expected -> mean of the stream.

    Args:
        part: which. mean: [d_model].
    """

    part: Literal["expected", "novel"]
    mean: Float[Tensor, " d_model"]

    def __call__(self, pieces: Pieces) -> Tensor:
        """The mean minus the part."""
        return self.mean.to(pieces.stream) - (pieces.novel if self.part == "novel" else pieces.expected)


@dataclass(frozen=True, eq=False)
class Expect:
    """Another text's expectation: h' = expected of A + novel of this text B.

    Args:
        expected: of A, [position d_model] or [row position d_model]; row t is the expectation for token t.
    """

    expected: Float[Tensor, "*row position d_model"]

    def __call__(self, pieces: Pieces) -> Tensor:
        """Expected of A minus expected of B."""
        return pieces.of(self.expected, "the other text") - pieces.expected


@dataclass(frozen=True, eq=False)
class Renew:
    """Other novelties: h' = expected + novel parts that are given; shuffled ones are a control.

    Args:
        novel: [position d_model] or [row position d_model].
    """

    novel: Float[Tensor, "*row position d_model"]

    def __call__(self, pieces: Pieces) -> Tensor:
        """The given novel part minus the own one."""
        return pieces.of(self.novel, "the table of novel parts") - pieces.novel


@dataclass(frozen=True, eq=False)
class Move:
    """The same vector at every token: h' = h + vector, [d_model]."""

    vector: Float[Tensor, " d_model"]

    def __call__(self, pieces: Pieces) -> Tensor:
        """The vector, at each token."""
        return self.vector.to(pieces.stream).expand_as(pieces.stream)


@dataclass(frozen=True, eq=False)
class Along:
    """As long as another change, in other directions: a control.

    Args:
        change: whose length is taken, token by token. directions: [position d_model] of any length but 0, or towards
            the stream of another text where `towards` is set.
    """

    change: Change
    directions: Float[Tensor, "*row position d_model"]
    towards: bool = False

    def __call__(self, pieces: Pieces) -> Tensor:
        """|change| times the unit direction; nothing where the direction has no length."""
        length = torch.linalg.vector_norm(self.change(pieces), dim=-1, keepdim=True)
        found = pieces.of(self.directions, "the table of directions")
        found = found - pieces.stream if self.towards else found
        return torch.nn.functional.normalize(found, dim=-1).expand_as(pieces.stream) * length


@dataclass(frozen=True)
class Both:
    """Two changes at once: their differences are added."""

    first: Change
    second: Change

    def __call__(self, pieces: Pieces) -> Tensor:
        """The sum."""
        return self.first(pieces) + self.second(pieces)


def random_directions(positions: int, width: int, seed: int) -> Float[Tensor, "position d_model"]:
    """A random unit vector for each position, drawn once: the same for every call with one seed."""
    drawn = torch.randn(positions, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=-1)


def taken_apart(predictor: Predicting, stream: Float[Tensor, "row token d_model"]) -> Pieces:
    """A whole stream in pieces; nothing comes before position 0, so its expectation is itself."""
    stream = _wide(stream)
    with torch.no_grad():
        expected = predictor(stream[:, :-1].float()).to(stream) if stream.shape[1] > 1 else stream[:, :0]
    return Pieces(stream, torch.cat([stream[:, :1], expected], dim=1))


def steered(
    stream: Float[Tensor, "row token d_model"], pieces: Pieces, change: Change, first: int = 1
) -> Float[Tensor, "row token d_model"]:
    """The stream with a change added, in its own type.

    Where the difference is 0 the stream itself is passed on, so no bit changes there.

    Args:
        first: positions before this one stay as they are: nothing is expected at 0, and sinks stand there.
    """
    difference = change(pieces)
    position = pieces.start + torch.arange(stream.shape[1], device=stream.device)
    touched = (difference != 0) & (position >= first)[:, None]
    return torch.where(touched, (pieces.stream + difference).to(stream.dtype), stream)


class Follower:
    """Takes one text apart as it is read or written, with the predictor's cache; one text, one follower.

    Several tokens at once begin a text, from nothing; one token goes on with it. So it serves generation with a cache,
    where the prompt comes at once and each new token alone, and without, where everything comes again.
    """

    def __init__(self, predictor: Predicting) -> None:
        self._predictor = predictor
        self._cache: Any = None
        self._expected: Tensor | None = None
        self._read = 0

    def __call__(self, stream: Float[Tensor, "row token d_model"]) -> Pieces:
        """The new tokens in pieces."""
        whole = _wide(stream)
        if whole.shape[1] > 1 or self._expected is None:
            self._cache, self._expected, self._read = None, whole[:, :1], 0
        with torch.no_grad():
            found, self._cache = self._predictor.step(whole.float(), self._cache)
        expected = torch.cat([self._expected, found.to(whole)], dim=1)
        begun = self._read
        self._expected, self._read = expected[:, -1:], begun + whole.shape[1]
        return Pieces(whole, expected[:, :-1], begun)


def steering(predictor: Predicting, state: int, change: Change, anatomy: Anatomy, first: int = 1) -> Edit:
    """An edit of one state by components, for one text: it holds the predictor's cache.

    Args:
        state: 0 is the embedding output, k the output of layer k - 1. first: see `steered`.

    Raises:
        BadInput: for a state that does not exist.
    """
    if not 0 <= state <= anatomy.n_layers:
        raise BadInput(f"state {state} does not exist, {anatomy.name} has states 0 to {anatomy.n_layers}")
    site = Site(state - 1, "resid_post") if state else Site(0, "resid_pre")
    return Edit(site, _Steered(Follower(predictor), change, first), f"steer {site}")


@dataclass(frozen=True, eq=False)
class _Steered:
    follower: Follower
    change: Change
    first: int

    def __call__(self, stream: Tensor, _: Tensor) -> Tensor:
        return steered(stream, self.follower(stream), self.change, self.first)


def unit(vectors: Sequence[Tensor] | Tensor) -> Tensor:
    """Vectors of length 1 along the last axis; a vector of length 0 stays 0."""
    stacked = vectors if isinstance(vectors, Tensor) else torch.stack(list(vectors))
    return torch.nn.functional.normalize(stacked, dim=-1)


def _wide(stream: Tensor) -> Tensor:
    """At least float32: of long bfloat16 streams the small parts would be lost in the subtraction."""
    return stream.to(torch.promote_types(stream.dtype, torch.float32))
