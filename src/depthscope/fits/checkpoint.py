"""A checkpoint: where a fit is, on the disk, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from depthscope.engine.journal import Journal
from depthscope.store.atomic import make_folder, write_bytes


@dataclass(frozen=True)
class Checkpoint:
    """Tensors and the step they belong to, in one file beside the journal, keyed as a step of the journal is.

    Args:
        journal: what the key depends on besides name and parameters: model and data.
    """

    journal: Journal
    name: str
    parameters: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The file."""
        return self.journal.folder / f"{self.journal.key(self.name, self.parameters)}.safetensors"

    def save(self, tensors: Mapping[str, Tensor], step: int, notes: Mapping[str, Any] | None = None) -> None:
        """Replace what was stored. `notes` is any JSON."""
        from safetensors.torch import save

        make_folder(self.journal.folder)
        about = {"step": str(step), "notes": json.dumps(dict(notes or {}))}
        content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        write_bytes(self.path, save(content, about))

    def load(self) -> tuple[dict[str, Tensor], int] | None:
        """Tensors and step, or None where nothing was stored."""
        from safetensors import safe_open

        if not self.path.exists():
            return None
        with safe_open(self.path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, int(file.metadata()["step"])  # noqa: SIM118

    def notes(self) -> dict[str, Any]:
        """The JSON stored beside the tensors."""
        from safetensors import safe_open

        with safe_open(self.path, "pt") as file:
            return json.loads(file.metadata()["notes"])

    def drop(self) -> None:
        """Remove the file: the fit is finished."""
        self.path.unlink(missing_ok=True)
