"""All layers on all tasks from one pass, against one truncated model a layer, as evaluation libraries need it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.paired import Ratio, seconds
from depthscope.engine.pooled import pooled
from depthscope.engine.task_scores import scored
from depthscope.materials.labelled import Labelled, labelled
from depthscope.materials.text import read
from depthscope.runtime.model import Model

ITEMS, WORDS = 64, 24


def layer_tasks(model: Model) -> list[Ratio]:
    """Two tasks over texts of 24 words; A loads and runs a model of k blocks for each k and scores it. A runs once."""
    tasks = _tasks()
    layers = model.anatomy.n_layers
    found: dict[str, list[np.ndarray]] = {"one pass": [], "truncated": []}
    with tempfile.TemporaryDirectory() as folder:
        model.net.save_pretrained(folder)  # pyright: ignore[reportCallIssue]
        _one_pass(model, tasks[:1], [])  # warm
        a = seconds(partial(_truncated, model, Path(folder), tasks, found["truncated"]))
    b = [seconds(partial(_one_pass, model, tasks, found["one pass"])) for _ in range(3)]
    _agree(found, layers)
    low, middle, high = sorted(time / a for time in b)
    goal = f"<= {1 / (0.6 * layers):.3f} (0.6 x {layers} layers times faster)"
    return [
        Ratio(
            "all layers, two tasks: one pass / a truncated model a layer", middle, low, high, None, a, 1, goal
        )
    ]


def _agree(found: dict[str, list[np.ndarray]], layers: int) -> None:
    """States 1..L-1 of one pass are the outputs of the truncated models; their last norm comes with both."""
    whole, each = found["one pass"][0], np.stack(found["truncated"])
    np.testing.assert_allclose(whole[1:layers], each[: layers - 1], rtol=1e-3, atol=1e-3)


def _one_pass(model: Model, tasks: Sequence[Labelled], vectors: list[np.ndarray]) -> None:
    for task in tasks:
        states = pooled(model, task.texts, norm=True).vectors
        vectors.append(states)
        scored(task, states, _metrics(task), draws=2)


def _truncated(model: Model, folder: Path, tasks: Sequence[Labelled], vectors: list[np.ndarray]) -> None:
    """What a library does that sees one encoder at a time: the model of k blocks, whose output is normed."""
    from transformers import AutoModel

    for k in range(1, model.anatomy.n_layers + 1):
        net = AutoModel.from_pretrained(folder, num_hidden_layers=k, dtype=model.dtype).eval()
        for number, task in enumerate(tasks):
            ids = {text: tuple(model.tokenizer.encode(text)) for text in task.texts}
            outputs = {}
            for length in sorted({len(one) for one in ids.values()}):
                same = [one for one in dict.fromkeys(ids.values()) if len(one) == length]
                for start in range(0, len(same), 32):
                    batch = same[start : start + 32]
                    with torch.no_grad():
                        states = net(torch.tensor(batch), use_cache=False).last_hidden_state
                    outputs.update(zip(batch, states.mean(1).numpy(), strict=True))
            states = np.stack([outputs[ids[text]] for text in task.texts])
            scored(task, states[None], _metrics(task), draws=2)
            if number == 0:
                vectors.append(states)


def _metrics(task: Labelled) -> tuple[str, ...]:
    return ("few_shot", "knn") if task.kind == "classification" else ()


def _tasks() -> list[Labelled]:
    """Which passage a stretch of text is from, of four; and how far apart two stretches are."""
    _, documents = read(None)
    words = [document.text.split() for document in documents]
    size = ITEMS // 4
    longest = sorted(range(len(words)), key=lambda k: -len(words[k]))[:4]
    stretches = [
        (k, " ".join(words[k][start : start + WORDS]))
        for k in longest
        for start in np.linspace(0, max(1, len(words[k]) - WORDS), size).astype(int).tolist()
    ]
    kinds = [{"text": text, "label": str(k)} for k, text in stretches]
    pairs = [
        {"text_a": a[1], "text_b": b[1], "score": float(a[0] == b[0]) + n / 1000}
        for n, (a, b) in enumerate(zip(stretches, stretches[7:] + stretches[:7], strict=True))
    ]
    return [labelled("passages", kinds), labelled("near", pairs)]
