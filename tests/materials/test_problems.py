"""Problems: answers are right by an independent reading, length tells nothing of the level, files give levels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.graded import TASKS
from depthscope.materials.problems import Problems
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny("llama", max_position_embeddings=4096)


def written(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "levels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def asked(task: str, level: int, number: int = 12) -> list[tuple[list[tuple[str, str]], str, str]]:
    """Solved lines, the open line, and its answer."""
    found = []
    for k in range(number):
        problem = TASKS[task].make(level, 2, np.random.default_rng(k))
        *solved, last = problem.prompt.split("\n")
        found.append(([tuple(s.rsplit(" ", 1)) for s in solved], last, problem.answer))
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("level", TASKS["arithmetic"].levels)
def test_chains_have_as_many_operands_as_their_level_and_the_right_result(level: int) -> None:
    for solved, last, answer in asked("arithmetic", level):
        assert len(re.findall(r"\d", last)) == level
        for line, result in [*solved, (last, answer)]:
            assert eval(line.removesuffix(" =")) == int(result)
            assert 0 <= int(result) <= 9


@pytest.mark.parametrize("level", TASKS["hops"].levels)
def test_places_are_as_many_steps_away_as_the_level_says(level: int) -> None:
    for solved, last, answer in asked("hops", level):
        (places, _), *questions = solved[0], *solved[1:]
        following = dict(re.findall(r"(\w) to (\w)\.", " ".join(solved[0])))
        assert len(following) == 8
        assert places
        for question, place in [*questions, (last, answer)]:
            steps, start = re.findall(r"Go (\d) from (\w):", question)[0]
            for _ in range(int(steps)):
                start = following[start]
            assert start == place
        assert f"Go {level} from" in last


@pytest.mark.parametrize("level", TASKS["brackets"].levels)
def test_the_answer_closes_the_outermost_bracket_of_a_nest_of_that_depth(level: int) -> None:
    shut = {"(": ")", "[": "]", "{": "}"}
    for _, last, answer in asked("brackets", level):
        depth, stack, deepest = 0, [], 0
        for bracket in last.split():
            if bracket in shut:
                stack.append(bracket)
                depth += 1
                deepest = max(deepest, depth)
            else:
                assert shut[stack.pop()] == bracket
                depth -= 1
        assert [shut[b] for b in stack] == [answer]
        assert deepest == level


@pytest.mark.parametrize(
    ("task", "shots"), [(t, n) for t in TASKS for n in (0, 1, 2) if (t, n) != ("arithmetic", 0)]
)
def test_prompts_of_one_task_are_equally_long_whatever_the_level(model: Model, task: str, shots: int) -> None:
    windows = Problems(task, per_level=5, shots=shots).windows(model, 0)
    assert len({w.about["start"] for w in windows.items}) == 1
    assert {w.about["length"] for w in windows.items} == {1}
    assert len({w.about["level"] for w in windows.items}) == len(TASKS[task].levels)


def test_windows_hold_prompt_answer_and_line_end_and_mark_what_predicts_them(model: Model) -> None:
    material = Problems("brackets", levels=(2, 4), per_level=3)
    windows = material.windows(model, 0)
    problems = material.problems(0)[1]
    assert [p.level for p in problems] == [2, 2, 2, 4, 4, 4]
    assert len(windows.documents) == 6
    for window, problem in zip(windows.items, problems, strict=True):
        text = f"{problem.prompt} {problem.answer}\n"
        assert list(window.ids) == model.tokenizer.encode(text)
        start = window.about["start"]
        assert list(window.ids[:start]) == model.tokenizer.encode(f"{problem.prompt} ")
        assert window.marks == (start - 1, start)
        assert window.about["splits"] == [start - 1]
        assert (window.about["stop"], window.about["level"]) == (1, problem.level)


def test_equal_seeds_give_equal_problems_and_no_prompt_comes_twice() -> None:
    first, again, other = (Problems("arithmetic", (2,), 40, 0).problems(seed)[1] for seed in (0, 0, 1))
    assert first == again != other
    assert len({p.prompt for p in first}) == 40


def test_a_level_with_few_different_problems_gives_what_there_is() -> None:
    assert len(Problems("arithmetic", (2,), 500, 0).problems(0)[1]) == 81


def test_levelled_rows_are_read_with_named_columns_and_a_template(tmp_path: Path, model: Model) -> None:
    rows = [
        {"cloze": f"The head of row {k} is", "answer": "abcdefgh", "hops": f"Level {1 + k % 2}"}
        for k in range(8)
    ]
    path = written(tmp_path, *rows, rows[0])
    material = Problems(path, (), 3, columns="cloze, answer, hops", template="Q: {}", reach=4)
    windows = material.windows(model, 0)
    assert [w.about["level"] for w in windows.items] == [1, 1, 1, 2, 2, 2]
    assert {w.about["whole"] for w in windows.items} == {8}
    assert {(w.about["length"], w.about["stop"]) for w in windows.items} == {(4, 0)}
    assert all(w.document.startswith("row-") for w in windows.items)
    start = model.tokenizer.encode("Q: The head of row")
    assert all(list(w.ids[: len(start)]) == start for w in windows.items)


def test_rows_without_text_or_level_are_named(tmp_path: Path, model: Model) -> None:
    for row in ({"prompt": "a", "answer": " ", "level": 1}, {"prompt": "a", "answer": "b", "level": "hard"}):
        path = written(tmp_path, {"prompt": "x", "answer": "y", "level": 1}, row)
        with pytest.raises(BadInput, match="row 2 has no text in"):
            Problems(path).windows(model, 0)
    with pytest.raises(BadInput, match="has no 'hops'"):
        Problems(path, columns="prompt,answer,hops").windows(model, 0)


def test_wrong_parameters_are_told(tmp_path: Path, model: Model) -> None:
    with pytest.raises(BadInput, match=r"has no level \[9\]; it has \[2, 3, 4, 5, 6, 7, 8\]"):
        Problems("arithmetic", (2, 9)).windows(model, 0)
    with pytest.raises(BadInput, match="per_level=0"):
        Problems(per_level=0)
    with pytest.raises(BadInput, match="and a template with"):
        Problems(template="no place")
    with pytest.raises(BadInput, match="three names"):
        Problems(columns="a,b")
    with pytest.raises(BadInput, match="shots=-1"):
        Problems(shots=-1)
    path = written(tmp_path, {"prompt": "x" * 99, "answer": "y", "level": 1})
    with pytest.raises(EmptyMaterial, match="all prompts exceed 50 tokens"):
        Problems(path, longest=50).windows(model, 0)
