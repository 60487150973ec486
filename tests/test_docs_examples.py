"""Every example in README.md and docs/ that is marked `<!-- runnable -->` runs as printed.

A mark stands on the line above the fence. The marked blocks of one page run in order, in one empty folder;
python blocks share their names, sh blocks are run by bash with the package's commands on the path.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"^<!-- runnable -->\n```(?P<language>python|sh)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One marked example: its language, its text and the line its first statement stands on."""

    language: str
    code: str
    line: int


def blocks_of(text: str) -> list[Block]:
    return [
        Block(found["language"], found["code"], text.count("\n", 0, found.start("code")) + 1)
        for found in BLOCK.finditer(text)
    ]


def run_block(block: Block, page: str, names: dict[str, object]) -> None:
    if block.language == "python":
        padded = "\n" * (block.line - 1) + block.code  # so that a traceback names the line of the page
        exec(compile(padded, page, "exec"), names)
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = ["bash", "-euo", "pipefail", "-c", block.code]
    done = subprocess.run(script, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, f"{page}:{block.line} exited {done.returncode}\n{done.stdout}\n{done.stderr}"


def pages_with_examples() -> list[Path]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in pages if blocks_of(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", pages_with_examples(), ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_of_a_page_run_as_printed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of(page.read_text(encoding="utf-8")):
        run_block(block, str(page), names)


def test_only_marked_blocks_are_examples():
    text = "```python\nwrong\n```\n\n<!-- runnable -->\n```python\nx = 1\n```\n"
    assert blocks_of(text) == [Block("python", "x = 1\n", 7)]


def test_blocks_of_a_page_share_their_names():
    names: dict[str, object] = {}
    run_block(Block("python", "x = 1\n", 1), "page.md", names)
    run_block(Block("python", "y = x + 1\n", 5), "page.md", names)
    assert names["y"] == 2


def test_a_failing_python_example_names_the_line_of_the_page():
    with pytest.raises(ZeroDivisionError) as caught:
        run_block(Block("python", "\n1 / 0\n", 40), "page.md", {})
    last = caught.traceback[-1]
    assert (str(last.path).endswith("page.md"), last.lineno + 1) == (True, 41)


def test_a_failing_shell_example_fails():
    with pytest.raises(AssertionError, match=r"page\.md:3 exited 1"):
        run_block(Block("sh", "false\ntrue\n", 3), "page.md", {})
