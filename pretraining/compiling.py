"""Functions that PyTorch compiles for the device on their first call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the compiled function, for arguments of few different shapes."""
    return torch.compile(function, dynamic=False)


def compiled_for_training(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, but without gradients the function stays as it is: measuring is rare and would need a second program."""
    fast = torch.compile(function, dynamic=False)

    def call(*arguments: Any) -> Any:
        return (fast if torch.is_grad_enabled() else function)(*arguments)

    return call
