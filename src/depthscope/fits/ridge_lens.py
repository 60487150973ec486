"""Ridge lens: each state mapped linearly onto the last one, in closed form.

Question: How much of the last state is a linear function of an earlier one?

Method: For every state s < L the A and b that minimise sum ||h_s + A h_s + b - h_L||^2 + lambda ||A||^2 over
positions of the training documents, from sums of one pass: means, Gram matrices h_s h_s^T and cross products
(h_L - h_s) h_s^T. Sinks are left out. lambda is a multiple of the mean diagonal of the centred Gram matrix, chosen
for each state from a grid by the squared error on validation documents. KL(final || state) is measured on documents
held out from both.

How to read: A low KL under this lens says that the prediction is linearly there; the lens never saw a token.

What misleads: It minimises distance between states, not between distributions: where a few channels carry most of the
variance, they are fitted first. It can be worse than the logit lens.

Source: Din et al. 2023 (arXiv 2303.09435), linear short-cuts; Hoerl and Kennard 1970 for the penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from depthscope.engine.journal import Journal
from depthscope.engine.reading import Reading
from depthscope.errors import BadInput, NonFinite
from depthscope.fits.checkpoint import Checkpoint
from depthscope.fits.quality import judged
from depthscope.fits.states import Split, batches, read, split
from depthscope.fits.watch import SILENT, Watch
from depthscope.materials.window import Window, Windows
from depthscope.ranges import above, check_ranges
from depthscope.results.result import Result
from depthscope.runtime.lens import Lens
from depthscope.runtime.model import Model

GRID = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Multiples of the mean diagonal that lambda is chosen from."""
_VALIDATION = 2048
"""Validation positions kept in memory at most."""
_SAVE = 64
"""Batches between two writes of the sums to the disk."""


@dataclass(frozen=True)
class RidgeLens:
    """A ridge lens of a model over a text; one pass over the training documents.

    Memory beyond the model: 2 L d_model^2 float64 for the sums, as much again while they are solved in the worst case,
    and the states of one batch. A pass that is killed goes on at its last write.

    Args:
        reading: the text. ridge: multiples of the mean diagonal; one is used as it is, of several each state gets the
            best.
        held_out: share of the documents to judge on, and as much again to choose lambda by.
        evaluate: held-out positions that KL is measured at.
    """

    reading: Reading = field(default_factory=lambda: Reading(tokens=65536))
    ridge: tuple[float, ...] = GRID
    held_out: float = 0.1
    evaluate: int = 512
    seed: int = 0

    kind = "ridge"

    def __post_init__(self) -> None:
        check_ranges(self, ridge=above(0, what="times the mean diagonal"))

    def run(
        self, model: Model, journal: Journal, windows: Windows, watch: Watch = SILENT
    ) -> tuple[Lens, Result]:
        """Fit, and judge on held-out documents.

        Raises:
            NonFinite: when no position of the training text has finite states.
        """
        parts = split(windows, self.held_out, self.seed)
        lens = self.fitted(model, parts, journal, watch)
        return lens, judged(self, model, lens, parts, self.evaluate, self.seed, watch)

    def fitted(self, model: Model, parts: Split, journal: Journal, watch: Watch = SILENT) -> Lens:
        """The lens of the training documents, lambda chosen on the validation documents; nothing is judged."""
        checkpoint = Checkpoint(journal, "ridge-sums", {"held_out": self.held_out, "seed": self.seed})
        sums = gathered(model, parts.train, checkpoint, watch)
        lens, chosen = self._solved(model, sums, parts)
        facts = {"ridge": chosen, "positions": int(sums["count"])}
        return Lens(lens.kind, lens.name, lens.weight, lens.bias, {"fit": facts})

    def _solved(self, model: Model, sums: Sums, parts: Split) -> tuple[Lens, list[float]]:
        n_layers = model.anatomy.n_layers
        kept = _sample(model, parts.validation) if len(self.ridge) > 1 else None
        weights, biases, chosen = [], [], []
        for s in range(n_layers):
            tried = {ridge: _attempt(sums, s, ridge) for ridge in self.ridge}
            fitted = {ridge: found for ridge, found in tried.items() if found is not None}
            if not fitted:
                raise BadInput(
                    f"{int(sums['count'])} positions are too few for state {s} of width {model.anatomy.d_model} with "
                    f"ridge {', '.join(f'{r:g}' for r in self.ridge)}: give more tokens, or a larger --ridge"
                )
            errors = {
                r: 0.0 if kept is None else _error(kept[s], kept[n_layers], *f) for r, f in fitted.items()
            }
            best = min(errors, key=errors.__getitem__)
            weights.append(fitted[best][0].float())
            biases.append(fitted[best][1].float())
            chosen.append(best)
        return Lens("ridge", "ridge", torch.stack(weights).cpu(), torch.stack(biases).cpu()), chosen


Sums = dict[str, Tensor]
"""count; shift [state d]: what is subtracted before products; first, second, cross: sums of centred states."""


