"""Image registers: pixels show the cells, and the scores are those of eager attention maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from depthscope.engine.study import conduct
from depthscope.errors import BadInput, EmptyMaterial, Refused
from depthscope.fits.image_registers import ImageRegisters
from depthscope.materials.pictures import Cut, PictureReading, painted, shown
from depthscope.runtime.tiny import tiny

CUT = Cut(4, 4, 3)


def test_a_cell_is_painted_where_it_stands_and_background_is_grey():
    textures = torch.zeros(1, 16, dtype=torch.long)
    textures[0, 6] = 3  # second row, third cell
    pixels = painted(textures, CUT)[0]
    touched = torch.nonzero(pixels.abs().sum(0))
    assert (touched.amin(0).tolist(), touched.amax(0).tolist()) == ([4, 8], [7, 11])
    other = painted(torch.full((1, 16), 5), CUT)[0]
    assert float((other[:, :4, :4] - pixels[:, 4:8, 8:12]).abs().max()) > 0.5


@pytest.mark.parametrize(
    ("name", "config", "registers"), [("vit", "", 0), ("dinov2", "Dinov2WithRegistersConfig", 4)]
)
def test_received_and_norms_are_those_of_eager_maps(
    name: str, config: str, registers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = tiny(name, torch.float32, config_class=config)
    reading = PictureReading(count=8)
    monkeypatch.setattr("depthscope.engine.study.verified", lambda *_: [])
    run = conduct("image_registers", ImageRegisters(rows=3), model, reading, tmp_path / "run", force=True)
    found = run["image_registers"]
    windows = reading.windows(model).items
    pictures = shown(windows, CUT)
    model.net.set_attn_implementation("eager")  # type: ignore[operator]
    with torch.no_grad():
        out = model.net(pixel_values=pictures.pixels, output_attentions=True, output_hidden_states=True)
    every = (
        out.attentions[2].mean(1).sum(1)
    )  # over heads and queries; the class token stands first, then registers
    got = every[:, 1 + registers :]
    each = [float(row[grey].mean()) for row, grey in zip(got, pictures.background, strict=True)]
    assert found["received"].at(variant="as it is", layer=2, token="background") == pytest.approx(
        np.mean(each), rel=1e-4
    )
    size = out.hidden_states[3][:, 1 + registers :].norm(dim=-1)
    ratio = size.amax(1) / size.quantile(0.5, 1, interpolation="lower")
    assert found["norm_ratio"].at(variant="as it is", layer=2) == pytest.approx(float(ratio.mean()), rel=1e-3)
    taken = found["received"].at(variant="as it is", layer=2, token="register")
    np.testing.assert_allclose(taken, every[:, 1 : 1 + registers].mean() if registers else np.nan, rtol=1e-4)
    assert found["received"].at(variant="random weights", layer=2, token="background") != pytest.approx(
        np.mean(each), rel=1e-6
    )


def test_photos_are_cut_to_squares_and_their_quiet_patches_are_background(tmp_path: Path):
    rng = np.random.default_rng(0)
    for k in range(8):
        loud = rng.integers(0, 255, (16, 24, 3)).astype(np.uint8)
        loud[:8] = 128
        (tmp_path / f"class{k % 2}").mkdir(exist_ok=True)
        Image.fromarray(loud).save(tmp_path / f"class{k % 2}" / f"{k}.png")
    windows = PictureReading(str(tmp_path), 8).windows(tiny("vit")).items
    found = shown(windows, CUT)
    assert found.label.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert found.pixels.shape == (8, 3, 16, 16)
    assert bool(found.background[:, :8].any(1).all())
    assert not bool(found.background[:, 8:].any())


def test_what_cannot_be_read_is_refused(tmp_path: Path):
    with pytest.raises(Refused, match="reads tokens, not images"):
        PictureReading().windows(tiny("bert"))
    with pytest.raises(BadInput, match="4 pictures"):
        PictureReading(count=4).windows(tiny("vit"))
    with pytest.raises(EmptyMaterial, match="holds 0 files"):
        PictureReading(str(tmp_path)).windows(tiny("vit"))


def test_damaged_photos_are_all_named_before_a_folder_is_made(tmp_path: Path):
    photos, pixels = tmp_path / "photos", np.random.default_rng(0).integers(0, 255, (16, 16, 3))
    photos.mkdir()
    for k in range(8):
        Image.fromarray(pixels.astype(np.uint8)).save(photos / f"{k}.{'png' if k % 2 else 'jpg'}")
    for name, much in (("1.png", 0.6), ("2.jpg", 0.9), ("3.png", 0.0)):
        whole = (photos / name).read_bytes()
        (photos / name).write_bytes(whole[: int(len(whole) * much)])
    (photos / "5.png").write_bytes((photos / "7.png").read_bytes().replace(b"IDAT", b"IDAX"))
    with pytest.raises(BadInput) as refused:
        conduct(
            "image_registers", ImageRegisters(), tiny("vit"), PictureReading(str(photos), 8), tmp_path / "run"
        )
    said = str(refused.value)
    assert said.startswith("4 of the 8 photos chosen cannot be read: ")
    assert [name for name in ("1.png", "2.jpg", "3.png") if name in said] == ["1.png", "2.jpg", "3.png"]
    assert said.endswith("and 1 more. Mend them or take them out of the folder")
    assert refused.value.exit_code == 2
    assert not (tmp_path / "run").exists()
