"""Reading: how text becomes the windows of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from depthscope.errors import Refused
from depthscope.materials.text import Bos, Windows, cut, read
from depthscope.runtime.model import Model


@dataclass(frozen=True)
class Reading:
    """How text becomes windows; all of it is recorded.

    Args:
        text, field: see `materials.text.read`. tokens, window, bos, max_length, chat: see `materials.text.cut`.
    """

    text: str | Path | Sequence[str] | None = None
    field: str = "text"
    tokens: int = 8192
    window: int = 256
    bos: Bos = "auto"
    max_length: int | None = None
    chat: bool = False

    def windows(self, model: Model) -> Windows:
        """Read and cut.

        Raises:
            Refused: for models that read images.
        """
        if model.tokenizer is None:
            raise Refused(
                f"{model.name} reads {model.anatomy.family.reads}, it has no tokenizer; an audit reads text"
            )
        source, documents = read(self.text, self.field)
        return cut(
            documents, model.tokenizer, source=source, tokens=self.tokens, window=self.window, bos=self.bos,
            model_type=model.config.model_type, max_length=self.max_length, chat=self.chat,
        )  # fmt: skip
