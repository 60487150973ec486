"""What is known of the states before any training: their scale, and sums from which every closed-form guess follows.

Two passes over the first windows of the training text, nothing kept of a token: means and variances, then the products
of [x_t, x_{t-1}, e_{t+1}, 1] with themselves and with the target, and means by position and by token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from depthscope.errors import NonFinite
from depthscope.fits.predictor_course import Course
from depthscope.fits.teacher import Streams, batched, taught
from depthscope.materials.window import Window
from depthscope.runtime.model import Model
from depthscope.runtime.predictor import Predictor

VALIDATION = 1024
"""Positions kept in memory to choose penalties by."""
Told = Callable[[int], None]


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of each dimension [d_model], the size of one (root mean variance), and the median norm."""

    mean: Tensor
    deviation: Tensor
    unit: float
    norm: float

    def raw(self, y: Tensor) -> Tensor:
        """Targets in units, back in raw units."""
        return self.mean + self.unit * y

    def kept(self, h: Float[Tensor, "row position d_model"], course: Course) -> Bool[Tensor, "row position"]:
        """True at targets 1..T-1 that count: finite, not among the first, no sink."""
        norms = torch.linalg.vector_norm(h, dim=-1)
        fine = torch.isfinite(norms)
        if course.drop_sink:
            fine &= norms <= course.drop_sink * self.norm
        fine[:, : max(0, course.skip_first - 1)] = False
        return fine


def scales(
    model: Model, windows: Sequence[Window], states: Sequence[int], rows: int, told: Told
) -> dict[int, Scale]:
    """The scale of each state over positions 1.. of some windows, positions 20 times longer than the median left out.

    Raises:
        NonFinite: where a state has no finite position.
    """
    norms: dict[int, list[Tensor]] = {s: [] for s in states}
    sums: dict[int, list[Tensor]] = {s: [] for s in states}
    for batch in batched(windows, rows):
        found = taught(model, batch, states)
        for s, stream in found.of.items():
            h = stream[:, 1:].flatten(0, 1)
            h = h[torch.isfinite(h).all(-1)]
            length = torch.linalg.vector_norm(h, dim=-1)
            fine = h[length <= 20 * length.median()].double() if len(h) else h.double()
            norms[s].append(length)
            sums[s].append(
                torch.stack((torch.full_like(fine.sum(0), len(fine)), fine.sum(0), fine.square().sum(0)))
            )
        told(sum(len(w.ids) for w in batch))
    return {s: _scale(model, s, torch.cat(norms[s]), torch.stack(sums[s]).sum(0)) for s in states}


def _scale(model: Model, state: int, norms: Tensor, sums: Tensor) -> Scale:
    if not len(norms) or not float(sums[0, 0]):
        raise NonFinite(f"state {state} of {model.name} has no finite position; check weights, text and type")
    mean = sums[1] / sums[0]
    variance = (sums[2] / sums[0] - mean.square()).clamp_min(0)
    unit = float(variance.mean().sqrt()) or 1.0
    deviation = variance.sqrt().clamp_min(
        1e-4 * unit
    )  # a constant dimension is no reason to divide by nothing
    return Scale(mean.float(), deviation.float(), unit, float(norms.median()))


@dataclass
class Products:
    """The sums of one state; features are x_t, x_{t-1}, e_{t+1} and 1, targets y = (h_{t+1} - mean) / unit.

    gram [3 d + 1, 3 d + 1] and cross [3 d + 1, d] in float64; position [T - 1, d + 1], before and after
    [token + 1, d + 1]: sums of y and how many, by position, by token x_t, and by token x_{t+1}; the last token row is
    for rare ones.
    """

    gram: Tensor
    cross: Tensor
    position: Tensor
    before: Tensor
    after: Tensor

    @classmethod
    def empty(cls, width: int, targets: int, tokens: int, device: torch.device) -> Products:
        """All zeros."""
        size = 3 * width + 1
        exact = [torch.zeros(size, n, dtype=torch.float64, device=device) for n in (size, width)]
        tables = [torch.zeros(n, width + 1, device=device) for n in (targets, tokens + 1, tokens + 1)]
        return cls(*exact, *tables)

    def add(self, features: Tensor, y: Tensor, kept: Tensor, now: Tensor, then: Tensor) -> None:
        """One batch: features [row position 3d+1], y [row position d], rows of the token tables [row position]."""
        x, target = features[kept], y[kept]
        self.gram += x.T @ x
        self.cross += x.T @ target
        counted = torch.cat((target, torch.ones_like(target[:, :1])), 1)
        places = torch.arange(kept.shape[1], device=kept.device).expand_as(kept)[kept]
        for table, index in ((self.position, places), (self.before, now[kept]), (self.after, then[kept])):
            table.index_add_(0, index, counted)


