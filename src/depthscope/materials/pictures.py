"""Pictures: grids of textured cells with a class, photos from a folder, and the pixels that a model of images reads.

A synthetic picture is a grid of cells, each with one of some textures. Most cells are background, all of one texture;
the others show textures of which the most frequent one is the picture's class. In a photo the third of the patches
with the least contrast stands for background, the quarter of the picture's brightness that a patch is in for its own
texture, and the folder it lies in for its class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.errors import BadInput, EmptyMaterial, MissingPackage, Refused
from depthscope.materials.data import data_path
from depthscope.materials.window import Window, Windows
from depthscope.ranges import above, at_least, check_ranges
from depthscope.runtime.model import Model

KINDS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Ends of the names of photos."""
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels, by which most models of images have their input standardised."""
QUIET = 1 / 3
"""Share of a photo's patches that count as background."""
SHADES = 4


@dataclass(frozen=True)
class Pictures:
    """What synthetic pictures are like.

    Args:
        side: cells a side. textures: kinds, 0 is the background. background: share of cells that are background.
        leading: share of the other cells that show the class.
    """

    side: int = 6
    textures: int = 8
    background: float = 0.6
    leading: float = 0.4

    def __post_init__(self) -> None:
        check_ranges(
            self,
            side=at_least(2),
            textures=at_least(3),
            background=above(0, below=1),
            leading=at_least(0, most=1),
        )

    def draw(
        self, count: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, "row cell"], Int[Tensor, " row"]]:
        """Textures of the cells and the class of each picture, 1 .. textures - 1."""
        cells = self.side**2
        label = torch.randint(1, self.textures, (count,), generator=generator)
        other = torch.randint(1, self.textures, (count, cells), generator=generator)
        drawn = torch.rand(count, cells, generator=generator)
        shown = torch.where(
            torch.rand(count, cells, generator=generator) < self.leading, label[:, None], other
        )
        return torch.where(drawn < self.background, 0, shown), label


@dataclass(frozen=True)
class Cut:
    """How a model cuts its images: cells a side, pixels a cell's side, colours."""

    side: int
    patch: int
    colours: int

    @classmethod
    def of(cls, model: Model) -> Cut:
        """The cut of a model.

        Raises:
            Refused: for a model that reads no images, or cuts them into no square patches.
        """
        if model.anatomy.family.reads != "image":
            raise Refused(f"{model.name} reads {model.anatomy.family.reads}, not images")
        size, patch = (_one(getattr(model.config, name, None)) for name in ("image_size", "patch_size"))
        if not isinstance(size, int) or not isinstance(patch, int) or size < 2 * patch:
            raise Refused(
                f"{model.name} has images of {size} in patches of {patch}; squares are needed, 2 a side"
            )
        return cls(size // patch, patch, int(model.config.num_channels))


def _one(length: Any) -> Any:  # noqa: ANN401  (a number, or one for each side)
    sides = set(length) if isinstance(length, list | tuple) else {length}
    return sides.pop() if len(sides) == 1 else length


@dataclass(frozen=True)
class PictureReading:
    """What a model of images reads, as windows: a synthetic picture's ids are the textures of its cells.

    Args:
        images: folder of photos, in folders by class where there are classes; "" makes synthetic pictures.
        count: pictures, of photos the most.
    """

    images: str = ""
    count: int = 256
    seed: int = 0

    @property
    def window(self) -> int:
        """0: the model says how many tokens an image has."""
        return 0

    def windows(self, model: Model) -> Windows:
        """The pictures, each a document of its own, `about` with its class and, of a photo, its file.

        Raises:
            BadInput: for fewer than 8 pictures. EmptyMaterial: for a folder without photos. Refused: see `Cut`.
        """
        cut = Cut.of(model)
        if self.count < 8:
            raise BadInput(f"{self.count} pictures: 8 or more are needed")
        found = self._photos(cut) if self.images else self._drawn(cut)
        source = self.images or "synthetic pictures"
        return Windows(tuple(found), source, "what the model puts before its patches", 0)

    def _drawn(self, cut: Cut) -> list[Window]:
        textures, label = Pictures(cut.side).draw(self.count, torch.Generator().manual_seed(self.seed))
        return [
            Window(k, f"picture-{k:05d}", tuple(ids), (), {"label": said})
            for k, (ids, said) in enumerate(zip(textures.tolist(), label.tolist(), strict=True))
        ]

    def _photos(self, cut: Cut) -> list[Window]:
        folder = data_path(self.images)
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in KINDS)
        if len(files) < 8:
            raise EmptyMaterial(
                f"{folder} holds {len(files)} files of {', '.join(KINDS)}; 8 or more are needed"
            )
        places = torch.randperm(len(files), generator=torch.Generator().manual_seed(self.seed))[: self.count]
        names = sorted({p.parent.name for p in files})
        classes = {name: k if len(names) > 1 else -1 for k, name in enumerate(names)}
        chosen = [files[i] for i in sorted(places.tolist())]
        _must_be_read(chosen, cut)
        return [
            Window(k, str(p.relative_to(folder)), (), (), {"label": classes[p.parent.name], "file": str(p)})
            for k, p in enumerate(chosen)
        ]


