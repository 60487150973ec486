"""Effects of counterfactuals: what a sweep hands over, and the sums that it keeps on the way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Effects:
    """Reduced effects of each variant on each row of the batch; sums over that row's measured positions.

    `future_*` are sums over the branches of a row and the measured positions from each split on, with the edits before
    the split only; zero where the sweep had no splits. `local_changed` is zero where it was not asked for.

    Args:
        names: the variants, in order.
        output_kl: sum of KL(clean || variant), nats, [variant row]. loss_increase: sum of the rise of cross-entropy.
        shift: sum of ||p - p'||, the distance of the output distributions, 0 to sqrt 2 a position.
        changed: sum of the norms of the change of each layer's block write, [variant layer row]; 0 before the variant.
        clean: sum of the norms of the clean block writes, [layer row].
        positions: measured positions a row; targets: those with a next token.
        local_changed: like `changed` where a layer alone reads the clean stream without what the variant took away
            at its first layer: the direct path, [variant layer row].
        floor_kl, floor_loss, floor_shift: mean output KL, absolute loss difference and shift of the clean pass against
            itself riding in the batches of the sweep: the noise floor. floor_changed: the same for each layer's write,
            relative, [layer]. future_floor_*: the same at the places of branches.
        relative: |change| / |clean write| at each position, float32 [variant layer row token]; NaN where not measured.
        shifts: ||p - p'|| at each position, [variant row token]. future_relative, future_shifts: at each place.
        layer_tokens: layer-token evaluations of the sweep, the clean pass apart.
    """

    names: tuple[str, ...]
    output_kl: Tensor
    loss_increase: Tensor
    shift: Tensor
    changed: Tensor
    clean: Tensor
    positions: Tensor
    targets: Tensor
    future_kl: Tensor
    future_loss: Tensor
    future_shift: Tensor
    future_changed: Tensor
    future_clean: Tensor
    future_positions: Tensor
    future_targets: Tensor
    local_changed: Tensor
    floor_kl: float
    floor_loss: float
    floor_shift: float
    floor_changed: Tensor
    future_floor_kl: float
    future_floor_loss: float
    future_floor_shift: float
    future_floor_changed: Tensor
    relative: Tensor
    shifts: Tensor
    future_relative: Tensor
    future_shifts: Tensor
    layer_tokens: int


class Writes:
    """Sums of the changes of block writes at some places of each row: the tokens, or the places of branches.

    Args:
        measured: which places count, [row place].
    """

    def __init__(self, variants: int, depth: int, measured: Bool[Tensor, "row place"]) -> None:
        rows, places = measured.shape
        self.measured = measured
        self.changed = torch.zeros(variants, depth, rows, dtype=torch.float64)
        self.clean = torch.zeros(depth, rows, dtype=torch.float64)
        self.drift = torch.zeros(depth, rows, dtype=torch.float64)
        self.relative = torch.zeros(variants, depth, rows, places, dtype=torch.float32)
        self.relative[:, :, ~measured.cpu()] = torch.nan
        self._norms = torch.zeros(rows, places)

    def begin(self, layer: int, write: Float[Tensor, "row place d_model"]) -> None:
        """Take the clean write of a layer; what is noted from now on is changes of it."""
        self._norms = norms(write)
        self.clean[layer] = self.summed(self._norms)

    def note(self, variant: int, layer: int, change: Float[Tensor, "row place d_model"]) -> None:
        """Add one variant's change of the layer's write."""
        size = norms(change)
        self.changed[variant, layer] = self.summed(size)
        ratio = (size / self._norms.clamp_min(1e-6)).float()
        self.relative[variant, layer] = torch.where(self.measured, ratio, torch.nan).cpu()

    def note_drift(self, layer: int, change: Float[Tensor, "row place d_model"]) -> None:
        """Take what the clean stream, riding along, differs from itself by."""
        self.drift[layer] = self.summed(norms(change))

    def summed(self, values: Float[Tensor, "row place"]) -> Tensor:
        """Sums over the measured places of each row, float64."""
        return torch.where(self.measured, values, 0.0).double().sum(-1).cpu()

    def floor(self) -> Float[Tensor, " layer"]:
        """The drift relative to the clean writes."""
        return self.drift.sum(-1) / self.clean.sum(-1).clamp_min(1e-30)


def norms(vectors: Float[Tensor, "*items d_model"]) -> Float[Tensor, "*items"]:
    """Euclidean norms in float32 or more."""
    return torch.linalg.vector_norm(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)
