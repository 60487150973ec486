"""What identifies a run, and what its laws said: rows for the page from the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from depthscope.report.tables import MISSING, number

MARKS = {
    "holds": "\N{HEAVY CHECK MARK}",
    "refused": "\N{CIRCLED DIVISION SLASH}",
    "not applicable": "\N{EN DASH}",
    "broken": "\N{HEAVY BALLOT X}",
}


@dataclass(frozen=True)
class LawRow:
    """One law of the verification table."""

    law: str
    status: str
    mark: str
    worst: str
    tolerance: str
    reason: str


def fingerprint(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of everything that identifies the run; what the manifest lacks is left out."""
    model, data = manifest.get("model", {}), manifest.get("data", {})
    rows = [
        ("model", model.get("name")),
        ("revision", model.get("revision")),
        ("weights", model.get("weights_hash")),
        ("family", model.get("family")),
        ("size", _size(model)),
        ("heads", _heads(model)),
        ("number format", model.get("dtype")),
        ("device", model.get("device")),
        ("attention kernel", model.get("attention")),
        ("text", data.get("source")),
        ("text hash", data.get("hash")),
        ("read", _amounts(data)),
        ("sampled", _counts(data.get("sample", {}))),
        ("lens", _lenses(manifest.get("lenses", []))),
        *(("also read", _material(name, about)) for name, about in manifest.get("materials", {}).items()),
        ("BOS", data.get("bos")),
        ("seed", manifest.get("seed")),
        ("threads", manifest.get("threads")),
        ("kernel", None if manifest.get("kernel") == model.get("attention") else manifest.get("kernel")),
        (
            "versions",
            _joined({"depthscope": manifest.get("depthscope", "?"), **manifest.get("versions", {})}),
        ),
        (
            "time",
            _joined({phase: f"{seconds:.1f} s" for phase, seconds in manifest.get("timings", {}).items()}),
        ),
        ("non-finite values", manifest.get("non_finite", {}).get("count")),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def law_rows(manifest: Mapping[str, Any]) -> list[LawRow]:
    """The verification as rows; broken laws first."""
    laws = sorted(manifest.get("verification", []), key=lambda law: law.get("status") != "broken")
    return [
        LawRow(
            _law(law),
            str(law.get("status", "?")),
            MARKS.get(law.get("status", ""), "?"),
            _error(law.get("worst")),
            _error(law.get("tolerance")),
            str(law.get("reason") or ""),
        )
        for law in laws
    ]


def subtitle(manifest: Mapping[str, Any]) -> str:
    """One line below the page's title: size of the model, and what was read."""
    model, data = manifest.get("model", {}), manifest.get("data", {})
    return " \N{MIDDLE DOT} ".join(part for part in (_size(model), _amounts(data)) if part)


def _law(law: Mapping[str, Any]) -> str:
    title = law.get("title")
    return f"{law.get('law', '?')}. {title}" if title else str(law.get("law", "?"))


def _size(model: Mapping[str, Any]) -> str:
    parts: list[str] = []
    if layers := model.get("n_layers"):
        parts.append(f"{layers} layers")
    if width := model.get("d_model"):
        parts.append(f"width {width:,}")
    if count := model.get("parameters"):
        parts.append(
            f"{count / 1e6:,.1f} M parameters" if count < 1e9 else f"{count / 1e9:,.2f} B parameters"
        )
    return ", ".join(parts)


def _heads(model: Mapping[str, Any]) -> str:
    heads, shared = model.get("n_heads"), model.get("n_kv_heads")
    if not heads:
        return ""
    return f"{heads}" if shared in (None, heads) else f"{heads} (keys and values: {shared})"


def _amounts(data: Mapping[str, Any]) -> str:
    there = [(data[name], name) for name in ("tokens", "windows", "documents") if data.get(name)]
    return ", ".join(f"{count:,} {name if count != 1 else name[:-1]}" for count, name in there)


def _lenses(names: Sequence[str]) -> str:
    """The run's lens, and those it was compared with."""
    first, *others = [str(name) for name in names] or [""]
    return f"{first}; beside it {', '.join(others)}" if others else first


def _material(name: str, about: Mapping[str, Any]) -> str:
    """A material besides the text: its name, where it came from, how much of it, its hash."""
    source, digest = about.get("source"), str(about.get("hash", ""))[:12]
    named = f"{name} ({source})" if source else name
    return ", ".join(part for part in (named, _amounts(about), f"hash {digest}" if digest else "") if part)


def _counts(sample: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_amount(value)}" for name, value in sample.items())


def _amount(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _joined(pairs: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs.items())


def _error(value: float | int | None) -> str:
    return (
        MISSING
        if value is None
        else "0"
        if value == 0
        else number(value)
        if value >= 0.001
        else f"{value:.1e}"
    )
