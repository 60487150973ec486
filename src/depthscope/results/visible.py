"""Tokens made visible: model text is hostile, so what cannot be seen, or would turn the text around, gets a sign."""

from __future__ import annotations

import unicodedata

SPACE = "\N{OPEN BOX}"
NAMED = {
    "\n": "\N{RETURN SYMBOL}",
    "\t": "\N{SYMBOL FOR HORIZONTAL TABULATION}",
    "\r": "\N{SYMBOL FOR CARRIAGE RETURN}",
}
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str) -> str:
    """A token that can be seen: spaces, line ends, control and direction characters get a sign or a code."""
    if text == "":
        return "(empty)"
    return "".join(_sign(char) for char in text)


def readable(text: str) -> str:
    """A passage that can be read: spaces stay, everything else that cannot be seen gets a sign or a code."""
    return "".join(char if char == " " else _sign(char) for char in text) or "(empty)"


def _sign(char: str) -> str:
    if char == " ":
        return SPACE
    if char in NAMED:
        return NAMED[char]
    if unicodedata.category(char) in HIDDEN or (char.isspace() and char != "\N{IDEOGRAPHIC SPACE}"):
        return f"[U+{ord(char):04X}]"
    return char
