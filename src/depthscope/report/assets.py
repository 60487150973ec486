"""What is embedded in a page: style sheet, scripts and data, made safe to stand inside HTML."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

FILES = Path(__file__).parent / "page_files"


def style_sheet() -> str:
    """The style sheet of every page."""
    return (FILES / "page.css").read_text(encoding="utf-8")


@cache
def scripts() -> tuple[str, ...]:
    """The scripts of a page in order: the Vega bundle (Vega, Vega-Lite, Vega-Embed), then ours."""
    import vl_convert

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    own = ((FILES / name).read_text(encoding="utf-8") for name in ("page.js", "heads.js"))
    return tuple(as_script(text) for text in (bundle, *own))


def as_script(code: str) -> str:
    """JavaScript that cannot end the element it stands in."""
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def as_json(content: Mapping[str, Any]) -> str:
    r"""JSON for a script element: `<`, `>`, `&` and all beyond ASCII (U+2028 too) stand as `\uXXXX`."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def policy(codes: tuple[str, ...]) -> str:
    """The content security policy: nothing is fetched, and no script runs but these, known by their hash.

    Vega compiles expressions, hence `unsafe-eval`; inline styles carry shades only.
    """
    hashes = " ".join(f"'sha256-{_digest(code)}'" for code in codes)
    return (
        f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(code: str) -> str:
    return base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode("ascii")
