"""`textclf runs`: lists the run folders below a folder. Reads only their records and opens no model."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from textclf.classify.metrics import share_interval
from textclf.errors import ArgumentError, RunError
from textclf.files.writing import lock_of, locked
from textclf.recipe.values import DEFAULT_TASK, MULTI_LABEL, QUESTION_ANSWERING
from textclf.runs.choices import SORTS
from textclf.terminal.door import command_line
from textclf.training.saved.run_folder import METRICS, RunFolder, read_metrics

RunState = Literal["finished", "without a model", "running", "interrupted", "failed", "damaged"]

_DEEPEST = 4


@dataclass(frozen=True)
class Score:
    """The first number of a run's results: a share in 0..1 with its 95 % confidence interval, and what it was measured on."""

    name: str
    value: float
    interval: tuple[float, float]
    split: str
    rows: int

    def as_text(self) -> str:
        """Returns `accuracy 96.3 % (94.1–97.7), 432 test rows`."""
        low, high = self.interval
        what = "questions" if self.name == "F1" else "rows"
        return f"{self.name} {100 * self.value:.1f} % ({100 * low:.1f}–{100 * high:.1f}), {self.rows:,} {self.split} {what}"


@dataclass(frozen=True)
class ModelLatency:
    """The median time in milliseconds for one input of `tokens` tokens, the longest that the model reads, in LiteRT on this many
    threads of this processor."""

    milliseconds: float
    tokens: int
    threads: int
    processor: str

    def as_text(self) -> str:
        """Returns `41.3 ms (128 tokens)`."""
        return f"{self.milliseconds:.1f} ms ({self.tokens} tokens)"


@dataclass(frozen=True)
class RunEntry:
    """A run folder. What its record does not say is None.

    `date` is when the record was written, or when the unfinished folder was last changed: UTC, ISO 8601. `rows` are those of
    the training, `size` is that of the model in bytes, `latency` what the run measured of it, and `seconds` the duration of the
    run. `problem` says what is wrong with a run that is not finished, and `remedy` what to do.
    """

    folder: str
    name: str
    state: RunState
    date: str
    task: str | None = None
    encoder: str | None = None
    engine: str | None = None
    rows: int | None = None
    score: Score | None = None
    quantization: str | None = None
    size: int | None = None
    latency: ModelLatency | None = None
    seconds: float | None = None
    problem: str | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class RunList:
    """The runs below a folder, and its other folders, in which there is no run."""

    folder: str
    runs: list[RunEntry]
    others: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def list_runs(folder: str | os.PathLike[str] = "runs", *, sort: str = "date") -> RunList:
    """Lists the runs below `folder`, also those that are unfinished or damaged, sorted by one of SORTS.

    Raises RunError for a folder that cannot be read and ArgumentError for another `sort`.
    """
    if sort not in SORTS:
        raise ArgumentError(f"sort is {sort!r}; choose one of {', '.join(SORTS)}")
    place = Path(folder)
    if not place.is_dir():
        raise RunError(
            f"{place}: there is no such folder; name the folder with your runs, or train one: textclf train RECIPE"
        )
    try:
        found = [_finished(place)] if _has_record(place) else list(_below(place, _DEEPEST))
        within = [Path(entry.folder) for entry in found]
        others = sorted(
            child.name
            for child in place.iterdir()
            if child.is_dir()
            and not child.name.startswith(".")
            and not any(run == child or child in run.parents for run in within)
        )
    except OSError as error:
        raise RunError(
            f"{error.filename or place}: cannot be read ({error.strerror or error}); check its permissions"
        ) from error
    return RunList(str(place), _sorted(found, sort), [] if _has_record(place) else others)


def _sorted(found: Sequence[RunEntry], sort: str) -> list[RunEntry]:
    by_name = sorted(found, key=lambda run: run.folder)
    if sort == "name":
        return by_name
    if sort == "latency":
        return sorted(by_name, key=lambda run: math.inf if run.latency is None else run.latency.milliseconds)
    keys: dict[str, Callable[[RunEntry], Any]] = {
        "date": lambda run: run.date,
        "score": lambda run: -1 if run.score is None else run.score.value,
        "rows": lambda run: run.rows or 0,
        "size": lambda run: run.size or 0,
        "seconds": lambda run: run.seconds or 0,
    }
    return sorted(by_name, key=keys[sort], reverse=True)


def _has_record(folder: Path) -> bool:
    return (folder / METRICS).is_file()


