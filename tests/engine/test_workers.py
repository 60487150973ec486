"""Several workers give the numbers of one, also where a worker dies; when workers keep dying the run says so."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from toys import HOW, DiesOnce

from depthscope.engine.audit import audit
from depthscope.engine.execute import Outcome
from depthscope.engine.executors import local
from depthscope.errors import WorkerLost
from depthscope.runtime.model import Model
from depthscope.store.run import open_run

Files = Callable[[Path], dict[str, bytes]]
SMALL = {**HOW, "tokens": 160, "budget": 1}
"""One window a shard: four shards."""


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed_give_the_bytes_of_one(llama: Model, files: Files, tmp_path: Path):
    names = ["logit_lens", "residual_contribution"]
    one = audit(llama, names, out=tmp_path / "one", **HOW)
    flag = tmp_path / "flag"
    two = audit(llama, [*names, DiesOnce(str(flag), os.getpid())], out=tmp_path / "two", workers=2, **HOW)
    assert flag.exists(), "no worker was killed"
    assert two["dies_once"]["one"].scalar() == 1.0
    found = {name: content for name, content in files(two.path).items() if "dies_once" not in name}
    assert found == files(one.path)


def dying(times: int, asked: list[list[str]]) -> Callable[..., Iterator[Outcome]]:
    """A pool that finishes one shard and then breaks, so many times."""

    def pooled(model: Any, job: Any, shards: Sequence[Any], workers: int) -> Iterator[Outcome]:
        asked.append([s.name for s in shards])
        for shard in shards:
            yield local.execute(model, job, shard)
            if len(asked) <= times:
                raise BrokenProcessPool("a child process terminated abruptly")

    return pooled


def test_only_unfinished_shards_run_again_after_a_worker_died(
    llama: Model, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one = audit(llama, ["residual_contribution"], out=tmp_path / "one", **SMALL)
    asked: list[list[str]] = []
    monkeypatch.setattr(local, "_pooled", dying(1, asked))
    two = audit(llama, ["residual_contribution"], out=tmp_path / "two", workers=2, **SMALL)
    assert len(asked[0]) > 2
    assert asked[1] == asked[0][1:]
    assert files(two.path) == files(one.path)


def test_workers_that_die_twice_are_lost_and_the_run_can_go_on_later(
    llama: Model, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[list[str]] = []
    monkeypatch.setattr(local, "_pooled", dying(2, asked))
    with pytest.raises(WorkerLost, match=r"died twice; unfinished: capture-00002.*--workers 1") as caught:
        audit(llama, ["residual_contribution"], out=tmp_path / "run", workers=2, **SMALL)
    assert caught.value.exit_code == 7
    assert len(asked) == 2
    assert not open_run(tmp_path / "run").complete
    monkeypatch.undo()
    resumed = audit(llama, ["residual_contribution"], out=tmp_path / "run", **SMALL)
    assert files(resumed.path) == files(
        audit(llama, ["residual_contribution"], out=tmp_path / "one", **SMALL).path
    )


def test_workers_share_the_cores_and_never_use_more_threads_than_the_coordinator(
    monkeypatch: pytest.MonkeyPatch,
):
    given: list[int] = []

    class Pool:
        def __init__(self, workers: int, context: Any, start: Any, how: tuple[Any, Any, int]) -> None:
            given.append(how[2])

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(local, "ProcessPoolExecutor", Pool)
    nothing: Any = None
    for cores, own, workers in ((8, 8, 2), (8, 1, 2), (2, 2, 2), (2, 2, 4), (None, 4, 2)):
        monkeypatch.setattr(local.os, "cpu_count", lambda cores=cores: cores)
        monkeypatch.setattr(local.torch, "get_num_threads", lambda own=own: own)
        assert list(inspect.unwrap(local._pooled)(nothing, nothing, [], workers)) == []
    assert given == [4, 1, 1, 1, 1]
