"""Text: files, folders, JSON lines, hub data sets or the packaged sample, cut into windows of token ids.

A window never crosses a document. Each window begins with what the tokenizer puts before a text (BOS policy `auto`) and
ends with what it puts after one, so that a model always reads what it was trained to read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from depthscope.errors import BadInput, EmptyMaterial, MissingPackage, Refused

Bos = Literal["auto", "always", "never", "never-forced"]
SHORTEST = 16
"""Windows below this many tokens are left out (and counted): too short for a path, a spectrum or a pattern."""
NEEDS_BOS = frozenset({"gemma", "gemma2", "gemma3", "gemma3_text", "recurrent_gemma"})
"""Model types known to be broken without BOS: Gemma-3-270m has perplexity 181 without and 17 with it."""


@dataclass(frozen=True)
class Document:
    """One text and its name, unique in its material."""

    name: str
    text: str


@dataclass(frozen=True)
class Window:
    """Consecutive token ids of one document, in the order of `index`."""

    index: int
    document: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Windows:
    """All windows of a run.

    Args:
        items: in reading order: the first window of every document, then the second, and so on.
        source: where the text came from. bos: what stands before and after each window, in words.
        dropped: tokens left out because they were fewer than a window needs.
    """

    items: tuple[Window, ...]
    source: str
    bos: str
    dropped: int

    @property
    def tokens(self) -> int:
        """Token ids over all windows."""
        return sum(len(w.ids) for w in self.items)

    @property
    def documents(self) -> tuple[str, ...]:
        """Names of the documents read, in order of first appearance."""
        return tuple(dict.fromkeys(w.document for w in self.items))

    @property
    def hash(self) -> str:
        """A digest of every document name and token id."""
        digest = hashlib.sha256()
        for window in self.items:
            digest.update(window.document.encode() + b"\0" + np.asarray(window.ids, np.int32).tobytes())
        return digest.hexdigest()

    def units(self) -> tuple[str, tuple[str, ...]]:
        """What counts as an independent unit, and each window's unit: documents, or windows below 8 documents."""
        if len(self.documents) >= 8:
            return "documents", tuple(w.document for w in self.items)
        return "windows", tuple(f"{w.document}#{w.index:06d}" for w in self.items)

    def shuffled(self, seed: int) -> Windows:
        """The same windows with their ids in random order, the first one in place: the shuffled-tokens null."""
        rng = np.random.default_rng(seed)
        mixed = [
            Window(w.index, w.document, (w.ids[0], *map(int, rng.permutation(w.ids[1:])))) for w in self.items
        ]
        return Windows(tuple(mixed), f"{self.source}, tokens shuffled", self.bos, self.dropped)


def read(source: str | Path | Sequence[str] | None, field: str = "text") -> tuple[str, list[Document]]:
    """Documents of a source and a word for where they came from.

    Args:
        source: None for the packaged sample; a list of texts; a file (.txt, .md: one document; .jsonl: one a line;
            WikiText-style files with `= Title =` headings are cut at them); a folder of such files; `hub:NAME[:SPLIT]`.
        field: the key that holds the text in JSON lines and hub data sets.

    Raises:
        EmptyMaterial: when nothing readable is there. BadInput: for invalid UTF-8, a missing path or a missing field.
    """
    if source is None:
        text = (
            resources.files("depthscope.materials")
            .joinpath("packaged/sample.jsonl")
            .read_text(encoding="utf-8")
        )
        return "packaged sample", _kept(_json_lines(text, "sample.jsonl", "text"), "the packaged sample")
    if not isinstance(source, str | Path):
        return "given texts", _kept(
            (Document(f"text-{k:04d}", t) for k, t in enumerate(source)), "the given texts"
        )
    if str(source).startswith("hub:"):
        return str(source), _kept(_hub(str(source)[4:], field), str(source))
    path = Path(source)
    if not _exists(path):
        raise BadInput(
            f"there is no text at {str(path)[:200]}; give a file, a folder, hub:NAME, or no --text for the sample"
        )
    return path.name, _kept(_files(path, field), str(path))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a text given as a path can be longer than any file name
        return False


