"""Scores: how many items of a task a model gets right, by likelihood of its options or by what it writes.

By generation the model writes greedily with its own cache, rows of a batch together: of equal length, or padded on the
left where the family allows it. What it wrote is kept beside the judgement.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.materials.continuation import continued
from depthscope.materials.edges import edges
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.tasks import LETTERS, Item, Task, number_in
from depthscope.runtime.model import Batch, Model

By = Literal["generation", "likelihood", "normalised"]
WAYS: tuple[By, ...] = ("generation", "likelihood", "normalised")
BATCH = 16


@dataclass(frozen=True)
class Scores:
    """Which items of a task a model got right.

    Args:
        by: generation, likelihood (the option of highest log-probability) or normalised (per character of the option).
        ids: of the items. correct: [item]. said: what the model wrote, or the option it found most likely, [item].
    """

    task: str
    by: By
    ids: tuple[str, ...]
    correct: tuple[bool, ...]
    said: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        """Share of the items that are right, 0..1."""
        return sum(self.correct) / len(self.correct)

    def only(self, ids: Iterable[str]) -> Scores:
        """The scores of some of the items."""
        wanted = set(ids)
        kept = [k for k, i in enumerate(self.ids) if i in wanted]
        pick: Callable[[Sequence[Any]], tuple[Any, ...]] = lambda values: tuple(values[k] for k in kept)  # noqa: E731
        return Scores(self.task, self.by, pick(self.ids), pick(self.correct), pick(self.said))

    def as_dict(self) -> dict[str, Any]:
        """The scores as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Scores:
        """The scores that `as_dict` gave."""
        lists = {key: tuple(stored[key]) for key in ("ids", "correct", "said")}
        return cls(stored["task"], stored["by"], **lists)


def score(
    model: Model, task: Task, by: str = "generation", *, batch: int = BATCH, chat: bool = False
) -> Scores:
    """Score a model on a task.

    Args:
        by: generation; or likelihood, normalised: which option has the highest log-probability after the prompt, its
            full text read, as a sum or per character (longer options lose less). Only choices have options.
        batch: rows read together. chat: prompts go through the tokenizer's chat template as a user's message.

    Raises:
        Refused: for models that are no causal language models, and a chat without a template.
        BadInput: for likelihood of a task without options. UnknownName: for another way to score.
    """
    if by not in WAYS:
        raise UnknownName("way to score", by, WAYS)
    if not model.anatomy.has_unembedding() or not model.anatomy.family.causal or model.tokenizer is None:
        raise Refused(f"{model.name} cannot answer tasks: it is no causal language model with a tokenizer")
    if batch < 1:
        raise BadInput(f"tasks are scored {batch} rows at a time; give 1 or more")
    if by == "generation":
        said = _written(model, task, batch, chat)
        correct = tuple(judged(item, text) for item, text in zip(task.items, said, strict=True))
    else:
        if task.kind != "choice":
            raise BadInput(f"{task.name!r} is {task.kind} and has no options; score it by generation")
        places = _likeliest(model, task, batch, chat, per_character=by == "normalised")
        said = tuple(item.options[k] for item, k in zip(task.items, places, strict=True))
        correct = tuple(item.gold == k for item, k in zip(task.items, places, strict=True))
    return Scores(task.name, by, tuple(item.id for item in task.items), correct, said)


def judged(item: Item, text: str) -> bool:
    """Whether what a model wrote is right.

    `exact`: equal to an answer but for case, white space and a last full stop. `contains`: an answer stands in it as
    whole words. `number`: its last number is the answer's. `letter`: its first letter that stands alone and names an
    option names the right one, or it begins with the right option's text.
    """
    if item.scorer == "number":
        return any(number_in(text) is not None and number_in(text) == number_in(a) for a in item.answers)
    if item.scorer == "letter":
        return _letter(item, text)
    said = _plain(text)
    if item.scorer == "exact":
        return any(said == _plain(answer) for answer in item.answers)
    return any(re.search(rf"(?<!\w){re.escape(_plain(a))}(?!\w)", said) for a in item.answers)


def asked(item: Item) -> str:
    """The prompt as a writing model reads it: a choice that does not name its options gets them, with letters."""
    if not item.options or item.scorer != "letter" or all(option in item.prompt for option in item.options):
        return item.prompt
    named = "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, item.options, strict=False))
    return f"{item.prompt}\n{named}\nAnswer:"


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")


def _letter(item: Item, text: str) -> bool:
    letters = LETTERS[: len(item.options)]
    right = _plain(item.answers[0])
    if re.match(rf"{re.escape(right)}(?!\w)", _plain(text)):
        return True
    found = re.search(rf"(?<!\w)[{letters}](?!\w)", text)
    return found is not None and letters.index(found[0]) == item.gold


def _prompt_ids(model: Model, text: str, chat: bool) -> list[int]:
    if chat:
        if not getattr(model.tokenizer, "chat_template", None):
            raise Refused(f"the tokenizer of {model.name} has no chat template; leave chat off")
        said = [{"role": "user", "content": text}]
        return list(
            model.tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=True)[
                "input_ids"
            ]
        )
    before, _, _ = edges(model.tokenizer, "auto", model.config.model_type)
    return [*before, *plain_ids(model.tokenizer, text)]


