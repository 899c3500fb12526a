"""Warns before training if memory will probably not be enough, and turns its end into an error with a remedy.

TensorFlow and its libraries sometimes end the process when memory runs out. Then nothing can be caught, so the warning
comes first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import tensorflow as tf

from textclf.encoders.prepare import PreparedData
from textclf.errors import TrainingError
from textclf.recipe.settings import Recipe
from textclf.training.model import TaskModel
from textclf.training.rows import TrainingRows
from textclf.training.saved.run_folder import RunFolder

# What Python, TensorFlow and its thread pools need before anything is trained.
_BYTES_OF_THE_PROGRAM = 900e6

# The weights as read, as variables, their gradients, two moments of each, and the copy that is written to disk.
_COPIES_OF_WEIGHTS = 6

# How libraries report the end of memory if they raise other kinds of errors.
_SIGNS = re.compile(
    r"OOM when allocating|out of memory|OUT_OF_MEMORY|bad_alloc|Dst tensor is not initialized|RESOURCE_EXHAUSTED|"
    r"[Cc]annot allocate memory|[Ff]ailed to allocate"
)


@contextmanager
def memory_errors(recipe: Recipe, folder: RunFolder, doing: str) -> Iterator[None]:
    """Turns the end of memory, however a library reports it, into a TrainingError; `doing` says what was being done."""
    try:
        yield
    except Exception as error:
        if not is_end_of_memory(error):
            raise
        saved = (
            "The last saved step is kept: free some memory and continue with --resume, or change"
            if folder.last_state.is_file()
            else "Free some memory, or change"
        )
        raise TrainingError(f"out of memory while {doing}. {saved} the recipe: {remedy(recipe)}") from error


def is_end_of_memory(error: BaseException) -> bool:
    """Returns True for MemoryError, TensorFlow's ResourceExhaustedError, and what other libraries raise instead."""
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return True
    native = isinstance(error, RuntimeError | OSError) or hasattr(error, "error_code")
    return native and _SIGNS.search(str(error)) is not None


def remedy(recipe: Recipe) -> str:
    """Returns what makes a step smaller, with the present values."""
    training, length = recipe.training, recipe.encoder.max_length
    return (
        f"lower training.batch_size (now {training.batch_size}) or encoder.max_length (now {length}), or raise "
        f"training.accumulate (now {training.accumulate}, at most batch_size), which computes the same batch in smaller parts"
    )


def training_bytes(weights: int, activations: float) -> float:
    """Returns about how many bytes a training needs: for `weights` numbers, and `activations` bytes in a step."""
    return _BYTES_OF_THE_PROGRAM + 4 * weights * _COPIES_OF_WEIGHTS + activations


def prepare_linear_algebra() -> None:
    """Makes numpy's library allocate its working memory now: if it gets none later, it ends the process."""
    square = np.ones((512, 512), np.float32)
    np.linalg.eigvalsh(square @ square)


def shortage(needed: float, recipe: Recipe, available: float | None) -> str | None:
    """Returns a warning if the bytes needed are more than those available, or None; also if these are unknown."""
    if available is None or needed <= available:
        return None
    return (
        f"this training needs about {needed / 1e9:.1f} GB of memory, but this process can have only "
        f"{available / 1e9:.1f} GB, so the system may kill it without a message: {remedy(recipe)}"
    )


def expected_shortage(
    recipe: Recipe, data: PreparedData, model: TaskModel, rows: TrainingRows, seed: int
) -> str | None:
    """Returns a warning if this training will probably need more memory than there is, or None.

    A step needs as much as the longest texts of an epoch.
    """
    if tf.config.list_physical_devices("GPU"):
        return None  # Training uses the GPU's memory, and TensorFlow reports in time that it ends.
    largest = max(rows.batches(seed, 0), key=lambda batch: len(batch.rows) * batch.length)
    tokens = max(part.tokens.ids.size for part in rows.parts(largest))
    weights = sum(array.size for array in model.encoder.checkpoint.weights.values())
    measured = min(model.evaluation_batch, max(len(encoded.lengths) for encoded in data.encoded.values()))
    length = max(int(encoded.lengths.max(initial=0)) for encoded in data.encoded.values())
    activations = model.encoder.activation_bytes(tokens, measured * length, length)
    return None if activations is None else shortage(training_bytes(weights, activations), recipe, available_bytes())


def available_bytes() -> float | None:
    """Returns how much memory this process can have, including what it has already: the least of the machine's free
    memory, the limit of its control group (containers), and its limit of addresses (ulimit -v). None if the system
    reports none of them."""
    found: list[float] = []
    own = _numbers("/proc/self/status")
    resident, addresses = own.get("VmRSS", 0), own.get("VmSize", 0)
    if (free := _numbers("/proc/meminfo").get("MemAvailable")) is not None:
        found.append(free + resident)
    with suppress(OSError, ValueError):
        found.append(float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    with suppress(ImportError, OSError, ValueError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            # About half of the addresses are reserved by thread pools and never used, but count against this limit.
            found.append((limit - addresses) / 2 + resident)
    return min(found, default=None)


def _numbers(path: str) -> dict[str, int]:
    """Returns bytes by name from one of the system's tables of `name: number kB`; empty if it does not exist."""
    if not os.path.exists(path):
        return {}
    with suppress(OSError):
        text = Path(path).read_text(encoding="utf-8", errors="replace")
        return {name: 1024 * int(number) for name, number in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    return {}