@dataclass(frozen=True)
class Vocabulary:
    """Which tokens have a row of their own: row_of [vocabulary], others share the last row; and the embedding."""

    row_of: Tensor
    rows: int
    embedding: Tensor

    @classmethod
    def of(cls, model: Model, windows: Iterable[Window], most: int) -> Vocabulary:
        """The `most` frequent tokens of some windows; rows of the input embedding."""
        ids = torch.cat([torch.tensor(w.ids) for w in windows])
        embedding = model.net.get_input_embeddings().weight.detach()  # pyright: ignore[reportCallIssue]
        counts = torch.bincount(ids, minlength=len(embedding))
        often = counts.argsort(descending=True, stable=True)[:most]
        often = often[counts[often] > 0]
        row_of = torch.full((len(embedding),), len(often), device=model.device)
        row_of[often] = torch.arange(len(often), device=model.device)
        return cls(row_of, len(often), embedding)

    def embedded(self, ids: Tensor) -> Tensor:
        """Embeddings in units of their own size, float32."""
        return self.embedding[ids].float() / self._size

    @property
    def _size(self) -> float:
        return float(self.embedding[:1024].float().square().mean().sqrt()) or 1.0


def features_of(predictor: Predictor, stream: Tensor, ids: Tensor, vocabulary: Vocabulary) -> Tensor:
    """[x_t, x_{t-1}, e_{t+1}, 1] for t = 0..T-2, [row position 3 d + 1]; x as the predictor reads it, 0 before it."""
    x = predictor.inputs(stream)
    earlier = torch.cat((torch.zeros_like(x[:, :1]), x[:, :-1]), 1)
    e = vocabulary.embedded(ids[:, 1:])
    return torch.cat((x[:, :-1], earlier[:, :-1], e, torch.ones_like(e[..., :1])), -1)


@dataclass(frozen=True)
class Kept:
    """A few positions of one state to choose penalties by: features [item, 3 d + 1], y [item, d]."""

    features: Tensor
    y: Tensor


def products(
    model: Model,
    windows: Sequence[Window],
    readers: dict[int, Predictor],
    scale: dict[int, Scale],
    vocabulary: Vocabulary,
    course: Course,
    told: Told,
) -> tuple[dict[int, Products], dict[int, Kept]]:
    """Sums of each state over some windows; the last windows are kept back to choose by, VALIDATION positions at most.

    Args:
        readers: a predictor a state that standardises as the trained ones will. rows a batch are the course's.
    """
    length = len(windows[0].ids)
    back = min(max(1, len(windows) // 10), -(-VALIDATION // (length - 1)))
    fitting, held = windows[:-back], windows[-back:]
    sums = {
        s: Products.empty(each.width, length - 1, vocabulary.rows, model.device)
        for s, each in readers.items()
    }
    for batch in batched(fitting, course.rows):
        found = taught(model, batch, list(readers))
        now, then = vocabulary.row_of[found.ids[:, :-1]], vocabulary.row_of[found.ids[:, 1:]]
        for s, (features, y, kept) in _items(found, readers, scale, vocabulary, course).items():
            sums[s].add(features, y, kept, now, then)
        told(sum(len(w.ids) for w in batch))
    found = taught(model, held, list(readers))
    items = _items(found, readers, scale, vocabulary, course)
    return sums, {s: Kept(features[kept], y[kept]) for s, (features, y, kept) in items.items()}


def _items(
    found: Streams,
    readers: dict[int, Predictor],
    scale: dict[int, Scale],
    vocabulary: Vocabulary,
    course: Course,
) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """Features, targets and which of them count, of each state."""
    items: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    for s, stream in found.of.items():
        h = stream[:, 1:]
        y = (h - scale[s].mean) / scale[s].unit
        items[s] = (features_of(readers[s], stream, found.ids, vocabulary), y, scale[s].kept(h, course))
    return items
