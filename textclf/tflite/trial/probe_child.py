"""Runs an unknown model in a separate process: reads it from standard input and prints the result as one line of JSON.

It is started by `probe`. If the system supports it, the process limits its memory, time and files.
"""

from __future__ import annotations

import json
import sys
from typing import Any

READY = "ready"
"""This line says that everything is loaded. From now on, the model is the cause if the process ends."""


def main() -> None:
    order = json.loads(sys.stdin.buffer.readline())
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    _limit(order["memory"], order["seconds"])
    content = sys.stdin.buffer.read()
    print(READY, flush=True)
    try:
        _run(Interpreter(model_content=content, num_threads=1), np, order)
        verdict: dict[str, Any] = {}
    except (ValueError, RuntimeError, OverflowError, MemoryError) as error:
        verdict = {"refused": str(error).strip() or type(error).__name__}
    print(json.dumps(verdict), flush=True)


def _run(interpreter: Any, np: Any, order: dict[str, Any]) -> None:
    """Yields every length with the smallest, the largest and mixed ids, in the order in which a classifier resizes."""
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    for length in order["lengths"]:
        if length is not None:
            for detail in inputs:
                interpreter.resize_tensor_input(detail["index"], [1, length], strict=False)
            interpreter.allocate_tensors()
        for choose in (
            lambda largest: (0, 1),
            lambda largest: (largest, largest + 1),
            lambda largest: (0, largest + 1),
        ):
            for detail, largest in zip(interpreter.get_input_details(), order["largest"], strict=True):
                values = np.random.default_rng(0).integers(*choose(largest), detail["shape"])
                interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
            interpreter.invoke()
            for detail in outputs:
                interpreter.get_tensor(detail["index"])


def _limit(memory: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits.
        return
    used = _address_space()
    limits = [(resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 1 << 26)]
    if used is not None:
        limits.append((resource.RLIMIT_AS, used + memory))
    for limit, value in limits:
        hard = resource.getrlimit(limit)[1]
        try:
            resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
        except (ValueError, OSError):  # This system has the name of the limit but not the limit.
            continue


def _address_space() -> int | None:
    """Returns the used address space in bytes, if the system reports it."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
    except (OSError, ValueError):
        return None
    import resource

    return pages * resource.getpagesize()