@dataclass(frozen=True)
class Shown:
    """Pictures as a model reads them.

    Args:
        pixels: [row colour y x], standardised. own: the texture of each cell, 0 where it is background, [row cell].
        background: whether a cell is background, [row cell]. label: the class of each picture, -1 for none.
    """

    pixels: Float[Tensor, "row colour y x"]
    own: Int[Tensor, "row cell"]
    background: Tensor
    label: Int[Tensor, " row"]


def shown(windows: Sequence[Window], cut: Cut) -> Shown:
    """The pixels of some pictures, and what is true of their cells."""
    label = torch.tensor([int(w.about["label"]) for w in windows])
    if "file" not in windows[0].about:
        textures = torch.tensor([w.ids for w in windows])
        return Shown(painted(textures, cut), textures, textures == 0, label)
    pixels = torch.stack([_photo(Path(w.about["file"]), cut) for w in windows])
    cells = _cells(pixels, cut)
    contrast, light = cells.std(-1), cells.mean(-1)
    quiet = contrast <= contrast.quantile(QUIET, 1, keepdim=True)
    edges = light.quantile(torch.linspace(0, 1, SHADES + 1)[1:-1], 1).T  # [row edge]
    return Shown(pixels, (light[..., None] > edges[:, None]).sum(-1), quiet, label)


def painted(textures: Int[Tensor, "row cell"], cut: Cut) -> Float[Tensor, "row colour y x"]:
    """Cells of a colour and a grating of their own, texture 0 plain grey (0 everywhere)."""
    across = torch.arange(cut.patch) / cut.patch
    kinds = [torch.zeros(cut.colours, cut.patch, cut.patch)]
    for k in range(1, int(textures.max()) + 1):
        angle = math.pi * k / 8
        waves = torch.sin(
            2 * math.pi * (1 + k % 3) * (across * math.cos(angle) + across[:, None] * math.sin(angle))
        )
        tint = [math.cos(2 * math.pi * (k / 7 + c / max(1, cut.colours))) for c in range(cut.colours)]
        kinds.append(torch.tensor(tint)[:, None, None] + waves)
    grid = torch.stack(kinds)[textures].unflatten(
        1, (cut.side, cut.side)
    )  # [row, y, x, colour, patch, patch]
    return grid.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def _cells(pixels: Tensor, cut: Cut) -> Tensor:
    """[row, cell, number]: the pixels of each cell."""
    grid = pixels.unflatten(3, (cut.side, cut.patch)).unflatten(2, (cut.side, cut.patch))
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def _must_be_read(files: Sequence[Path], cut: Cut) -> None:
    """Read every photo once before a model reads any: the last of a thousand may be the damaged one."""
    damaged: list[str] = []
    for path in files:
        try:
            _photo(path, cut)
        except BadInput as error:
            damaged.append(str(error))
    if damaged:
        rest = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        raise BadInput(
            f"{len(damaged)} of the {len(files)} photos chosen cannot be read: {'; '.join(damaged[:3])}{rest}. Mend "
            "them or take them out of the folder"
        )


def _photo(path: Path, cut: Cut) -> Tensor:
    """[colour y x] of one photo, its middle square scaled to the model's size.

    Raises:
        MissingPackage: without pillow. Refused: where the model reads no three colours. BadInput: for a damaged file.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackage("the reader of photos", "pip install 'depthscope[images]'") from error
    if cut.colours != 3:
        raise Refused(f"photos have 3 colours, the model reads {cut.colours}")
    try:
        with Image.open(path) as opened:
            image: Any = opened.convert("RGB")
    # pillow's readers of some formats say SyntaxError or ValueError of damaged bytes
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"{path} is no image that can be read ({error})") from error
    short, size = min(image.size), cut.side * cut.patch
    left, top = ((length - short) // 2 for length in image.size)
    image = image.resize((size, size), box=(left, top, left + short, top + short))
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(size, size, 3)
    return ((flat / 255 - torch.tensor(MEAN)) / torch.tensor(SPREAD)).permute(2, 0, 1)
