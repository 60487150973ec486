"""The report: one self-contained HTML file that needs no network, made from a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthscope.report.assets import FILES, policy, scripts, style_sheet
from depthscope.report.fingerprint import fingerprint, law_rows, subtitle
from depthscope.report.roles import UNTRAINED
from depthscope.report.sections import section
from depthscope.report.verdict import verdicts
from depthscope.results.result import Result
from depthscope.store.atomic import write_text
from depthscope.store.run import Run, open_run

if TYPE_CHECKING:
    from markupsafe import Markup

    from depthscope.report.tables import PageTable

CAVEATS = (
    "State 0 is the embedding output and state k the output of layer k \N{MINUS SIGN} 1, before the final "
    "norm; layers count from 0. Depth is state / L, or (layer + 1) / L.",
    "Intervals are 95 % bootstrap intervals over documents. n counts documents, unless a note says windows; "
    "it is never the number of tokens.",
    "The first position is left out of statistics unless a note says otherwise: it often holds a sink.",
    "A lens reads states through the model's own final norm and unembedding, a fitted lens after a linear map of "
    "its own. What it cannot read may still be there.",
    "Effects of skipping are changes of loss and output on this text. They say nothing about abilities that "
    "the text does not need, and they were not verified by generation.",
    "All numbers hold for this text, this number format and this seed.",
)

LAST = ("corpus_statistics",)
"""Analyses that others build on; their sections come after those that answer a question."""


def write_report(run: Run, path: Path | None = None, title: str | None = None) -> Path:
    """Write the report of a run as one HTML file and return where it is.

    Args:
        run: the opened run.
        path: the file to write; `report.html` in the run folder by default.
        title: heading of the page; the model's name by default.

    Raises:
        StoreError: the file cannot be written.
    """
    target = path or run.path / "report.html"
    write_text(target, render("report.html.j2", _context(run, title)))
    return target


def render(template: str, context: dict[str, Any]) -> str:
    """A page from a template: everything is escaped but style sheet, scripts and prepared JSON."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FILES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    codes = scripts()
    assets = {"css": style_sheet(), "scripts": codes, "policy": policy(codes)}
    return environment.get_template(template).render(context | assets)


def prose(text: str) -> Markup:
    """Escaped text in which `names in backticks` are set as code."""
    from markupsafe import Markup, escape

    parts = str(escape(text)).split("`")
    if len(parts) % 2 == 0:  # a backtick without its partner stays what it is
        return Markup("`").join(map(Markup, parts))
    return Markup("").join(
        Markup(f"<code>{part}</code>") if i % 2 else Markup(part) for i, part in enumerate(parts)
    )


def _context(run: Run, title: str | None) -> dict[str, Any]:
    manifest = run.manifest
    missing = [name for name in manifest.get("analyses", {}) if name not in run]
    return {
        "title": title or str(manifest.get("model", {}).get("name", run.path.name)),
        "subtitle": subtitle(manifest),
        "complete": run.complete,
        "missing": missing,
        "refused": {str(name): str(reason) for name, reason in manifest.get("refused", {}).items()},
        "verdicts": verdicts(_readable(run)),
        "fingerprint": fingerprint(manifest),
        "laws": law_rows(manifest),
        "sections": [section(run, name) for name in sorted(run, key=lambda name: name in LAST)],
        "nulls": nulls(run),
        "caveats": CAVEATS,
        "command": str(manifest.get("command", "")),
        "version": str(manifest.get("depthscope", "")),
    }


AGAINST_UNTRAINED = ("head_atlas",)
"""Analyses whose rules read the null of untrained weights."""

HEADLINES = (
    "logit_lens/kl_to_final",
    "logit_lens/top1_agreement",
    "residual_contribution/block_relative_norm",
    "layer_skip/loss_increase[sublayer=block]",
    "representation_profile/prompt_entropy[mode=wei_no_massive]",
    "representation_profile/curvature[mode=signed]",
)
"""What is set beside its nulls in the report; `depthscope compare` shows the rest."""


def nulls(run: Run) -> list[PageTable]:
    """The headline curves of the run beside those of its nulls (untrained weights, shuffled tokens), if it has any."""
    from depthscope.report.compare import compare
    from depthscope.report.comparison_curves import depth_table

    folders = [path.parent for path in sorted(run.path.glob("nulls/*/manifest.json"))]
    others = [other for other in map(open_run, folders) if len(other)]
    if not others:
        return []
    found = compare([run, *others])
    return [depth_table(found, found.aligned[name], step=5) for name in HEADLINES if name in found.aligned]


def _readable(run: Run) -> dict[str, Result]:
    """The results that can be read; a broken one shows in its own section."""
    found: dict[str, Result] = {}
    for name in run:
        try:
            found[name] = run[name]
        except Exception:  # noqa: BLE001  (its section says what is wrong)
            continue
    return found | _untrained(run)


def _untrained(run: Run) -> dict[str, Result]:
    """What rules compare with results on random weights, where the run holds them."""
    folder = run.path / "nulls" / "untrained"
    if not (folder / "manifest.json").exists():
        return {}
    null = open_run(folder)
    return {f"{UNTRAINED}{name}": null[name] for name in AGAINST_UNTRAINED if name in null}
