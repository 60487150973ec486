"""Every public name shows how it is used, and what its docstring shows is what comes out."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path

import numpy as np
import pytest

import depthscope as ds

PUBLIC = [name for name in ds.__all__ if name != "__version__"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where examples run: `runs/first` is there."""
    found = tmp_path_factory.mktemp("examples")
    model = ds.load("tiny-llama")
    ds.audit(model, ["residual_contribution"], tokens=256, window=32, out=found / "runs" / "first")
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_of_a_public_name_gives_what_it_says(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder)
    names = {"ds": ds, "np": np, "model": ds.load("tiny-llama")}
    written = inspect.getdoc(getattr(ds, name)) or ""
    example = doctest.DocTestParser().get_doctest(written, names, name, None, None)
    assert example.examples, f"ds.{name} shows no example"
    said: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert result.failed == 0, "".join(said)