def _kept(documents: Iterable[Document], where: str) -> list[Document]:
    found = _distinct(d for d in documents if d.text.strip())
    if not found:
        raise EmptyMaterial(
            f"no text in {where}: every document is empty or there is none; give a file with text in it"
        )
    return found


def _distinct(documents: Iterable[Document]) -> list[Document]:
    """The documents under distinct names: two units of one name would be counted as one."""
    seen: dict[str, int] = {}
    found: list[Document] = []
    for document in documents:
        name, number = document.name, seen.get(document.name, 0)
        while name in seen:
            number += 1
            name = f"{document.name}~{number}"
        seen[document.name], seen[name] = number, 0
        found.append(Document(name, document.text))
    return found


def _files(path: Path, field: str) -> Iterator[Document]:
    if path.is_dir():
        inside = sorted(
            p for p in path.rglob("*") if p.suffix in (".txt", ".md", ".jsonl", ".json") and p.is_file()
        )
        for each in inside:
            yield from _prefixed(each.relative_to(path).as_posix(), _files(each, field))
        return
    content = _decoded(path)
    if path.suffix in (".jsonl", ".json"):
        yield from _json_lines(content, path.name, field)
    else:
        yield from _articles(content, path.stem)


def _prefixed(prefix: str, documents: Iterator[Document]) -> Iterator[Document]:
    for document in documents:
        yield Document(f"{prefix}:{document.name}", document.text)


def _decoded(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}; convert it, say with iconv"
        ) from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error


def _json_lines(content: str, name: str, field: str) -> Iterator[Document]:
    # Not splitlines: a text may hold other line ends, such as U+2028, which JSON does not escape.
    for number, line in enumerate(content.split("\n")):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(
                f"{name} line {number + 1} is not JSON: {error.msg}; one JSON object a line is expected"
            ) from error
        if not isinstance(row, Mapping) or not isinstance(row.get(field), str):
            keys = sorted(row) if isinstance(row, Mapping) else type(row).__name__
            raise BadInput(
                f"{name} line {number + 1} has no text under {field!r}; it has {keys}; name it with --field"
            )
        yield Document(str(row.get("id", f"{name}-{number:06d}")), row[field])


def _articles(content: str, name: str) -> Iterator[Document]:
    """One document, or one an article where lines of the form ` = Title = ` open them."""
    parts: list[list[str]] = [[]]
    for line in content.splitlines():
        text = line.strip()
        if text.startswith("= ") and text.endswith(" =") and not text.startswith("= ="):
            parts.append([])
        parts[-1].append(line)
    if len(parts) == 1:
        yield Document(name, content)
        return
    for number, lines in enumerate(parts):
        yield Document(f"{name}-{number:04d}", "\n".join(lines))


def _hub(name: str, field: str) -> Iterator[Document]:
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPackage("the hub reader", "pip install 'depthscope[hub]'") from error
    path, _, split = name.partition(":")
    for number, row in enumerate(datasets.load_dataset(path, split=split or "test", streaming=True)):
        if not isinstance(row.get(field), str):
            raise BadInput(
                f"hub data set {path} has no text under {field!r}; it has {sorted(row)}; name it with --field"
            )
        yield Document(f"{path}-{number:06d}", row[field])


def edges(tokenizer: Any, bos: str = "auto", model_type: str = "") -> tuple[list[int], list[int], str]:  # noqa: ANN401
    """Ids that stand before and after every window, and the policy in words.

    Raises:
        Refused: for `never` on a model known to need BOS; `never-forced` does it all the same.
        BadInput: for an unknown policy, and for `always` where the tokenizer has no BOS.
    """
    if bos not in get_args(Bos):
        raise BadInput(f"--bos {bos!r} is unknown; it is {', '.join(get_args(Bos))}")
    plain = tokenizer.encode("a", add_special_tokens=False)
    full = tokenizer.encode("a")
    at = next((k for k in range(len(full)) if full[k : k + len(plain)] == plain), 0)
    before, after = full[:at], full[at + len(plain) :]
    if bos == "never" and model_type in NEEDS_BOS:
        raise Refused(
            f"{model_type} is known to be broken without BOS (perplexity rises tenfold); use --bos never-forced"
        )
    if bos.startswith("never"):
        return [], [], "none"
    if bos == "always" and not before:
        first = getattr(tokenizer, "bos_token_id", None)
        if first is None:
            raise BadInput("--bos always: this tokenizer has no BOS token; use --bos auto or never")
        before = [first]
    words = ("BOS before" if before else "nothing before") + (", EOS after" if after else "")
    return before, after, f"{bos}: {words} each window"


