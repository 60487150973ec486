"""A registry turns a folder of one-file plug-ins into a mapping from name to object.

The file name is the name. Nothing is imported until an object is asked for, so listing is cheap. Packages from
outside join through an entry point of the group `depthscope.<kind>`; the folder wins where both have a name.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from depthscope.errors import UnknownName


@dataclass(frozen=True)
class Registry:
    """The plug-ins of one folder: `registry[name]` imports the file and returns its object.

    Args:
        kind: what the objects are called in messages, such as "analysis".
        package: dotted name of the folder.
        attribute: the object's name inside each file; "{camel}" stands for the file name in CamelCase.

    Raises:
        UnknownName: for a name that neither the folder nor an entry point has; it lists the nearest.
    """

    kind: str
    package: str
    attribute: str

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All known names, sorted; reads file names only."""
        inside = {m.name for m in pkgutil.iter_modules([str(self.folder)]) if not m.name.startswith("_")}
        return tuple(sorted(inside | set(self._outside)))

    @cached_property
    def folder(self) -> Path:
        """The folder that holds the files, found without importing the package itself."""
        return Path(__file__).parent.joinpath(*self.package.split(".")[1:])

    @cached_property
    def _outside(self) -> dict[str, importlib.metadata.EntryPoint]:
        found = importlib.metadata.entry_points(group=self.package)
        return {point.name: point for point in found}

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  (each kind has its own type; callers annotate)
        if name not in self.names:
            raise UnknownName(self.kind, name, self.names)
        if (self.folder / f"{name}.py").exists():
            module = importlib.import_module(f"{self.package}.{name}")
            camel = "".join(word.capitalize() for word in name.split("_"))
            return getattr(module, self.attribute.format(camel=camel))
        return self._outside[name].load()

    def docstring(self, name: str) -> str:
        """The module docstring of a plug-in, read from its source without importing it."""
        path = self.folder / f"{name}.py"
        if not path.exists():
            return getattr(self[name], "__doc__", None) or ""
        return _docstring(path)


@cache
def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


ANALYSES = Registry("analysis", "depthscope.analyses", "{camel}")
FAMILIES = Registry("family", "depthscope.anatomy.families", "FAMILY")
PLOTS = Registry("plot", "depthscope.plots", "plot")