def _below(folder: Path, depth: int) -> Iterator[RunEntry]:
    """Yields the runs below a folder. Links are not followed, and folders without permission are skipped."""
    try:
        children = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except PermissionError:
        return
    for name in children:
        child = folder / name
        if name.startswith(".") and name.endswith(".unfinished"):
            yield _unfinished(RunFolder(folder / name[1:].removesuffix(".unfinished")))
        elif name.startswith("."):
            continue
        elif _has_record(child):
            yield _finished(child)
        elif depth > 1:
            yield from _below(child, depth - 1)


def _finished(folder: Path) -> RunEntry:
    date = _date(folder / METRICS)
    try:
        return _of_record(folder, read_metrics(folder), date)
    except RunError as error:
        return _damaged(folder, date, str(error).partition(": ")[2].partition("; ")[0])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        return _damaged(folder, date, f"the metrics are damaged ({type(error).__name__}: {error})")


def _damaged(folder: Path, date: str, problem: str) -> RunEntry:
    remedy = f"restore {METRICS}, or train again"
    return RunEntry(str(folder), folder.name, "damaged", date, problem=problem, remedy=remedy)


def _of_record(folder: Path, values: Mapping[str, Any], date: str) -> RunEntry:
    export = values["export"]
    withheld = export.get("withheld")
    return RunEntry(
        folder=str(folder),
        name=str(values["name"]),
        state="finished" if withheld is None else "without a model",
        date=date,
        task=values.get("task", DEFAULT_TASK),
        encoder=values["encoder"]["source"],
        engine=values.get("engine", {}).get("name", "native"),
        rows=int(values["rows"]["train"]),
        score=_score(values),
        quantization=export.get("quantization"),
        size=export.get("bytes"),
        latency=_latency(export.get("latency")),
        seconds=values.get("seconds"),
        problem=withheld,
        remedy=None if withheld is None else command_line(["textclf", "export", str(folder), "quantization=none"]),
    )


def _latency(values: Mapping[str, Any] | None) -> ModelLatency | None:
    if values is None:
        return None
    return ModelLatency(
        float(values["milliseconds"]), int(values["tokens"]), int(values["threads"]), str(values["processor"])
    )


def _score(values: Mapping[str, Any]) -> Score:
    split = "test" if "test" in values else "validation"
    found = values[split]
    task = values.get("task", DEFAULT_TASK)
    if task == QUESTION_ANSWERING:
        low, high = found["server"]["f1_interval"]
        return Score("F1", found["server"]["f1"], (low, high), split, found["server"]["count"])
    if task == MULTI_LABEL:
        low, high = found["micro_f1_interval"]
        return Score("micro-F1", found["micro_f1"], (low, high), split, found["rows"])
    interval = share_interval(found["accuracy"], found["rows"])
    return Score("accuracy", found["accuracy"], interval, split, found["rows"])


def _unfinished(run: RunFolder) -> RunEntry:
    """An entry for the folder that a run writes until it is complete."""
    date = max(_date(path) for path in (run.path, run.log, run.last_state) if path.exists())
    place = str(run.target)
    train = ["textclf", "train", "RECIPE", "--run-dir", place]
    resume = command_line([*train, "--resume"])
    state: RunState = "interrupted"
    remedy: str | None = resume
    if _is_written(run):
        state, problem, remedy = "running", "another process is writing it", None
    elif _is_complete(run):
        problem = "it is complete, but not yet in its place"
    elif run.last_state.is_file():
        problem = f"it was interrupted after {_steps(run)}"
    else:
        state, problem, remedy = "failed", "it ended before anything was saved", command_line(train)
    return RunEntry(place, run.target.name, state, date, problem=problem, remedy=remedy)


def _is_complete(run: RunFolder) -> bool:
    try:
        return run.is_complete()
    except RunError:  # the marker of a newer textclf
        return False


def _is_written(run: RunFolder) -> bool:
    """Returns whether a process holds the lock of a run."""
    from filelock import Timeout

    lock = lock_of(run.place)
    if not lock.exists():
        return False
    try:
        with locked(lock):
            return False
    except (Timeout, NotImplementedError, OSError):
        return True


def _steps(run: RunFolder) -> str:
    from textclf.runs.record.training_log import last_step

    step = last_step(run.log)
    return "an unknown step" if step is None else f"step {step:,}"


def _date(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).isoformat(timespec="seconds")
