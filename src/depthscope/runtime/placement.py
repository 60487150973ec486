"""Where a network runs and by which attention kernel: refused before loading where it cannot be, then put there."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface

from depthscope.errors import BadInput, UnknownName


def must_be_usable(device: str | torch.device | None, kernel: str | None) -> None:
    """Refuse a device that is not here and an attention kernel that nobody knows, before anything is read.

    Raises:
        UnknownName: for the kernel. BadInput: for the device.
    """
    known = sorted({"eager", *AttentionInterface().valid_keys()})
    if kernel is not None and kernel not in known and "/" not in kernel:  # a hub id may hold a kernel
        raise UnknownName("attention kernel", kernel, known)
    try:
        usable = device is None or torch.empty(1, device=device).device.type != "meta"
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        said = str(error).strip().split("\n")[0]
        raise BadInput(
            f"--device {device}: {said}. Use cpu, or a device that torch {torch.__version__} sees here"
        ) from error
    if not usable:
        raise BadInput(f"--device {device}: it holds no numbers; use cpu, cuda, cuda:1 ...")


def must_be_none(name: str, **given: object) -> None:
    """Refuse options that would change nothing: a revision of no hub id, or what only transformers could heed.

    Args:
        name: the model as it was asked for. given: options by name; None is not given.

    Raises:
        BadInput: for the first that is given.
    """
    for option, value in given.items():
        if value is not None:
            what = "a hub id" if option == "revision" else "a checkpoint that transformers opens"
            raise BadInput(f"{option}={value!r} belongs to {what}, and {name} is none; leave it out")


def put(net: Any, device: str | torch.device | None, kernel: str | None) -> None:  # noqa: ANN401
    """Give a network its attention kernel and its device, in place.

    Raises:
        BadInput: for a kernel that is not installed, or that this architecture does not have.
    """
    if kernel is not None:
        try:
            net.set_attn_implementation(kernel)
        except (ValueError, ImportError) as error:
            said = str(error).strip().split("\n")[0]
            raise BadInput(f"--attn {kernel}: {said[:300]} Use sdpa or eager") from error
    if device is not None:
        net.to(device)
