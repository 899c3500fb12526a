"""An unknown model runs in a process of its own first: whatever it does there, this process goes on.

A model in, nothing out, or a ModelError. First the graph is checked, which finds nearly everything; then a child
process loads and runs it, because no check is complete. The verdict on a file that passed is kept in the cache folder
under the hash of its bytes, so that only its first use costs the third of a second that this takes.
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
from pathlib import Path
from typing import Any, NoReturn

from textclf.encoders.sources.cache import cache_folder
from textclf.errors import ModelError
from textclf.files.writing import write_bytes
from textclf.processes import end_of, ending, last_line
from textclf.tflite.model_file import TfliteModel
from textclf.tflite.packed_files import EXPORT_AGAIN
from textclf.tflite.trial.probe_child import READY

_SECONDS = 120

# What a graph may need at once, and what LiteRT and its prepared weights need beside it; a file's size comes on top.
_MEMORY = 3 << 30

# Raised when checks or the probe find more than before: earlier verdicts are then worth nothing.
_VERDICT = "1"

# Where sys.path is that of this process, a child imports the same textclf and the same LiteRT.
_START = "import sys; sys.path[:] = sys.argv[1:]; from textclf.tflite.trial.probe_child import main; main()"

_log = logging.getLogger(__name__)

_known: set[str] = set()


def trust(content: bytes) -> None:
    """Tells that these bytes were written by this process from checked parts and need no probe."""
    _known.add(_digest(content))


def check_runnable(model: TfliteModel, largest_ids: Sequence[int], *, resizable: bool = False) -> None:
    """Raises ModelError for a model that cannot be run, or must not be run in this process.

    `largest_ids` are the largest numbers that will be written into each input; a `resizable` model is run at shorter
    lengths, too.
    """
    digest = _digest(model.content)
    if digest in _known:
        return
    verdict = _verdict_file(digest)
    if verdict is None or not _is_file(verdict):
        # Only the first use of a file pays for the rules.
        from textclf.tflite.trial.graph_check import check_graph

        lengths = _lengths(model) if resizable else ()
        check_graph(model, lengths)
        if not _survives(model, largest_ids, lengths):
            return
        # Without a cache folder that can be written, the next process looks again.
        if verdict is not None:
            with suppress(OSError):
                verdict.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(verdict, b"")
    _known.add(digest)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _verdict_file(digest: str) -> Path | None:
    """What survives one version of LiteRT need not survive another. None for a user without a home folder."""
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
    """The shortest length, an odd one, one in the middle and the stored one."""
    shapes = [tensor.shape for tensor in model.inputs]
    longest = min((shape[1] for shape in shapes if len(shape) == 2), default=2)
    return tuple(length for length in dict.fromkeys((2, 3, longest // 2, longest)) if 2 <= length <= longest)


def _survives(model: TfliteModel, largest_ids: Sequence[int], lengths: Sequence[int]) -> bool:
    """Runs the model in a child process; False where there can be no child process, so that nothing is known."""
    order = {
        "memory": _MEMORY + 4 * len(model.content),
        "seconds": _SECONDS,
        "largest": [max(1, largest) for largest in largest_ids],
        # First at the size that is stored; at the end back to it.
        "lengths": [None, *lengths],
    }
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as answer:
        try:
            child = subprocess.Popen(
                [sys.executable or "python", "-c", _START, *sys.path],
                stdin=subprocess.PIPE,
                stdout=answer,
                stderr=said,
                env={**os.environ, "PYTHONFAULTHANDLER": "", "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except OSError as error:
            _log.warning("%s: runs without a trial in a process of its own (%s)", model.source, error)
            return False
        try:
            child.communicate(json.dumps(order).encode() + b"\n" + model.content, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            _refuse(model, f"its trial did not come to an end in {_SECONDS} s")
        except OSError as error:  # The child ended before it had read everything; its exit code says why.
            _log.debug("%s: %s", model.source, error)
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
        lines = end_of(answer).splitlines()
        if READY not in lines:
            _log.warning(
                "%s: runs without a trial in a process of its own, which ended with code %s before it began (%s)",
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
