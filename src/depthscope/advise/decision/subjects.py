"""The models under comparison, opened only when something about them is not known yet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from depthscope.advise.shorten import shortened
from depthscope.results.decision import Kind
from depthscope.runtime.embedded import EMBEDDED, version
from depthscope.runtime.load import load
from depthscope.runtime.model import Model


@dataclass
class Subject:
    """One model: how to open it, and what identifies it without opening it.

    Args:
        stamp: JSON that changes where the model does; part of the key of everything that is measured of it.
        removed: layers of the base that it lacks, where it was made here. step: of the procedure, in which it
        comes in.
        price_per_1k_tokens: what a vendor asks for it, if anyone does.
    """

    name: str
    kind: Kind
    stamp: dict[str, Any]
    opener: Callable[[], Model]
    removed: tuple[int, ...] = ()
    step: int = 2
    price_per_1k_tokens: float | None = None
    quantised_after_pruning: bool = False
    _held: list[Model] = field(default_factory=list[Model], repr=False)

    @property
    def model(self) -> Model:
        """The model, opened at the first call."""
        if not self._held:
            self._held.append(self.opener())
        return self._held[0]

    def close(self) -> None:
        """Let go of the model."""
        self._held.clear()


def named(
    name: str,
    kind: Kind,
    model: str,
    revision: str | None,
    dtype: str | None,
    device: str | None,
    **more: Any,
) -> Subject:
    """A model that is loaded by its name or path."""
    stamp = {"model": stamped(model), "revision": revision, "dtype": dtype, "device": device}

    def opener() -> Model:
        return load(model, revision=revision, dtype=dtype, device=device)

    return Subject(name, kind, stamp, opener, **more)


def without(base: Subject, removed: tuple[int, ...]) -> Subject:
    """The base without some of its layers; its weights are shared with the base."""
    gone = tuple(sorted(removed))

    def opener() -> Model:
        model = base.model
        return shortened(model, [k for k in range(model.anatomy.n_layers) if k not in gone])

    return Subject(
        f"{base.name} -{len(gone)}", "ladder", {**base.stamp, "removed": list(gone)}, opener, gone, step=5
    )


def stamped(model: str) -> str:
    """What changes when a model does: package and version, sizes and times of its files, or the name of a hub id."""
    if model in EMBEDDED:
        return f"{model} {version(model)}"
    path = Path(model)
    if not path.exists():
        return model
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    said = [f"{f.name} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files if f.is_file()]
    return f"{path.name} {hashlib.sha256(chr(10).join(said).encode()).hexdigest()[:16]}"
