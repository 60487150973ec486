"""A predictor: the next position's state guessed from the states so far; and a state's expected and novel part.

With h_t the stream after one block, expected_{t+1} = f(h_0 .. h_t) and novel_{t+1} = h_{t+1} - expected_{t+1}. The
guess never sees token t + 1. Each state has a predictor of its own; `depthscope fit predictor` trains them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from depthscope.errors import BadInput, StoreError
from depthscope.runtime.lens_folder import another_model
from depthscope.runtime.model import Model
from depthscope.runtime.predictor_blocks import PAPER, PRESETS, ROBUST, Block, Design, Memory, block, unit_rms
from depthscope.store.atomic import read_json, write_bytes, write_json

__all__ = [
    "PAPER", "PRESETS", "ROBUST", "Design", "Memory", "Nats", "Parts", "Predictor", "Predictors", "load_predictors",
    "novelty", "save_predictors", "split",
]  # fmt: skip

CARD = "predictor.json"
SCHEMA = 1
CONVENTION = "predictor s reads and predicts state s, the output of block s - 1 (s = 0: embedding output)"
LONGEST = 4.0
"""Root mean square that a standardised input is shortened to: a sink at position 0 is a hundred times longer."""
SPREAD = 10.0
"""A log-variance is at most this far from that of the training text."""


class Predictor(nn.Module):
    """Predicts row t + 1 of a stream from its rows up to t, in raw units: mean + unit x (path(x_t) + blocks(x)_t).

    x is the input after the design's norm; mean and scale [d_model] standardise it and unit [] is the size of one
    output; with norm "none" they are 0, 1 and 1. An untrained predictor gives the mean: its last projections are 0.

    Args:
        design: sized by `width` where it leaves heads open.
    """

    mean: Tensor
    scale: Tensor
    unit: Tensor

    def __init__(self, design: Design, width: int) -> None:
        super().__init__()
        self.design, self.width = design.sized(width), width
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("unit", torch.ones(()))
        count = 1 if design.kind in ("gru", "linear") else design.layers
        self.blocks = nn.ModuleList(block(self.design, width) for _ in range(count))
        self.path = nn.Linear(width, width, bias=False) if design.residual == "linear" else None
        self.gain = nn.Parameter(torch.zeros(())) if design.residual == "gain" else None
        self.spread = nn.Linear(2 * width, width) if design.variance else None
        for part in (self.path, self.spread):
            if part is not None:
                nn.init.zeros_(part.weight)

    def forward(self, stream: Float[Tensor, "row token d_model"]) -> Float[Tensor, "row token d_model"]:
        """The prediction at every row: row t predicts row t + 1 of `stream`, raw units in and out.

        Raises:
            BadInput: for a stream of another width.
        """
        return self._expected(self.inputs(stream), None)[0]

    def step(
        self, new: Float[Tensor, "row one d_model"], cache: Memory | None = None
    ) -> tuple[Float[Tensor, "row one d_model"], Memory]:
        """The prediction after new tokens (one or several), and what the next call needs; None starts a text."""
        prediction, _, memory = self._expected(self.inputs(new), cache or Memory(0, ((),) * len(self.blocks)))
        return prediction, memory

    def distribution(
        self, stream: Float[Tensor, "row token d_model"]
    ) -> tuple[Float[Tensor, "row token d_model"], Float[Tensor, "row token d_model"]]:
        """Mean and log-variance of the next row. The mean is that of `forward`; no gradient of the variance reaches it.

        Raises:
            BadInput: where the design has no variance.
        """
        if self.spread is None:
            raise BadInput("this predictor has no variance; train one with variance=True (--variance)")
        x = self.inputs(stream)
        prediction, read, _ = self._expected(x, None)
        log_variance = self.spread(torch.cat((x, read), -1).detach()).float().clamp(-SPREAD, SPREAD)
        return prediction, log_variance + 2 * self.scale.log()

    def standardise(
        self, mean: Float[Tensor, " d_model"], scale: Float[Tensor, " d_model"], unit: float
    ) -> None:
        """Set what inputs are standardised by and outputs are measured in; with norm "none" only the mean is told."""
        if self.design.norm != "none":
            self.mean.copy_(mean)
            self.scale.copy_(scale)
            self.unit.fill_(unit)

    def inputs(self, stream: Tensor) -> Tensor:
        """The stream as the blocks read it, in the predictor's precision."""
        if stream.shape[-1] != self.width:
            raise BadInput(
                f"this predictor reads states of width {self.width}, found {stream.shape[-1]}; it is of another model"
            )
        x = stream.to(self.mean.dtype)
        if self.design.norm == "none":
            return x
        x = (x - self.mean) / self.scale
        if self.design.norm == "rms":
            return unit_rms(x)
        size = x.square().mean(-1, keepdim=True).sqrt()
        return x * (LONGEST / size.clamp_min(LONGEST))

    def _expected(self, x: Tensor, cache: Memory | None) -> tuple[Tensor, Tensor, Memory]:
        """Prediction in raw units, what the blocks gave, and what to remember, which means nothing without a cache."""
        seen, kept = cache or (0, (None,) * len(self.blocks))
        read, memory = None, []
        for each, tensors in zip(self.blocks, kept, strict=True):
            found, after = cast("Block", each)(x if read is None else unit_rms(x + read), seen, tensors)
            read = found if read is None else read + found
            memory.append(after)
        assert read is not None
        out = read + self.path(x) if self.path is not None else read
        if self.gain is not None:
            out = out + self.gain * x * self.scale / self.unit
        raw = self.mean + self.unit * out.to(self.mean.dtype)
        return raw, read, Memory(seen + x.shape[1], tuple(memory))


