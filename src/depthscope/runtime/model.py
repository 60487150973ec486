"""A model as depthscope sees it, and a batch of what it reads."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from depthscope.anatomy.anatomy import Anatomy, resolve, text_config
from depthscope.errors import BadInput

if TYPE_CHECKING:
    from depthscope.runtime.head import Head


@dataclass(frozen=True)
class Batch:
    """Rows of equal length that one forward pass reads.

    Args:
        inputs: what the network is called with: `input_ids` [row token], or `pixel_values`; `attention_mask` only
            where rows are padded (a mask means another kernel).
        mask: True at real tokens, [row token].
        documents: the document of each row. windows: the number of each row's window in the run, or row numbers.
    """

    inputs: Mapping[str, Tensor]
    mask: Bool[Tensor, "row token"]
    documents: tuple[str, ...] = ()
    windows: tuple[int, ...] = ()

    @property
    def ids(self) -> Int[Tensor, "row token"]:
        """Token ids; refused for images."""
        if "input_ids" not in self.inputs:
            raise BadInput(f"this batch holds {', '.join(self.inputs)}, not token ids")
        return self.inputs["input_ids"]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.mask.shape[0])

    @property
    def length(self) -> int:
        """Tokens a row, padding included."""
        return int(self.mask.shape[1])

    @classmethod
    def of_ids(
        cls, ids: Tensor | Sequence[Sequence[int]], documents: Sequence[str] = (), pad: int = 0
    ) -> Batch:
        """A batch of token ids; rows of unequal length are padded on the right and masked."""
        rows = [torch.as_tensor(row, dtype=torch.long) for row in ids]
        if not rows or min(len(row) for row in rows) == 0:
            raise BadInput("a batch needs at least one row and every row at least one token")
        longest = max(len(row) for row in rows)
        mask = torch.stack([torch.arange(longest) < len(row) for row in rows])
        padded = torch.stack([nn.functional.pad(row, (0, longest - len(row)), value=pad) for row in rows])
        inputs = (
            {"input_ids": padded}
            if bool(mask.all())
            else {"input_ids": padded, "attention_mask": mask.long()}
        )
        return cls(
            inputs, mask, tuple(documents) or tuple(str(k) for k in range(len(rows))), tuple(range(len(rows)))
        )

    def select(self, rows: Sequence[int]) -> Batch:
        """Some rows of the batch."""
        index = torch.as_tensor(list(rows))
        inputs = {name: value[index] for name, value in self.inputs.items()}
        return Batch(inputs, self.mask[index], _picked(self.documents, rows), _picked(self.windows, rows))

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        moved = {name: value.to(device) for name, value in self.inputs.items()}
        return replace(self, inputs=moved, mask=self.mask.to(device))


T = TypeVar("T")


def _picked(names: tuple[T, ...], rows: Sequence[int]) -> tuple[T, ...]:
    return tuple(names[r] for r in rows) if names else ()


@dataclass(frozen=True)
class Model:
    """A network with its tokenizer, its anatomy and where it came from.

    Args:
        net: the loaded network, in evaluation mode.
        tokenizer: with `encode`, `decode` and `convert_ids_to_tokens`; None for models that read no text.
        provenance: name, revision, recipe to load it again, weights hash.

    Example:
        >>> model.name, model.anatomy.n_layers, model.anatomy.d_model
        ('tiny-llama', 4, 32)
    """

    net: nn.Module
    tokenizer: Any
    anatomy: Anatomy
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the first parameters are."""
        return next(self.net.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the first floating parameters."""
        return next(p.dtype for p in self.net.parameters() if p.is_floating_point())

    @property
    def name(self) -> str:
        """The name it was loaded by."""
        return str(self.provenance.get("name", self.anatomy.name))

    @property
    def config(self) -> Any:  # noqa: ANN401  (a transformers configuration)
        """The configuration that holds the sizes."""
        return text_config(self.net)

    @cached_property
    def head(self) -> Head:
        """Final norm, readout, unembedding, scale and cap, exactly as the model applies them."""
        from depthscope.runtime.head import Head

        return Head(self.anatomy, self.dtype)

    @cached_property
    def precise(self) -> Model:
        """The same weights in float32 where the model runs in less; counterfactual sweeps use it."""
        if self.dtype in (torch.float32, torch.float64):
            return self
        net = copy.deepcopy(self.net).to(torch.float32)
        family = self.anatomy.family
        return Model(
            net,
            self.tokenizer,
            resolve(net, family, self.anatomy.name, self.anatomy.guessed),
            self.provenance,
        )


def learnt_positions(model: Model) -> int | None:
    """How many positions have an embedding of their own; None where positions are computed (rotary) or not encoded."""
    tables = [name for name, module in model.net.named_modules() if isinstance(module, nn.Embedding)]
    learnt = any("pos" in name or name.endswith("wpe") for name in tables)
    return getattr(model.config, "max_position_embeddings", None) if learnt else None
