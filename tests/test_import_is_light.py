"""Importing the package stays cheap: heavy libraries load when a model or a result is first touched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND_LINE = Path(__file__).parent.parent / "src" / "depthscope" / "cli" / "__init__.py"
HEAVY = ("torch", "numpy", "pandas", "xarray", "pyarrow", "scipy", "sklearn", "transformers", "altair")


def heavy_modules_after(code: str) -> list[str]:
    """Which heavy libraries a fresh interpreter holds once it has run `code`."""
    tail = f"\nimport json, sys\nprint('\\n' + json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_heavy_import_is_seen():
    assert heavy_modules_after("import numpy") == ["numpy"]


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import depthscope", id="import"),
        pytest.param("import depthscope; dir(depthscope); depthscope.__version__", id="dir"),
        pytest.param("import depthscope.errors", id="errors"),
        pytest.param("from depthscope.registry import ANALYSES; list(ANALYSES)", id="names-of-analyses"),
    ],
)
def test_the_light_parts_load_no_heavy_library(code: str):
    assert heavy_modules_after(code) == []


@pytest.mark.skipif(not COMMAND_LINE.exists(), reason="there is no command line yet")
@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["list"]], ids=" ".join)
def test_help_and_list_load_no_heavy_library(arguments: list[str]):
    code = f"""
import sys
from depthscope.cli import main
sys.argv = ["depthscope", *{arguments!r}]
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
"""
    assert heavy_modules_after(code) == []
