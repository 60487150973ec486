"""A lens study and the folder it fills: read the text once, fit, judge, save the lens with its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import depthscope
from depthscope.engine.journal import Journal
from depthscope.engine.provenance import hashed, identity
from depthscope.engine.reading import Reading
from depthscope.errors import RunMismatch
from depthscope.fits.quality import card, parameters
from depthscope.fits.watch import SILENT, Watch
from depthscope.materials.window import Windows
from depthscope.results.result import Result
from depthscope.runtime.lens import Lens
from depthscope.runtime.lens_folder import CARD, load_lens, model_card, save_lens
from depthscope.runtime.model import Model
from depthscope.store.atomic import read_json


@runtime_checkable
class LensStudy(Protocol):
    """What fits a lens: a frozen dataclass whose fields are its parameters."""

    @property
    def kind(self) -> str:
        """What the lens is called: "ridge", "tuned"."""
        ...

    @property
    def reading(self) -> Reading:
        """The text it reads."""
        ...

    def run(
        self, model: Model, journal: Journal, windows: Windows, watch: Watch = SILENT
    ) -> tuple[Lens, Result]:
        """The lens, and its quality on held-out documents."""
        ...


def fit(study: LensStudy, model: Model, out: str | Path, *, watch: Watch = SILENT, command: str = "") -> Lens:
    """Fit a lens and leave it in a folder; the same call resumes what was killed and repeats nothing.

    Args:
        out: the folder: `lens.json` (the card), the weights beside it, and `journal/` with the finished steps.

    Raises:
        RunMismatch: when `out` holds a lens of another model, text or parameters.
    """
    model, folder = hashed(model), Path(out)
    windows = study.reading.windows(model)
    journal = Journal(folder / "journal", json.dumps(identity(model)), windows.hash)
    key = journal.key(study.kind, parameters(study))
    if (folder / CARD).exists():
        if read_json(folder / CARD).get("key") != key:
            raise RunMismatch(
                f"{folder} holds a lens of another model, text or parameters; give another --out or remove the folder"
            )
        return load_lens(folder, model)
    lens, result = study.run(model, journal, windows, watch)
    about = {
        **lens.about, "key": key, "model": model_card(model), "data": _data(windows), "quality": card(result),
        "parameters": parameters(study), "command": command, "depthscope": depthscope.__version__,
    }  # fmt: skip
    found = Lens(lens.kind, lens.name, lens.weight, lens.bias, about)
    save_lens(found, folder)
    for unfinished in journal.folder.glob("*.safetensors"):  # what a killed fit would have gone on from
        unfinished.unlink()
    return found


def _data(windows: Windows) -> dict[str, Any]:
    return {
        "source": windows.source, "hash": windows.hash, "documents": len(windows.documents),
        "windows": len(windows.items), "tokens": windows.tokens, "bos": windows.bos,
    }  # fmt: skip