def cut(
    documents: Sequence[Document],
    tokenizer: Any,  # noqa: ANN401
    *,
    source: str,
    tokens: int,
    window: int = 256,
    bos: Bos = "auto",
    model_type: str = "",
    max_length: int | None = None,
    chat: bool = False,
) -> Windows:
    """Cut documents into windows until `tokens` are reached, every document's first window before any second one.

    Args:
        tokens: ids to read in all, the edges included. window: ids a window. max_length: ids read of a document.
        chat: each document is a user's message in the tokenizer's chat template.

    Raises:
        BadInput: for a window or a number of tokens below SHORTEST, or a length below 1.
        EmptyMaterial: when no document reaches SHORTEST tokens.
    """
    if window < SHORTEST:
        raise BadInput(f"--window {window} is too short; windows need at least {SHORTEST} tokens")
    if tokens < SHORTEST:
        raise BadInput(f"--tokens {tokens} is less than one window; read at least {SHORTEST} tokens")
    if max_length is not None and max_length < 1:
        raise BadInput(f"--max-length {max_length} leaves nothing of any document; give 1 or more")
    before, after, words = ([], [], "chat template") if chat else edges(tokenizer, bos, model_type)
    room = window - len(before) - len(after)
    dropped = 0

    def pieces(document: Document) -> list[list[int]]:
        nonlocal dropped
        ids = _ids(document, tokenizer, chat)[:max_length]
        found = [before + ids[k : k + room] + after for k in range(0, len(ids), room)]
        dropped += sum(len(p) for p in found if len(p) < SHORTEST)
        return [p for p in found if len(p) >= SHORTEST]

    items = tuple(_until(_in_turn(documents, pieces), tokens, after))
    if not items:
        raise EmptyMaterial(
            f"{source} gives {dropped} tokens in {len(documents)} documents, none with {SHORTEST}; give more text"
        )
    return Windows(items, source, words, dropped)


def _in_turn(
    documents: Sequence[Document], pieces: Callable[[Document], list[list[int]]]
) -> Iterator[tuple[str, list[int]]]:
    """Every document's first window, then every second one; a document is tokenised when its turn comes."""
    later: list[list[tuple[str, list[int]]]] = []
    for document in documents:
        first, *rest = pieces(document) or [[]]
        if first:
            yield document.name, first
        later.append([(document.name, p) for p in rest])
    yield from (piece for row in zip_longest(*later) for piece in row if piece is not None)


def _ids(document: Document, tokenizer: Any, chat: bool) -> list[int]:  # noqa: ANN401
    if not chat:
        return list(tokenizer.encode(document.text, add_special_tokens=False))
    if not getattr(tokenizer, "chat_template", None):
        raise Refused("--chat: this tokenizer has no chat template")
    message = [{"role": "user", "content": document.text}]
    return list(tokenizer.apply_chat_template(message, tokenize=True, return_dict=False))


def _until(rows: Iterable[tuple[str, list[int]]], tokens: int, after: list[int]) -> Iterator[Window]:
    """Windows until the budget is reached; the last one is cut to fit where what is left is long enough."""
    left = tokens
    for index, (name, ids) in enumerate(rows):
        kept = ids if len(ids) <= left else ids[: left - len(after)] + after
        yield Window(index, name, tuple(kept))
        left -= len(ids)
        if left < SHORTEST:
            return
