"""Notes that something in the work triggers: each says what was not tested, or what is known to fail first."""

from __future__ import annotations

from collections.abc import Sequence

from depthscope.results.decision import Said, TaskLine, Variant

ENOUGH = 100
COVERED = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "olmo2", "phi3", "opt", "gpt_neox")
"""Families whose pruning was published with task results (Men et al. 2024; Gromov et al. 2024; Kim et al. 2024)."""


def notes(
    tasks: Sequence[TaskLine],
    variants: Sequence[Variant],
    *,
    flags: Sequence[str],
    family: str,
    chat_template: bool,
    own_text: bool,
    quantised_after: bool,
) -> tuple[Said, ...]:
    """The notes that apply.

    Args:
        variants: all, the base among them. flags: of the task sheet. family: architecture of the base. chat_template:
            whether its tokenizer has one. own_text: whether the calibration text was named in the sheet.
        quantised_after: whether a variant was quantised after pruning.
    """
    math, few = sum(task.math for task in tasks), [task.name for task in tasks if task.items < ENOUGH]
    likelihood = [task.name for task in tasks if "generation" not in task.by]
    pruned = any(one.kind in ("pruned", "ladder") for one in variants)
    talks = chat_template or "chat" in flags or "tools" in flags
    several = "multi_step" in flags or any(task.multi_hop for task in tasks)
    rules = (
        (math > 0, Said.of("risk.math", items=math)),
        (math == 0 and "arithmetic" in flags, Said.of("risk.arithmetic")),
        *((flag in flags, Said.of(f"risk.{flag}")) for flag in ("dates", "codes", "regulated")),
        (several, Said.of("risk.multi_step")),
        (bool(few), Said.of("risk.few_items", tasks=few)),
        (bool(likelihood), Said.of("risk.likelihood", tasks=likelihood)),
        (pruned and family not in COVERED, Said.of("risk.family", family=family)),
        (pruned, Said.of("risk.healing")),
        (pruned and talks, Said.of("risk.chat")),
        (pruned, Said.of("risk.safety")),
        (pruned and not own_text, Said.of("risk.domain")),
        (any(one.kind == "quantised" for one in variants), Said.of("risk.expanded")),
        (quantised_after, Said.of("risk.quantised")),
    )
    return tuple(note for applies, note in rules if applies)