class Parts(NamedTuple):
    """States at positions 1..T-1 and their two parts, float32 [row position d_model]: h = expected + novel."""

    h: Tensor
    expected: Tensor
    novel: Tensor


def split(predictor: Predictor, stream: Float[Tensor, "row token d_model"]) -> Parts:
    """The predictable and the novel part of every state but the first, without gradients.

    The stream is upcast to float32 before anything is subtracted: in bfloat16 what is left of a long state is mostly
    rounding.

    Raises:
        BadInput: for rows of one token, or a stream of another width.
    """
    if stream.shape[1] < 2:
        raise BadInput(
            f"{stream.shape[1]} token a row; a state is predicted from those before it, give 2 or more"
        )
    with torch.no_grad():
        h = stream.float()
        expected = predictor(h)[:, :-1].float()
    return Parts(h[:, 1:], expected, h[:, 1:] - expected)


class Nats(NamedTuple):
    """Negative log densities of states 1..T-1 in nats, [row position]: given the states before, and given nothing."""

    given_past: Tensor
    marginal: Tensor


def novelty(predictor: Predictor, stream: Float[Tensor, "row token d_model"]) -> Nats:
    """How novel each state is, -log p(h_t | h_<t) of the diagonal Gaussian, beside the training text's own Gaussian.

    Both are densities in raw units, so only differences mean something: marginal - given_past are the nats that the
    past tells of this state.

    Raises:
        BadInput: where the design has no variance.
    """
    with torch.no_grad():
        h = stream.float()
        mean, log_variance = predictor.distribution(h)
        given = gaussian_nats(h[:, 1:], mean[:, :-1], log_variance[:, :-1])
        alone = gaussian_nats(h[:, 1:], predictor.mean, 2 * predictor.scale.log())
    return Nats(given.sum(-1), alone.sum(-1))


def gaussian_nats(
    h: Float[Tensor, "... d_model"],
    mean: Float[Tensor, "... d_model"],
    log_variance: Float[Tensor, "... d_model"],
) -> Float[Tensor, "... d_model"]:
    """-log N(h; mean, exp(log_variance)) of each dimension, in nats."""
    return 0.5 * ((h - mean).square() * (-log_variance).exp() + log_variance + math.log(2 * math.pi))


@dataclass(frozen=True, eq=False)
class Predictors:
    """The predictors of one model, by state.

    Args:
        by_state: state -> predictor. card: model, data, training, quality: what `predictor.json` holds.
    """

    by_state: Mapping[int, Predictor]
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def states(self) -> tuple[int, ...]:
        """States that have a predictor, ascending; state s is the output of block s - 1."""
        return tuple(sorted(self.by_state))

    def at(self, state: int) -> Predictor:
        """The predictor of one state.

        Raises:
            BadInput: when none was trained for it.
        """
        if state not in self.by_state:
            layers = ", ".join(str(s - 1) for s in self.states)
            raise BadInput(f"no predictor of layer {state - 1}; these were trained: layers {layers}")
        return self.by_state[state]

    @property
    def identity(self) -> str:
        """A short digest of all numbers: equal predictors have equal ones."""
        digest = hashlib.sha256()
        for name, value in sorted(_tensors(self).items()):
            digest.update(name.encode() + value.numpy().tobytes())
        return digest.hexdigest()[:16]