def gathered(
    model: Model,
    windows: Sequence[Window],
    checkpoint: Checkpoint | None = None,
    watch: Watch = SILENT,
) -> Sums:
    """Sums over all kept positions of some windows.

    Each batch is shifted by the mean of the first one and multiplied in the head's precision (float32, float64 for
    float64 models), then added up in float64: the shift takes away what the tokens share before anything is rounded.
    Keys: `count` [], `shift` [L+1, d], `first` [L+1, d], `second` and `cross` [L, d, d], where with
    x_s = h_s - shift_s and y = x_L - x_s: second = sum x x^T, cross = sum y x^T.

    Raises:
        NonFinite: when no position is left.
    """
    stored = checkpoint.load() if checkpoint else None
    sums, done = stored if stored else ({}, 0)
    sums = {name: value.to(model.device) for name, value in sums.items()}
    total = sum(len(w.ids) for w in windows)
    tokens = 0
    for number, batch in enumerate(batches(windows), start=1):
        tokens += sum(len(w.ids) for w in batch)
        if number > done:
            _add(model, batch, sums)
            if checkpoint and number % _SAVE == 0:
                checkpoint.save(sums, number)
            watch.progress("fit", tokens, total)
    if not sums or not int(sums["count"]):
        raise NonFinite(
            f"no position of the text has finite states in {model.name}; check weights, text and type"
        )
    return sums


def _add(model: Model, batch: Sequence[Window], sums: Sums) -> None:
    found = read(model, batch)
    if not bool(found.kept.any()):
        return
    n_layers, precision = model.anatomy.n_layers, model.head.precision
    last = found.state(n_layers, found.kept).to(precision)
    if not sums:
        sums.update(_empty(n_layers, last))
        sums["shift"] += torch.stack(
            [found.state(s, found.kept).double().mean(0) for s in range(n_layers + 1)]
        )
    shift = sums["shift"].to(precision)
    y_last = last - shift[n_layers]
    sums["count"] += len(last)
    sums["first"][n_layers] += y_last.sum(0, dtype=torch.float64)
    for s in range(n_layers):
        x = found.state(s, found.kept).to(precision) - shift[s]
        sums["first"][s] += x.sum(0, dtype=torch.float64)
        sums["second"][s] += x.T @ x
        sums["cross"][s] += (y_last - x).T @ x


def _empty(n_layers: int, like: Tensor) -> Sums:
    width = like.shape[1]
    shapes = {"shift": (n_layers + 1, width), "first": (n_layers + 1, width)}
    shapes |= dict.fromkeys(("second", "cross"), (n_layers, width, width))
    zeros = {
        name: torch.zeros(shape, dtype=torch.float64, device=like.device) for name, shape in shapes.items()
    }
    return {"count": torch.zeros((), dtype=torch.int64, device=like.device), **zeros}


def solved(
    sums: Sums, state: int, ridge: float
) -> tuple[Float64[Tensor, "d_model d_state"], Float64[Tensor, " d_model"]]:
    """A and b of one state: A = C (G + lambda I)^-1 with centred sums, b = mean(h_L - h_s) - A mean(h_s).

    lambda = ridge x the mean diagonal of G; b is not penalised.
    """
    n, last = sums["count"], sums["first"].shape[0] - 1
    mean_x = sums["first"][state] / n
    mean_y = sums["first"][last] / n - mean_x
    gram = sums["second"][state] - n * torch.outer(mean_x, mean_x)
    cross = sums["cross"][state] - n * torch.outer(mean_y, mean_x)
    penalty = ridge * gram.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    factor = torch.linalg.cholesky((gram + gram.T) / 2 + penalty * torch.eye(len(gram)).to(gram))
    weight = torch.cholesky_solve(cross.T, factor).T.contiguous()
    shift = sums["shift"]
    bias = mean_y + shift[last] - shift[state] - weight @ (mean_x + shift[state])
    return weight, bias


def _attempt(sums: Sums, state: int, ridge: float) -> tuple[Tensor, Tensor] | None:
    """A and b of one state; None where so small a penalty leaves the matrix singular, as after few positions."""
    try:
        return solved(sums, state, ridge)
    except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
        return None


def _sample(model: Model, windows: Sequence[Window]) -> Float[Tensor, "state position d_model"]:
    """All states at the first kept positions of the validation text."""
    parts: list[Tensor] = []
    for batch in batches(windows):
        found = read(model, batch)
        parts.append(found.states(found.kept))
        if sum(part.shape[1] for part in parts) >= _VALIDATION:
            break
    return torch.cat(parts, dim=1)[:, :_VALIDATION]


def _error(state: Tensor, last: Tensor, weight: Tensor, bias: Tensor) -> float:
    """Mean squared distance of the translated states from the last ones."""
    guess = state + torch.nn.functional.linear(state, weight.to(state), bias.to(state))
    return float((guess - last).square().sum(-1).mean(dtype=torch.float64))
