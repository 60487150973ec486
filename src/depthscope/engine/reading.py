"""Reading: how text becomes the windows of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthscope.errors import BadInput, Refused
from depthscope.materials.edges import Bos
from depthscope.materials.reserved import read_free
from depthscope.materials.text import cut
from depthscope.materials.window import Windows
from depthscope.runtime.model import Model, learnt_positions


@dataclass(frozen=True)
class Reading:
    """How text becomes windows; all of it is recorded.

    Args:
        text, field: see `materials.text.read`. tokens, window, bos, max_length, chat: see `materials.text.cut`.
        reserve: share of the documents that is left out, see `materials.reserved`.
    """

    text: str | Path | Sequence[str] | None = None
    field: str = "text"
    tokens: int = 8192
    window: int = 256
    bos: Bos = "auto"
    max_length: int | None = None
    chat: bool = False
    reserve: float = 0.0

    def windows(self, model: Model) -> Windows:
        """Read and cut.

        Raises:
            Refused: for models that read images. BadInput: for windows longer than the positions a model has learnt.
        """
        if model.tokenizer is None:
            raise Refused(
                f"{model.name} reads {model.anatomy.family.reads}, it has no tokenizer; an audit reads text"
            )
        limit = learnt_positions(model)
        if limit is not None and self.window > limit:
            raise BadInput(
                f"--window {self.window} is longer than the {limit} positions that {model.name} has learnt; "
                f"use --window {limit} or less"
            )
        return self.cut(model.tokenizer, model.config.model_type)

    def cut(self, tokenizer: Any, model_type: str) -> Windows:  # noqa: ANN401
        """Read and cut with a tokenizer, without a model."""
        source, documents = read_free(self.text, self.field, self.reserve)
        return cut(
            documents, tokenizer, source=source, tokens=self.tokens, window=self.window, bos=self.bos,
            model_type=model_type, max_length=self.max_length, chat=self.chat,
        )  # fmt: skip
