"""Temporal features: a published way to split a state whose predictable part has seen the current token.

The current state asks, earlier codes answer, and what they give is scaled by projecting the current state onto it. So
the predictable part knows x_t: it is leaky, and stands here to be compared with a predictor that does not know it.
Source: Lubana et al. (Temporal Feature Analysis, arXiv 2511.01836), built small from its description.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from depthscope.errors import BadInput, StoreError
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.lens_folder import another_model
from depthscope.runtime.model import Model
from depthscope.runtime.predictor import Parts
from depthscope.store.atomic import read_json, write_bytes, write_json

CARD = "temporal.json"
SCHEMA = 1


@dataclass(frozen=True)
class Sizes:
    """How one temporal feature model is built.

    Args:
        width: of the states. codes: a multiple of the width. heads: of the attention over earlier codes. kept: codes of
            the novel part that are not zero; 0 for a twelfth of the width.
    """

    width: int
    codes: int = 4
    heads: int = 4
    kept: int = 0

    def __post_init__(self) -> None:
        check_ranges(self, width=at_least(1), codes=at_least(1), heads=at_least(1), kept=at_least(0))
        if self.width % self.heads:
            raise BadInput(f"width={self.width}, heads={self.heads}: the width is a multiple of the heads")

    @property
    def active(self) -> int:
        """Codes of the novel part that are kept."""
        return self.kept or max(1, self.width // 12)


class Rebuilt(NamedTuple):
    """A scaled state's parts, [row token width]: what earlier codes give, and what few codes give of the rest."""

    predictable: Tensor
    novel: Tensor


class TemporalFeatures(nn.Module):
    """Splits x_t into what earlier codes give, scaled by x_t itself, and a sparse code of what is left.

    With x = (h - mean) / size and dictionary W [code width]: z_s = relu(W x_s + b); attention from query(x_t) over keys
    and values of z_s, s < t, gives p_t = relu(out) W, and predictable_t = p_t (x_t . p_t) / (p_t . p_t). The novel
    part is the largest codes of relu(W (x_t - predictable_t) + b), times W. Position 0 has nothing to look at: 0.
    """

    mean: Tensor
    size: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        width, many = sizes.width, sizes.codes * sizes.width
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("size", torch.ones(()))
        self.dictionary = nn.Parameter(torch.randn(many, width) / width**0.5)
        self.bias = nn.Parameter(torch.zeros(many))
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(many, width, bias=False)
        self.value = nn.Linear(many, width, bias=False)
        self.out = nn.Linear(width, many)

    def forward(self, x: Float[Tensor, "row token width"]) -> Rebuilt:
        """Both parts of scaled states."""
        predictable = self._predictable(x)
        codes = self._codes(x - predictable)
        top = codes.topk(self.sizes.active, -1)
        sparse = torch.zeros_like(codes).scatter(-1, top.indices, top.values)
        return Rebuilt(predictable, sparse @ self.dictionary)

    def scaled(self, stream: Float[Tensor, "row token width"]) -> Float[Tensor, "row token width"]:
        """States minus the mean, at an average norm of 1."""
        return (stream.float() - self.mean) / self.size

    def split(self, stream: Float[Tensor, "row token width"]) -> Parts:
        """Positions 1..T-1 in raw units: h, the predictable part (which has seen h), and all that is left.

        Raises:
            BadInput: for a stream of another width, or rows of one token.
        """
        if stream.shape[-1] != self.sizes.width or stream.shape[1] < 2:
            raise BadInput(
                f"temporal features of width {self.sizes.width} read rows of 2 tokens or more, found "
                f"{tuple(stream.shape)}"
            )
        with torch.no_grad():
            h = stream.float()
            expected = self.mean + self.size * self._predictable(self.scaled(h))
        return Parts(h[:, 1:], expected[:, 1:], h[:, 1:] - expected[:, 1:])

    def _codes(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.dictionary.T + self.bias)

    def _predictable(self, x: Tensor) -> Tensor:
        """What earlier codes give, scaled so that what is left is at right angles to it; 0 at position 0."""
        before = self._codes(x[:, :-1])
        heads = (self.sizes.heads, -1)
        query, key, value = (
            part.unflatten(-1, heads).transpose(1, 2)
            for part in (self.query(x[:, 1:]), self.key(before), self.value(before))
        )
        read = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        guess = torch.relu(self.out(read.transpose(1, 2).flatten(2))) @ self.dictionary
        share = (x[:, 1:] * guess).sum(-1, keepdim=True) / guess.square().sum(-1, keepdim=True).clamp_min(
            1e-12
        )
        return nn.functional.pad(share * guess, (0, 0, 1, 0))


@dataclass(frozen=True, eq=False)
class TemporalFolder:
    """Temporal features of one model by state, with their card."""

    by_state: Mapping[int, TemporalFeatures]
    card: Mapping[str, Any] = field(default_factory=dict)

    def at(self, state: int) -> TemporalFeatures:
        """Those of one state.

        Raises:
            BadInput: when none were trained for it.
        """
        if state not in self.by_state:
            known = ", ".join(str(s - 1) for s in sorted(self.by_state))
            raise BadInput(f"no temporal features of layer {state - 1}; these were trained: layers {known}")
        return self.by_state[state]


def save_temporal_features(folder: str | Path, found: TemporalFolder) -> Path:
    """Write `temporal.json` and the weights as safetensors; returns the folder."""
    from safetensors.torch import save

    folder = Path(folder)
    tensors = {
        f"{state}.{name}": value.detach().float().cpu().contiguous()
        for state, each in found.by_state.items() for name, value in each.state_dict().items()
    }  # fmt: skip
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    file = f"temporal-{digest.hexdigest()[:16]}.safetensors"
    write_bytes(folder / file, save(tensors))
    sizes = {str(state): asdict(each.sizes) for state, each in found.by_state.items()}
    write_json(folder / CARD, {**found.card, "schema": SCHEMA, "weights": file, "sizes": sizes})
    for old in folder.glob("temporal-*.safetensors"):
        if old.name != file:
            old.unlink(missing_ok=True)
    return folder


def load_temporal_features(folder: str | Path, model: Model) -> TemporalFolder:
    """The temporal features in a folder, on the model's device, for this model only.

    Raises:
        BadInput: when there are none, or they are of another model. StoreError: for a damaged folder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    if not (folder / CARD).is_file():
        raise BadInput(f"{folder}: there is no {CARD}; train one with fit_temporal_features")
    card = read_json(folder / CARD)
    about = card.get("model")
    reason = another_model(about, model) if isinstance(about, Mapping) else None
    widths = {sizes["width"] for sizes in card["sizes"].values()}
    if widths != {model.anatomy.d_model} or reason:
        raise BadInput(
            f"{folder} holds temporal features of {reason or f'another model, of width {sorted(widths)}'}; train "
            "some on "
            f"{model.name}"
        )
    try:
        stored = load_file(folder / str(card["weights"]))
        found: dict[int, TemporalFeatures] = {}
        for state, sizes in card["sizes"].items():
            each = TemporalFeatures(Sizes(**sizes))
            each.load_state_dict(
                {k.removeprefix(f"{state}."): v for k, v in stored.items() if k.startswith(f"{state}.")}
            )
            found[int(state)] = each.eval().requires_grad_(False).to(model.device)
    except (OSError, SafetensorError, KeyError, RuntimeError, TypeError) as error:
        raise StoreError(
            f"the temporal features in {folder} are damaged ({error}); train them again"
        ) from error
    return TemporalFolder(found, card)
