"""Pairs of in-context tasks without examples: what is asked where a vector takes the examples' place."""

from __future__ import annotations

from dataclasses import dataclass

from depthscope.errors import EmptyMaterial
from depthscope.materials.edges import edges
from depthscope.materials.icl_tasks import Asking, IclTask, icl_tasks
from depthscope.materials.window import Window, Windows
from depthscope.runtime.model import Model


@dataclass(frozen=True)
class TaskPairs:
    """One window a task, the prompt of its first pair; `about` holds all pairs that can be asked.

    Args:
        source, tasks: see `materials.icl_tasks.icl_tasks`.
    """

    source: str = ""
    tasks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the material."""
        return "task_pairs"

    def windows(self, model: Model, seed: int) -> Windows:
        """In the order of the tasks; tasks without a pair that can be asked are left out.

        Raises:
            EmptyMaterial: where no task has one. What `icl_tasks` raises.
        """
        del seed
        before, _, words = edges(model.tokenizer, "auto", model.config.model_type)
        asking = Asking(model.tokenizer, before)
        found = [_window(k, task, asking) for k, task in enumerate(icl_tasks(self.source, self.tasks))]
        kept = tuple(window for window in found if window is not None)
        source = self.source or "the packaged set"
        if not kept:
            raise EmptyMaterial(
                f"no pair of {source} can be asked: ids of prompt and answer never begin with the prompt's"
            )
        return Windows(kept, f"pairs of {len(kept)} in-context tasks of {source}", words, 0)


def _window(index: int, task: IclTask, asking: Asking) -> Window | None:
    pairs = [pair for pair in task.pairs if asking.extends(pair)]
    if not pairs:
        return None
    about = {"task": task.name, "pairs": [list(pair) for pair in pairs]}
    return Window(index, task.name, tuple(asking.prompt([], pairs[0])[0]), (), about)
