"""The highest version of each operation of a model that each runtime supports.

The versions were found by raising the version of one operation at a time in a small model until the runtime refused it.
"""

from __future__ import annotations

from typing import Literal

Compatibility = Literal["litert", "task-library"]
"""The runtimes of a file: LiteRT and MediaPipe, or also the Task Library 0.4.4 with its older runtime."""

_TASK_LIBRARY_0_4_4 = {
    "ADD": 5,
    "BATCH_MATMUL": 4,
    "CAST": 5,
    "CONCATENATION": 4,
    "CUMSUM": 1,
    "DEQUANTIZE": 5,
    "FULLY_CONNECTED": 10,
    "GATHER": 6,
    "MUL": 7,
    "PACK": 4,
    "PADV2": 4,
    "RESHAPE": 1,
    "SLICE": 6,
    "SOFTMAX": 3,
    "SPLIT": 4,
    "STRIDED_SLICE": 8,
    "SUB": 5,
    "TANH": 3,
    "TRANSPOSE": 6,
}

_LITERT_2_3 = {
    "ADD": 6,
    "BATCH_MATMUL": 4,
    "CAST": 9,
    "CONCATENATION": 7,
    "CUMSUM": 1,
    "DEQUANTIZE": 9,
    "EMBEDDING_LOOKUP": 5,
    "FULLY_CONNECTED": 14,
    "GATHER": 8,
    "MUL": 8,
    "PACK": 5,
    "PADV2": 6,
    "RESHAPE": 1,
    "SLICE": 8,
    "SOFTMAX": 4,
    "SPLIT": 5,
    "STRIDED_SLICE": 8,
    "SUB": 5,
    "TANH": 3,
    "TRANSPOSE": 9,
}

OPERATION_LIMITS = {
    "LiteRT 2.3": _LITERT_2_3,
    "MediaPipe 1.2.2": _LITERT_2_3,
    "Task Library 0.4.4": _TASK_LIBRARY_0_4_4,
}
"""Runtime → operation → highest version. An operation that is not listed was not tried."""

RUNTIMES: dict[Compatibility, tuple[str, ...]] = {
    "litert": ("LiteRT 2.3", "MediaPipe 1.2.2"),
    "task-library": ("LiteRT 2.3", "MediaPipe 1.2.2", "Task Library 0.4.4"),
}
"""The runtimes in which a file of each kind must load."""
