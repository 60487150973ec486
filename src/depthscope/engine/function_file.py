"""A function vector in a file: taken out of a run, kept with the weights it belongs to, added while a model writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.errors import BadInput, LoadError, Refused, UnknownName
from depthscope.runtime.continued import at_the_end, continued
from depthscope.runtime.edits import Edit
from depthscope.runtime.fingerprint import weights_hash
from depthscope.runtime.model import Model
from depthscope.store.atomic import write_bytes
from depthscope.store.run import open_run

NAME = "function_vectors"


@dataclass(frozen=True)
class Function:
    """A vector that makes a model do a task.

    Args:
        task: its name. state: the state it is added to; 0 is the embedding output. weights: hash of the weights.
    """

    task: str
    state: int
    vector: Float[Tensor, " d_model"]
    weights: str

    def save(self, path: str | Path) -> Path:
        """Write it as safetensors, its name, state and weights in the file's metadata."""
        from safetensors.torch import save

        about = {
            "task": self.task,
            "state": str(self.state),
            "weights": self.weights,
            "kind": "function vector",
        }
        write_bytes(Path(path), save({"vector": self.vector.contiguous()}, about))
        return Path(path)

    def edit(self, scale: float = 1.0) -> Edit:
        """The edit that adds it to the last position of whatever is read."""
        return at_the_end(self.state, scale * self.vector[None])


def function_of(source: str | Path) -> Function:
    """A function from a file that `Function.save` wrote, or from a run folder as RUN:TASK.

    Raises:
        LoadError: for a file that holds none. UnknownName: for a task the run did not read.
        BadInput: for a task that has no vector, or a run that looked for none.
    """
    path = Path(source)
    if path.is_file():
        return _from_file(path)
    folder, colon, task = str(source).rpartition(":")
    if not colon or not Path(folder).is_dir():
        raise LoadError(
            f"{str(source)!r} is no file of a function vector and no RUN:TASK; see function_vectors"
        )
    return _from_run(Path(folder), task)


def _from_file(path: Path) -> Function:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            return Function(about["task"], int(about["state"]), file.get_tensor("vector"), about["weights"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise LoadError(f"{path} holds no function vector ({error}); save one with `steer --save`") from error


def _from_run(folder: Path, task: str) -> Function:
    run = open_run(folder)
    if NAME not in run:
        raise BadInput(f"{folder} looked for no function vectors; run it with --analyses {NAME}")
    vector, state = run[NAME]["vector"], run[NAME]["chosen_state"]
    tasks = [str(name) for name in np.asarray(vector.axes["task"])]
    if task not in tasks:
        raise UnknownName(f"task in {folder}", task, tasks)
    values = vector.value[tasks.index(task)]
    if not np.isfinite(values).all():
        raise BadInput(f"{task!r} has no vector in {folder}: {vector.missing}")
    weights = str(run.manifest["model"]["weights_hash"])
    at = state.at(task=task, variant="vector")
    return Function(task, int(at), torch.from_numpy(values.copy()).float(), weights)


def continued_under(
    model: Model, function: Function, prompts: Sequence[str], new: int = 8, scale: float = 1.0
) -> list[dict[str, Any]]:
    """Each prompt continued greedily without and with the function, added at the last position of every step.

    Raises:
        Refused: for other weights than those the vector was taken from. BadInput: without a prompt.
    """
    held = str(model.provenance.get("weights_hash") or weights_hash(model.net))
    if held != function.weights:
        raise Refused(
            f"the vector of {function.task!r} was taken from other weights ({function.weights[:12]}) than those of "
            f"{model.name} ({held[:12]})"
        )
    if not prompts:
        raise BadInput("there is nothing to continue; give a prompt")
    found: list[dict[str, Any]] = []
    for prompt in prompts:
        ids = model.tokenizer.encode(prompt)
        texts = continued(model, ids, function.state, [None, scale * function.vector], new)
        found.append({"prompt": prompt, "without": texts[0], "with": texts[1]})
    return found