def save_predictors(folder: str | Path, predictors: Predictors) -> Path:
    """Write `predictor.json` and the weights as safetensors; returns the folder.

    Weights come first, under a name made of their digest, and the card that names them last: whatever stops the
    process, the folder holds the old predictors or the new ones.

    Raises:
        BadInput: without any predictor. StoreError: when the folder cannot be written.
    """
    from safetensors.torch import save

    if not predictors.by_state:
        raise BadInput("there is no predictor to save; train at least one layer")
    folder = Path(folder)
    file = f"predictor-{predictors.identity}.safetensors"
    write_bytes(folder / file, save(_tensors(predictors)))
    designs = {str(s): asdict(predictors.at(s).design) for s in predictors.states}
    about = {
        "schema": SCHEMA, "identity": predictors.identity, "weights": file, "states": list(predictors.states),
        "designs": designs, "d_model": predictors.at(predictors.states[0]).width, "index_convention": CONVENTION,
    }  # fmt: skip
    write_json(folder / CARD, {**predictors.card, **about})
    for old in folder.glob("predictor-*.safetensors"):
        if old.name != file:
            old.unlink(missing_ok=True)
    return folder


def load_predictors(folder: str | Path, model: Model, *, force: bool = False) -> Predictors:
    """The predictors that a folder holds, on the model's device, for this model only.

    Args:
        force: use predictors of another model or revision all the same; the width must fit in any case.

    Raises:
        BadInput: when there are none, or they are of another model, width or revision.
        StoreError: for a damaged folder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    if not (folder / CARD).is_file():
        raise BadInput(
            f"--predictor {folder}: there is no {CARD}; train one with "
            f"`depthscope fit predictor {model.name} --layers ...`"
        )
    card = read_json(folder / CARD)
    if card.get("schema") != SCHEMA:
        raise StoreError(f"{folder / CARD} has schema {card.get('schema')!r}, this version reads {SCHEMA}")
    _check_model(folder, card, model, force)
    try:
        stored = load_file(folder / str(card["weights"]))
        found = {
            int(s): _built(int(s), Design(**design), card, stored) for s, design in card["designs"].items()
        }
    except (OSError, SafetensorError, KeyError, RuntimeError, TypeError) as error:
        raise StoreError(
            f"the predictors in {folder} are damaged ({error}); copy the whole folder again"
        ) from error
    predictors = Predictors({s: each.to(model.device) for s, each in found.items()}, card)
    if predictors.identity != card.get("identity"):
        raise StoreError(
            f"the weights in {folder} are not those that {CARD} names; copy the whole folder again"
        )
    return predictors


def _check_model(folder: Path, card: Mapping[str, Any], model: Model, force: bool) -> None:
    width, deepest = model.anatomy.d_model, model.anatomy.n_layers
    if card.get("d_model") != width or max(card.get("states", [0])) > deepest:
        raise BadInput(
            f"--predictor {folder} holds predictors of states {card.get('states')} of width {card.get('d_model')}, "
            f"{model.name} has states 0..{deepest} of width {width}; they were trained on another model"
        )
    about = card.get("model")
    reason = another_model(about, model) if isinstance(about, Mapping) else None
    if reason and not force:
        raise BadInput(
            f"--predictor {folder} is of {reason}; train one on this model with `depthscope fit predictor`"
        )


def _built(state: int, design: Design, card: Mapping[str, Any], stored: Mapping[str, Tensor]) -> Predictor:
    predictor = Predictor(design, int(card["d_model"]))
    first = f"{state}."
    predictor.load_state_dict({k.removeprefix(first): v for k, v in stored.items() if k.startswith(first)})
    return predictor.eval().requires_grad_(False)


def _tensors(predictors: Predictors) -> dict[str, Tensor]:
    return {
        f"{state}.{name}": value.detach().float().cpu().contiguous()
        for state, predictor in predictors.by_state.items()
        for name, value in predictor.state_dict().items()
    }
