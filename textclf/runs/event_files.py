"""Writes the training logs of runs as event files of TensorBoard, with its own writer and without TensorFlow.

Takes run folders, finished or not, and writes a folder for each: losses and scores by step, and the results of the record.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from textclf import extras
from textclf.errors import RunError
from textclf.files.writing import write_bytes
from textclf.runs.listing import RunEntry
from textclf.training.saved.run_folder import RunFolder

EVENT_FILE = "events.out.tfevents.0.textclf"
"""The name of the file in the folder of a run. TensorBoard reads every file with `tfevents` in its name."""

_STEP_VALUES = {"loss": "loss/training", "learning_rate": "learning_rate"}

_NOT_SCORES = {"event", "step", "epoch", "training_loss"}


def write_event_files(entries: Sequence[RunEntry], folder: Path) -> list[Path]:
    """Writes the event file of each run that has a log, below `folder`, and returns the files.

    A file that an earlier call wrote is replaced, and nothing else. Raises MissingPackageError without TensorBoard and
    RunError for a folder that cannot be written.
    """
    extras.require("tensorboard", "to write event files")
    files = []
    for entry in entries:
        log = _log_of(entry)
        if log is None:
            continue
        events = list(_events(log, entry))
        end = log.stat().st_mtime
        target = folder / _name_of(entry, entries) / EVENT_FILE
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(target, _records(events, end))
        except OSError as error:
            raise RunError(
                f"{target}: cannot be written ({error.strerror or error}); choose another folder (--tensorboard)"
            ) from error
        files.append(target)
    return files


def _log_of(entry: RunEntry) -> Path | None:
    run = RunFolder(Path(entry.folder))
    unfinished = entry.state in ("running", "interrupted", "failed")
    log = run.log if unfinished else Path(entry.folder) / run.log.name
    return log if log.is_file() else None


def _name_of(entry: RunEntry, entries: Sequence[RunEntry]) -> str:
    """Returns the last part of a run's folder, with the folders above it if several have the same."""
    path = Path(entry.folder).resolve()
    same = sum(Path(other.folder).name == path.name for other in entries)
    return path.name if same == 1 else "_".join(path.parts[1:])


_Event = tuple[int, float, Mapping[str, float]]
"""A step, the seconds since the start, and the values by their tags."""


def _events(log: Path, entry: RunEntry) -> Iterator[_Event]:
    seconds, step = 0.0, 0
    for values in _entries(log):
        step = values.get("step", step)
        if values.get("event") == "step":
            seconds += values.get("seconds", 0.0)
            scalars = {tag: values[name] for name, tag in _STEP_VALUES.items() if _is_number(values.get(name))}
            if _is_number(values.get("rows")) and values.get("seconds"):
                scalars["rows_per_second"] = values["rows"] / values["seconds"]
            yield step, seconds, scalars
        elif values.get("event") == "epoch":
            yield step, seconds, {_tag(name): value for name, value in values.items() if _is_score(name, value)}
    if entry.score is not None:
        yield step, seconds, {f"result/{entry.score.split}_{entry.score.name.lower()}": entry.score.value}


def _entries(log: Path) -> Iterator[Mapping[str, Any]]:
    """Yields the lines of a log, without the incomplete last line of a run that was killed or still goes on."""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(values, dict) and isinstance(values.get("step", 0), int):
            yield values


def _tag(name: str) -> str:
    """`validation_loss` stands beside the loss of the training."""
    return "loss/validation" if name == "validation_loss" else name.replace("validation_", "validation/", 1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_score(name: str, value: object) -> bool:
    return name not in _NOT_SCORES and not name.endswith("_rows") and _is_number(value)


def _records(events: Sequence[_Event], end: float) -> bytes:
    """Returns the bytes of an event file whose last event was at `end`, in seconds since 1970."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    stream = io.BytesIO()
    writer = RecordWriter(stream)
    start = end - (events[-1][1] if events else 0.0)
    writer.write(Event(wall_time=start, file_version="brain.Event:2").SerializeToString())
    for step, seconds, values in events:
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        writer.write(Event(wall_time=start + seconds, step=step, summary=Summary(value=scalars)).SerializeToString())
    return stream.getvalue()
