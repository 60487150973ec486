"""What pages say of the code is so: words, tables of measurements and parameters, flags, exit codes, keys."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from contract_tables import MEASUREMENTS

import depthscope as ds
from depthscope import errors
from depthscope.cli.app import VERBS, loaded
from depthscope.registry import ANALYSES, FAMILIES
from depthscope.results.result import Text
from depthscope.runtime.laws import LAWS
from depthscope.runtime.verify import MEDIAN, TOLERANCE
from depthscope.store.run import Run

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
NAV = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def part(text: str, heading: str) -> str:
    """What stands below a heading of level two."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {heading!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, heads and rules left out."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    rules = [k for k, line in enumerate(lines) if set("".join(line)) <= set("- ")]
    heads = {*rules, *(k - 1 for k in rules)}
    return [[cell.strip() for cell in line] for k, line in enumerate(lines) if k not in heads]


def names(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))


def plain(text: str) -> str:
    return " ".join(text.replace("`", "").split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that reads a text, and questions beside it."""
    asked = [ANALYSES["logit_lens"](), ANALYSES["option_depth"](items=2, shots=0)]
    return ds.audit(
        ds.load("tiny-llama"), asked, tokens=512, window=32, out=tmp_path_factory.mktemp("docs") / "run"
    )


@pytest.mark.parametrize("name", ANALYSES.names)
def test_every_analysis_has_a_page_in_the_nav_with_its_question_and_its_source(name: str):
    words, text = Text.of(ANALYSES.docstring(name)), page(f"analyses/{name}.md")
    assert f"analyses/{name}.md" in NAV
    assert plain(words.question) in plain(text)
    assert plain(words.source) == plain(part(text, "Source"))
    for heading in ("Method", "How to read it", "What can mislead", "What SmolLM2-135M shows"):
        assert part(text, heading).strip()


@pytest.mark.parametrize("name", ANALYSES.names)
def test_the_table_of_measurements_is_what_runs_of_every_family_are_held_to(name: str):
    said = {
        names(cell)[0]: (names(axes), unit)
        for cell, axes, unit, _ in rows(part(page(f"analyses/{name}.md"), "Measurements"))
    }
    assert said == MEASUREMENTS[name]


@pytest.mark.parametrize("name", ANALYSES.names)
def test_the_table_of_parameters_is_what_the_analysis_has(name: str):
    text = part(page(f"analyses/{name}.md"), "Parameters")
    said = {names(cell)[0]: names(default)[0] for cell, default, _ in rows(text)}
    has = {f.name: repr(f.default).replace("'", '"') for f in fields(ANALYSES[name])}
    assert said == has
    assert set(re.findall(rf"--set {name}\.(\w+)=", text)) <= set(has)
    assert f"--analyses {name}" in text


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_flag_of_a_verb_stands_in_its_section_and_no_other(verb: str):
    text = part(page("how-to/command-line.md"), f"depthscope {verb}")
    flags = {
        flag
        for option in loaded(verb).params
        for flag in (*option.opts, *option.secondary_opts)
        if flag.startswith("--") and flag not in ("--help", "--no-json", "--no-trust-remote-code")
    }
    assert set(re.findall(r"`(--[\w-]+)`", text)) - {"--format json"} == flags


def test_defaults_of_the_run_verb_are_as_the_page_says():
    table = {names(flags)[0]: names(default) or (default,) for flags, _, default in
             rows(part(page("how-to/command-line.md"), "depthscope run"))}  # fmt: skip
    for option in loaded("run").params:
        if (
            isinstance(option.default, str | int)
            and not isinstance(option.default, bool)
            and option.default != ""
        ):
            assert table[option.opts[0]] == (str(option.default),), option.opts[0]


def test_the_exit_codes_of_the_page_are_those_of_the_errors():
    said = {name: int(code) for code, _, who in rows(part(page("how-to/command-line.md"), "Exit codes"))
            for name in names(who)}  # fmt: skip
    tree = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.DepthscopeError)]
    assert said == {e.__name__: e.exit_code for e in tree if e is not errors.DepthscopeError}


def test_the_page_of_the_run_folder_names_every_key_of_a_manifest(run: Run):
    text = page("reference/run-folder.md")
    said = {names(key)[0]: set(names(about)) for key, about in rows(part(text, "manifest.json"))}
    assert set(said) == set(run.manifest)
    for key in ("key", "model", "data", "non_finite"):
        assert said[key] == set(run.manifest[key]), key
    assert said["verification"] == set(run.manifest["verification"][0])


def test_the_page_of_the_run_folder_names_every_column(run: Run):
    text = plain(page("reference/run-folder.md"))
    for file in ("inputs/text.parquet", "examples/logit_lens/strips.parquet"):
        for column in pq.read_schema(run.path / file).names:
            assert column in text.split(file.removesuffix(".parquet").removeprefix("examples/"), 1)[1], column


def test_the_page_of_laws_names_each_law_and_the_tolerances_of_the_code():
    text = page("reference/laws.md")
    table, tolerances = rows(text.split("## Tolerances")[0]), rows(part(text, "Tolerances"))
    assert table == [[str(number), title] for number, title, _ in LAWS]
    assert {kind: float(value) for kind, value in tolerances} == {
        str(kind).removeprefix("torch."): value for kind, value in TOLERANCE.items()
    }
    assert f"{MEDIAN:.0e}" in text
    assert torch.float16 in TOLERANCE


def test_the_page_of_names_lists_every_public_name():
    listed = {
        name.removeprefix("ds.") for cell, _ in rows(page("reference/python.md")) for name in names(cell)
    }
    assert listed == set(ds.__all__) - {"__version__"}


def test_the_readme_lists_the_analyses_and_the_number_of_families():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\[`(\w+)`\]\(docs/analyses/(\w+)\.md\)", text)) == {(n, n) for n in ANALYSES}
    assert ("Twenty-six families" in text) == (len(FAMILIES.names) == 26)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_the_pages_outside_the_site_lead_somewhere(name: str):
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"(?<!!)\[[^\]]*\]\((?!https?:)([^)#]+)", text)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_changelog_names_every_analysis_and_every_verb():
    said = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [name for name in ANALYSES if not re.search(rf"`{name}`", said)] == []
    spoken = " ".join(said.split())
    assert [verb for verb in VERBS if not re.search(rf"`(depthscope )?{verb}\b", spoken)] == []
