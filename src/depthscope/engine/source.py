"""Sources: the windows that one pass reads, with what counts as independent in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from depthscope.errors import BadInput
from depthscope.materials.window import Windows
from depthscope.runtime.lens import LOGIT, Lens
from depthscope.runtime.model import Model
from depthscope.store.run import RunFolder

Lenses = str | Path | Lens | Sequence[str | Path | Lens]
"""One lens or several: `logit`, a folder, several with commas, or lens objects."""


@dataclass(frozen=True)
class Source:
    """The windows of one material.

    Args:
        name: of the material, unique in a run. kind: what an independent unit is. units: the unit of each window.
    """

    name: str
    windows: Windows
    kind: str
    units: tuple[str, ...]

    @classmethod
    def of(cls, name: str, windows: Windows) -> Source:
        """With the units of the windows."""
        kind, units = windows.units()
        return cls(name, windows, kind, units)

    def write(self, folder: RunFolder) -> None:
        """Leave the ids that are read in a run folder."""
        items = self.windows.items
        folder.write_inputs(
            self.name, [w.index for w in items], [w.document for w in items], [w.ids for w in items]
        )

    def described(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "source": self.windows.source,
            "hash": self.windows.hash,
            "documents": len(self.windows.documents),
            "windows": len(self.windows.items),
            "tokens": self.windows.tokens,
            "dropped_tokens": self.windows.dropped,
            "bos": self.windows.bos,
            "units": self.kind,
        }

    def caveats(self, left_out: int) -> tuple[str, ...]:
        """What a reader of any number from these windows must know.

        Args:
            left_out: windows that had states that are not finite.
        """
        few = "Fewer than 8 documents were read, so intervals are over windows, which are not independent."
        broken = (
            f"{left_out} of {len(self.windows.items)} windows had NaN or infinite states and were left out."
        )
        return ((few,) if self.kind == "windows" else ()) + ((broken,) if left_out else ())


def lenses_of(asked: Lenses, model: Model) -> tuple[Lens, ...]:
    """The lenses of a run, the first one its own; folders whose lenses have one name are called by the folder's.

    Raises:
        BadInput: for none, or two of one name. What `load_lens` raises for a folder that does not fit the model.
    """
    items = (
        asked.split(",") if isinstance(asked, str) else [asked] if isinstance(asked, Path | Lens) else asked
    )
    items = [item for item in items if not isinstance(item, str) or item.strip()]
    found = [_lens(item, model) for item in items]
    kinds = [lens.name for lens in found]
    found = [
        replace(lens, name=Path(item).name)
        if kinds.count(lens.name) > 1 and not isinstance(item, Lens) and lens is not LOGIT
        else lens
        for lens, item in zip(found, items, strict=True)
    ]
    names = [lens.name for lens in found]
    if not found or len(set(names)) < len(names):
        raise BadInput(
            f"lens={asked!r} names {names or 'no lens'}; give logit, a folder that `depthscope fit` wrote, or several "
            "of different names with commas"
        )
    return tuple(found)


def _lens(item: str | Path | Lens, model: Model) -> Lens:
    if isinstance(item, Lens):
        return item
    if str(item).strip() == LOGIT.name:
        return LOGIT
    from depthscope.runtime.lens_folder import load_lens

    return load_lens(str(item).strip(), model)
