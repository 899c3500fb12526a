"""The latency of a run's model: how long LiteRT needs for one input of the model's whole length, on one thread."""

from __future__ import annotations

import platform
import statistics
import time
from pathlib import Path

from textclf.runs.record.metrics_file import Latency

_RUNS = 20

# A large model is measured less often.
_SECONDS, _FEWEST_RUNS = 1.0, 3


def latency_of(model: Path) -> Latency:
    """Measures a `.tflite` file. The time does not depend on what the input says, so all inputs are ones."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    from textclf.terminal.native_log import start_litert

    start_litert()
    interpreter = Interpreter(model_content=model.read_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    inputs = interpreter.get_input_details()
    for one in inputs:
        interpreter.set_tensor(one["index"], np.ones(one["shape"], one["dtype"]))
    interpreter.invoke()
    times: list[float] = []
    ends = time.monotonic() + _SECONDS
    while len(times) < _FEWEST_RUNS or (len(times) < _RUNS and time.monotonic() < ends):
        begun = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - begun)
    return Latency(
        milliseconds=round(1e3 * statistics.median(times), 2),
        tokens=int(inputs[0]["shape"][1]),
        threads=1,
        runs=len(times),
        processor=processor_name(),
    )


def processor_name() -> str:
    """Returns the name of this machine's processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