def _together(lengths: Sequence[int], batch: int, pad: bool) -> Iterator[list[int]]:
    """Places of rows that are read together, longest first: of equal length where rows may not be padded."""
    order = sorted(range(len(lengths)), key=lambda k: (-lengths[k], k))
    group: list[int] = []
    for k in order:
        if group and (len(group) == batch or (not pad and lengths[k] != lengths[group[0]])):
            yield group
            group = []
        group.append(k)
    if group:
        yield group


def _written(model: Model, task: Task, batch: int, chat: bool) -> tuple[str, ...]:
    prompts = [_prompt_ids(model, asked(item), chat) for item in task.items]
    said = [""] * len(prompts)
    for group in _together([len(p) for p in prompts], batch, model.anatomy.family.left_padding):
        for k, text in zip(
            group, continuations(model, [prompts[k] for k in group], task.length, task.stop), strict=True
        ):
            said[k] = text
    return tuple(said)


def continuations(
    model: Model, prompts: Sequence[Sequence[int]], length: int, stop: str = ""
) -> tuple[str, ...]:
    """What a model writes greedily after each prompt, cut before `stop`; with its own cache, all rows in one batch."""
    import transformers

    pad = _pad_id(model)
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    # said even where nothing is padded: generation would otherwise guess, and take a pad token of a prompt for padding
    knows = "attention_mask" in inspect.signature(model.net.forward).parameters
    padded = {"attention_mask": mask} if knows else {}
    ending = transformers.StoppingCriteriaList([_Stop(model, stop, longest)] if stop else [])
    settings: Any = transformers.GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=length, pad_token_id=pad, eos_token_id=_ends(model) or None,
        use_cache=True,
    )  # fmt: skip
    net = cast(Any, model.net)
    with torch.no_grad():
        out: Tensor = net.generate(ids, **padded, generation_config=settings, stopping_criteria=ending)
    return tuple(_cut(_text(model, row.tolist()), stop) for row in out[:, longest:])


class _Stop:
    """Tells generation which rows have met the text that ends an answer."""

    def __init__(self, model: Model, stop: str, start: int) -> None:
        self.model, self.stop, self.start = model, stop, start

    def __call__(self, ids: Tensor, scores: object, **more: Any) -> Tensor:
        del scores, more
        met = [self.stop in _text(self.model, row.tolist()).lstrip() for row in ids[:, self.start :]]
        return torch.tensor(met, dtype=torch.bool, device=ids.device)


def _cut(text: str, stop: str) -> str:
    said = text.lstrip()
    return (said.partition(stop)[0] if stop else said).strip()


def _text(model: Model, ids: Sequence[int]) -> str:
    """The text before the first id that ends writing."""
    ends = {*_ends(model), _pad_id(model)}
    kept = next((k for k, i in enumerate(ids) if i in ends), len(ids))
    return model.tokenizer.decode(list(ids[:kept]))


def _ends(model: Model) -> list[int]:
    settings = getattr(model.net, "generation_config", None)
    own = [getattr(holder, "eos_token_id", None) for holder in (settings, model.config, model.tokenizer)]
    each = [ids if isinstance(ids, list) else [ids] for ids in own]
    return sorted({int(i) for ids in each for i in ids if i is not None})


def _pad_id(model: Model) -> int:
    own = getattr(model.tokenizer, "pad_token_id", None)
    return int(own) if own is not None else next(iter(_ends(model)), 0)


def _likeliest(model: Model, task: Task, batch: int, chat: bool, per_character: bool) -> list[int]:
    """Place of the option of highest log-probability of each item."""
    rows, owners = [], []
    for place, item in enumerate(task.items):
        for option in item.options:
            rows.append(_option_ids(model, item.prompt, option, chat))
            owners.append((place, option))
    found: list[list[float]] = [[] for _ in task.items]
    totals = _log_probabilities(model, rows, batch)
    for (place, option), total in zip(owners, totals, strict=True):
        found[place].append(total / len(option) if per_character else total)
    return [int(torch.tensor(each).argmax()) for each in found]


def _option_ids(model: Model, prompt: str, option: str, chat: bool) -> tuple[list[int], list[int]]:
    """Ids of a prompt, and of an option that follows it."""
    if chat:
        return _prompt_ids(model, prompt, chat), plain_ids(model.tokenizer, option)
    before, _, _ = edges(model.tokenizer, "auto", model.config.model_type)
    first, after = continued(model.tokenizer, prompt, option)
    return [*before, *first], after


def _log_probabilities(model: Model, rows: Sequence[tuple[list[int], list[int]]], batch: int) -> list[float]:
    """Sum of the log-probabilities in nats of each row's second part after its first."""
    lengths = [len(first) + len(after) for first, after in rows]
    found = [0.0] * len(rows)
    for group in _together(lengths, batch, pad=False):
        ids = Batch.of_ids([rows[k][0] + rows[k][1] for k in group]).ids.to(model.device)
        with torch.no_grad():
            logits = model.net(input_ids=ids, use_cache=False).logits
        for place, k in enumerate(group):
            after = torch.tensor(rows[k][1], device=model.device)
            part = logits[place, -len(after) - 1 : -1]
            part = part.to(torch.promote_types(part.dtype, torch.float32))
            found[k] = float(torch.log_softmax(part, -1).gather(-1, after[:, None]).double().sum())
    return found
