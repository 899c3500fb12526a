"""Runs an unknown model in a separate process first, so that a crash there does not stop this process.

Takes a model, and raises a ModelError if it fails. First the graph is checked, which detects nearly every problem; then
a child process loads and runs the model, because no check is complete. The result for a valid file is stored in the
cache folder under the hash of its bytes, so that only its first use takes the third of a second for this trial.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from textclf.errors import ModelError
from textclf.files.network import cache_folder
from textclf.files.writing import write_bytes
from textclf.processes import end_of, ending, last_line
from textclf.tflite.format.packed_files import EXPORT_AGAIN
from textclf.tflite.model_file import TfliteModel
from textclf.tflite.trial.probe_child import READY

# The memory that a graph may need at once, and that of LiteRT with its prepared weights, in addition to the file's size.
_MEMORY = 3 << 30

# Increased when the checks or the probe detect more than before. Earlier results are then invalid.
_VERDICT = "1"

# With the sys.path of this process, a child imports the same textclf and the same LiteRT.
START = "import sys; sys.path[:] = sys.argv[1:]; from textclf.tflite.trial.probe_child import main; main()"

_log = logging.getLogger(__name__)

KNOWN: set[str] = set()
"""The hashes of the models that this process may run."""


@dataclass(frozen=True)
class Trial:
    """The child process that runs a model: the Python interpreter, its program, and the seconds after which it is
    ended."""

    interpreter: str = sys.executable or "python"
    program: str = START
    seconds: int = 120


TRIAL = Trial()


def trust(content: bytes) -> None:
    """Records that this process wrote these bytes from checked parts, so they need no probe."""
    KNOWN.add(_digest(content))


def check_runnable(
    model: TfliteModel,
    largest_ids: Sequence[int],
    *,
    resizable: bool = False,
    known: set[str] = KNOWN,
    trial: Trial = TRIAL,
) -> None:
    """Raises ModelError for a model that cannot be run, or must not be run in this process.

    `largest_ids` are the largest numbers that will be written into each input. A `resizable` model also runs at shorter
    lengths. A model in `known` is not checked again; one that passes is added.
    """
    digest = _digest(model.content)
    if digest in known:
        return
    verdict = _verdict_file(digest)
    if verdict is None or not _is_file(verdict):
        # Only the first use of a file runs the rules.
        from textclf.tflite.trial.graph_check import check_graph

        lengths = _lengths(model) if resizable else ()
        check_graph(model, lengths)
        if not _survives(model, largest_ids, lengths, trial):
            return
        # Without a writable cache folder, the next process checks again.
        if verdict is not None:
            with suppress(OSError):
                verdict.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(verdict, b"")
    known.add(digest)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _verdict_file(digest: str) -> Path | None:
    """Returns the file for the result, or None for a user without a home folder.

    Each version of LiteRT has a separate file, because a model may crash another version."""
    import ai_edge_litert

    version = getattr(ai_edge_litert, "__version__", "unknown")
    try:
        folder = cache_folder()
    except RuntimeError:
        return None
    return folder / "models" / f"{digest}-litert-{version}-{_VERDICT}"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _lengths(model: TfliteModel) -> tuple[int, ...]:
    """Returns the shortest length, an odd one, one in the middle and the stored one."""
    shapes = [tensor.shape for tensor in model.inputs]
    longest = min((shape[1] for shape in shapes if len(shape) == 2), default=2)
    return tuple(length for length in dict.fromkeys((2, 3, longest // 2, longest)) if 2 <= length <= longest)


def _survives(model: TfliteModel, largest_ids: Sequence[int], lengths: Sequence[int], trial: Trial) -> bool:
    """Runs the model in a child process. Returns False if no child process can be started, so that nothing is known."""
    order = {
        "memory": _MEMORY + 4 * len(model.content),
        "seconds": trial.seconds,
        "largest": [max(1, largest) for largest in largest_ids],
        # The stored size comes first and again at the end.
        "lengths": [None, *lengths],
    }
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as answer:
        try:
            child = subprocess.Popen(
                [trial.interpreter, "-c", trial.program, *sys.path],
                stdin=subprocess.PIPE,
                stdout=answer,
                stderr=said,
                env={**os.environ, "PYTHONFAULTHANDLER": "", "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except OSError as error:
            _log.warning("%s: runs without a trial in a separate process (%s)", model.source, error)
            return False
        try:
            child.communicate(json.dumps(order).encode() + b"\n" + model.content, timeout=trial.seconds)
        except subprocess.TimeoutExpired:
            _refuse(model, f"its trial did not finish within {trial.seconds} s")
        except OSError as error:  # The child ended before it had read everything. Its exit code gives the reason.
            _log.debug("%s: %s", model.source, error)
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
        lines = end_of(answer).splitlines()
        if READY not in lines:
            _log.warning(
                "%s: runs without a trial in a separate process, which ended with code %s before it began (%s)",
                model.source,
                child.returncode,
                last_line(end_of(said)),
            )
            return False
        verdict = _parsed(lines[-1])
        if child.returncode or verdict is None:
            _refuse(model, f"it ends LiteRT with {ending(child.returncode)}", last_line(end_of(said)))
        if "refused" in verdict:
            raise ModelError(f"{model.source}: LiteRT cannot run this model: {verdict['refused']}; {EXPORT_AGAIN}")
    return True


def _refuse(model: TfliteModel, what: str, said: str = "") -> NoReturn:
    last_words = f" ({said})" if said else ""
    raise ModelError(f"{model.source}: a damaged model: {what}{last_words}; {EXPORT_AGAIN}")


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        verdict = json.loads(line)
    except ValueError:
        return None
    return verdict if isinstance(verdict, dict) else None
