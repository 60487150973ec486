"""The folder of a decision: one process at a time, and nothing in it that is not of a decision."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from depthscope.errors import StoreError
from depthscope.store.atomic import make_folder, store_error

OURS = frozenset({"journal", "depth", "width", "tables", "decision.json", ".lock"})


@contextmanager
def held(out: Path) -> Generator[Path]:
    """The folder, made where it is missing and held by this process until the block ends.

    Raises:
        StoreError: when another process holds it, or it holds other files and no decision.
    """
    lock = FileLock(make_folder(out) / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StoreError(f"another process works in {out}; wait for it, or choose another --out") from error
    except OSError as error:
        raise store_error(error, out) from error
    try:
        _refuse_foreign(out)
        yield out
    finally:
        lock.release()


def _refuse_foreign(out: Path) -> None:
    foreign = sorted(
        p.name for p in out.iterdir() if p.name not in OURS and not p.name.startswith("decision.")
    )
    if foreign and not (out / "journal").is_dir():
        raise StoreError(
            f"{out} is not empty and holds no decision, but {', '.join(foreign[:5])}; choose another --out"
        )
