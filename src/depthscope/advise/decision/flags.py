"""What an item needs, guessed from its words: arithmetic, several facts in a row. Guesses for a person to confirm."""

from __future__ import annotations

import re
from dataclasses import dataclass

_AMOUNT = r"\d[\d,.]*"
_OPERATOR = re.compile(
    rf"(?:{_AMOUNT}|\b[a-z]\b)\s*(?:[+*/×÷=^<>]|[-−–](?=\s))\s*(?:{_AMOUNT}|\b[a-z]\b|\?)", re.IGNORECASE
)
_UNITS = re.compile(
    rf"{_AMOUNT}\s?(?:%|percent|km|cm|mm|kg|g|mg|ml|l|litres?|liters?|miles?|hours?|hrs?|minutes?|seconds?|days?|weeks?"
    rf"|months?|years?|dollars?|euros?|cents?|yen|usd|eur|jpy|円|個|本|枚|人|時間|分|秒|日|倍)(?![a-z])"
    rf"|[$€£¥]\s?{_AMOUNT}",
    re.IGNORECASE,
)  # fmt: skip
_ASKS = re.compile(
    r"\bhow (?:many|much|long|far|old|often)\b|\b(?:sum|total|average|difference|product|quotient|remainder)\b"
    r"|\b(?:calculate|compute|solve|multiply|divide|subtract|add up|percentage)\b"
    r"|いくつ|いくら|何(?:個|円|人|本|枚|時間|分|倍)|合計|平均|計算",
    re.IGNORECASE,
)  # fmt: skip
_TABLE = re.compile(r"^[^\n]*\d[^\n]*(?:\||\t)[^\n]*\d[^\n]*$", re.MULTILINE)
_LATEX = re.compile(r"\\(?:frac|sqrt|sum|int|cdot|times|boxed)\b|\$[^$\n]*\d[^$\n]*\$")
_OF_OF = re.compile(
    r"\b(?:the|whose)\s+\w+\s+(?:of|in|where|that|who|from|by)\s+(?:the|whose)\s+\w+\s+(?:of|in|where|that|who|from|by)\b",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"\bsame \w+ as\b|\bboth\b.*\band\b.*\?|の(?:[^のはがを、。]{1,12})の(?:[^のはがを、。]{1,12})の",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Flags:
    """What was recognised in one item, and by which signs."""

    math: bool
    multi_hop: bool
    signs: tuple[str, ...]


def flagged(prompt: str, answer: str = "") -> Flags:
    """What an item looks like.

    Math-like: an operator between amounts or variables, a formula, a table with numbers; or an amount with a unit, or
    two amounts, where a quantity is asked for or the answer is a number. Multi-hop: a relation of a relation ("the
    mother of the author of"). The last question of a prompt counts, not worked examples before it: pass that part
    only
    where examples precede it.
    """
    signs: list[str] = []
    amounts = len(re.findall(r"\d+", prompt))
    for name, pattern in (("operator", _OPERATOR), ("formula", _LATEX), ("table", _TABLE)):
        if pattern.search(prompt):
            signs.append(name)
    asks = bool(_ASKS.search(prompt)) or _is_number(answer)
    if asks and (_UNITS.search(prompt) or amounts >= 2):
        signs.append("quantity")
    math = bool(signs)
    if _OF_OF.search(prompt) or _BEFORE.search(prompt):
        signs.append("relation of a relation")
    return Flags(math, "relation of a relation" in signs, tuple(signs))


def proposed(type_: str, volume: float, largest: float, regulated: bool, must_pass: bool) -> tuple[str, str]:
    """The criticality the rules propose, and the key of the reason.

    A where the work is regulated, items must pass or it is arithmetic; C under a hundredth of the largest volume;
    else B.
    """
    if regulated:
        return "A", "regulated"
    if must_pass:
        return "A", "must_pass"
    if type_ == "math":
        return "A", "math"
    if largest > 0 and volume < largest / 100:
        return "C", "volume"
    return "B", "default"


def _is_number(answer: str) -> bool:
    return bool(re.fullmatch(rf"\s*[$€£¥]?\s*[-−]?{_AMOUNT}\s*%?\s*", answer))
