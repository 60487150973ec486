"""The recipe of an encoder: which state of a model, through which norm, pooled how, and what stands behind it."""

from __future__ import annotations

from dataclasses import dataclass

from depthscope.advise.layer_affine import parsed
from depthscope.errors import BadInput, Refused
from depthscope.measures.pooling import POOLINGS
from depthscope.ranges import check_names
from depthscope.runtime.model import Model

MODES = {"mean": "mean", "first": "cls", "last": "lasttoken", "weighted_mean": "weightedmean"}
"""Our poolings by the names that sentence-transformers gives them."""


@dataclass(frozen=True)
class Recipe:
    """Which vectors an encoder gives.

    Args:
        state: 0..L, the number of blocks that run. pooling: see `measures.pooling`. norm: through the final norm.
        post: an affine map behind pooling, see `layer_affine.fitted`. unit: scaled to length 1 at the end.
        max_tokens: longer texts are cut.
    """

    state: int
    pooling: str = "mean"
    norm: bool = True
    post: str = "none"
    unit: bool = False
    max_tokens: int = 512

    def check(self, model: Model) -> None:
        """Nothing, where the model can be cut to this and the library can say it.

        Raises:
            BadInput: for a state that does not exist, or words that cannot stand behind pooling.
            UnknownName: for an unknown pooling. Refused: for what a stock folder cannot hold, with the reason.
        """
        depth = model.anatomy.n_layers
        if not 0 <= self.state <= depth:
            raise BadInput(f"{model.name} has states 0 to {depth}, not {self.state}")
        check_names(self, pooling=POOLINGS)
        if self.pooling not in MODES:
            raise Refused(
                f"sentence-transformers has no pooling like {self.pooling!r}; it has {', '.join(MODES)}. Export with "
                "one of these, or pool yourself with depthscope.engine.pooled"
            )
        if self.raw(model) and self.state == depth:
            raise Refused(
                f"state {depth} of {model.name} before the final norm cannot be exported: the library hands on the "
                "last state behind the norm, and there is no further block whose input it would be. Export it with the "
                f"norm, or state {depth - 1} without"
            )
        kind, kept = parsed(self.post)
        if kind in ("pca", "whiten") and kept > model.anatomy.d_model:
            raise BadInput(
                f"{self.post} keeps more directions than the {model.anatomy.d_model} of {model.name}"
            )

    def raw(self, model: Model) -> bool:
        """Whether the state is taken before a final norm that the model has."""
        return not self.norm and model.anatomy.final_norm is not None

    def blocks(self, model: Model) -> int:
        """Blocks in the exported network: one more than run for the state where its norm must be gone round."""
        return self.state + (self.raw(model) and self.state > 0)
