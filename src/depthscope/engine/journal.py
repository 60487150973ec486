"""A journal remembers the finished steps of a study, so that a killed study goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthscope.store.atomic import make_folder, read_json, write_json


@dataclass(frozen=True)
class Journal:
    """Steps of one study in one folder, keyed by hash(name, parameters, model, data).

    Args:
        folder: where steps are kept, one JSON file a step. model, data: what all steps depend on.
    """

    folder: Path
    model: str
    data: str

    def key(self, name: str, parameters: Mapping[str, Any]) -> str:
        """The step's identity: equal names, parameters, model and data give equal keys."""
        content = json.dumps([name, dict(parameters), self.model, self.data], sort_keys=True)
        return f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def step(self, name: str, parameters: Mapping[str, Any], compute: Callable[[], Any]) -> Any:  # noqa: ANN401
        """The stored value of a finished step, or the value of `compute`, stored before it is returned.

        The value must be JSON; what is returned is what the disk holds, so a resumed study sees the same numbers.
        """
        path = make_folder(self.folder) / f"{self.key(name, parameters)}.json"
        if not path.exists():
            write_json(path, {"name": name, "parameters": dict(parameters), "value": compute()})
        return read_json(path)["value"]

    def finished(self) -> tuple[str, ...]:
        """Keys of the finished steps, sorted."""
        return tuple(sorted(path.stem for path in self.folder.glob("*.json"))) if self.folder.is_dir() else ()
