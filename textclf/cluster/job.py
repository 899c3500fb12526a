"""Adds labels or answers to tables of any size with a Dask cluster: a file for each partition of the inputs, and a manifest.

The rows of all outputs, one after the other, are those that `classify_file` or `answer_file` writes. A job whose process was
killed is continued by the same call with `resume`, and does only what is missing.
"""

from __future__ import annotations

import functools
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textclf import extras
from textclf.classify.classifier import Classifier
from textclf.classify.question_answering.job import AnswerSummary, answering_of, check_tables
from textclf.classify.question_answering.question_answerer import QuestionAnswerer
from textclf.classify.tables.job import BatchSummary, labelling_of
from textclf.classify.tables.rows import Tally
from textclf.classify.tables.table_job import (
    JobInterruptedError,
    RowModel,
    TableTask,
    check_ways,
    checked_inputs,
    summary_values,
)
from textclf.classify.tables.windows import Partition, check_output
from textclf.cluster.engine import Engine, KilledWorkersError, LostSchedulerError, check_scheduler, connected
from textclf.cluster.folder import MANIFEST, JobFolder, open_folder
from textclf.cluster.partition import PartitionedJob, shown_parts
from textclf.cluster.plan import (
    FileParts,
    columns_of,
    partitions_of,
    read_plan,
    renew_plan,
    write_plan,
)
from textclf.cluster.workers import ModelBytes, compute_here, find_here
from textclf.data.tables.files import STANDARD_STREAM, compression_of, is_pipe, plain_suffix
from textclf.errors import ArgumentError, DataError, RunError, TextclfError
from textclf.files.copies import local_copies
from textclf.files.locations import Location, check_writable, filesystem_of, location_of
from textclf.terminal.progress import Progress, RowsBar

PARTITION_ROWS = 50_000
"""The rows of a partition if nothing else is said: some minutes of work of one core with the largest model."""

ANSWERED_PARTITION_ROWS = 2_000
"""The rows of a partition of questions. An answer takes about as long as labels for 30 short texts."""

OUTPUT_FORMATS = (
    *(f"{form}{packed}" for form in ("csv", "tsv", "jsonl") for packed in ("", ".gz", ".zst")),
    "parquet",
    "xlsx",
)

_FEWEST_DIGITS = 6


@dataclass(frozen=True)
class FolderSummary(BatchSummary):
    """The summary of a job with partitions. `interpreter_share` is 0: it is not measured across machines."""

    partitions: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in super().as_dict().items() if name != "interpreter_share"}

    def as_text(self) -> str:
        return f"{super().as_text()}\n{_partitions_text(self.partitions)}"


@dataclass(frozen=True)
class AnswerFolderSummary(AnswerSummary):
    """The summary of a job of questions with partitions. `interpreter_share` is 0: it is not measured across machines."""

    partitions: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in super().as_dict().items() if name != "interpreter_share"}

    def as_text(self) -> str:
        return f"{super().as_text()}\n{_partitions_text(self.partitions)}"


def _partitions_text(count: int) -> str:
    return f"{count:,} partition{'' if count == 1 else 's'}, see {MANIFEST}"


def classify_files(
    model: str | Path,
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    scheduler: str = "local",
    partition_rows: int = PARTITION_ROWS,
    output_format: str | None = None,
    text_columns: str | Sequence[str] = (),
    scores: bool = False,
    top_k: int = 1,
    reject_below: float | None = None,
    strict: bool = False,
    where_label: bool = False,
    label_column: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    sheet: str | None = None,
    columns: Sequence[str] = (),
    column_prefix: str = "",
    num_threads: int | None = None,
    force: bool = False,
    resume: bool = False,
    quiet: bool = True,
) -> FolderSummary:
    """Writes the rows of all inputs with their labels to the folder `output`, computed by a Dask cluster.

    `scheduler` is the address of a Dask scheduler, such as `tcp://scheduler:8786`, or `local` or `local:4` for a cluster of
    processes on this machine. All machines must see the inputs and the output folder under the same paths. Inputs are the
    files of `classify_file`; standard input, pipes and folders of texts are refused. Each machine reads the inputs at addresses
    and writes to an output such as `s3://bucket/out/` itself, with the credentials of its environment. The journal of such an
    output is on the machine of this process.

    Each partition of `partition_rows` rows becomes a file. Of delimited text and JSON Lines a partition is a range of lines
    that ends between two rows; of Parquet files it is one row group or several; a compressed file, a JSON array and a
    workbook are one partition. `output_format` is csv, tsv or jsonl, with .gz or .zst to compress it, parquet, or xlsx
    (default: that of the first input). `num_threads` is the number of interpreters of each worker (default: its threads).
    The other arguments are those of `classify_file`.

    Raises ArgumentError, DataError for inputs that cannot be read, RunError for a cluster that cannot be reached or a folder
    that cannot be written, and JobInterruptedError, a KeyboardInterrupt.
    """
    check_ways(force=force, resume=resume)
    how = _Way.checked(scheduler, partition_rows, output_format, num_threads, "to classify with Dask")
    paths = _checked_files(inputs, "use textclf.dask.classify(frame, model), which returns a frame with the labels")
    with Classifier(model, num_threads=1) as classifier:
        labelling = labelling_of(
            classifier,
            text_columns=text_columns,
            scores=scores,
            top_k=top_k,
            reject_below=reject_below,
            strict=strict,
            where_label=where_label,
            label_column=label_column,
            delimiter=delimiter,
            encoding=encoding,
            sheet=sheet,
            columns=columns,
            column_prefix=column_prefix,
        )
        content = ModelBytes(classifier.content, classifier.sha256, classifier.name, classifier.path)
        job = _Job(labelling, labelling.row_model(classifier, paths), content, paths, how)
        results, tally = job.run(output, num_threads, force=force, resume=resume, quiet=quiet)
        summary = FolderSummary(**results, **labelling.results_of(tally, classifier.labels))
    labelling.check_compared(summary, summary.output)
    return summary


def answer_files(
    model: str | Path,
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    scheduler: str = "local",
    partition_rows: int = ANSWERED_PARTITION_ROWS,
    output_format: str | None = None,
    question_column: str | None = None,
    context_column: str | None = None,
    phone: bool = False,
    strict: bool = False,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    sheet: str | None = None,
    columns: Sequence[str] = (),
    column_prefix: str = "",
    num_threads: int | None = None,
    force: bool = False,
    resume: bool = False,
    quiet: bool = True,
) -> AnswerFolderSummary:
    """Writes the rows of all inputs with answers to their questions to the folder `output`, computed by a Dask cluster.

    `scheduler`, `partition_rows`, `output_format`, `num_threads`, inputs and output are those of `classify_files`, and the
    other arguments those of `answer_file`. Raises what `classify_files` raises.
    """
    check_ways(force=force, resume=resume)
    how = _Way.checked(scheduler, partition_rows, output_format, num_threads, "to answer with Dask")
    paths = _checked_files(inputs, "write it to a file, such as Parquet")
    check_tables(paths)
    with QuestionAnswerer(model, num_threads=1) as answerer:
        answering = answering_of(
            answerer,
            question_column=question_column,
            context_column=context_column,
            phone=phone,
            strict=strict,
            delimiter=delimiter,
            encoding=encoding,
            sheet=sheet,
            columns=columns,
            column_prefix=column_prefix,
        )
        content = ModelBytes(answerer.content, answerer.sha256, answerer.name, answerer.path)
        job = _Job(answering, answering.row_model(answerer, paths), content, paths, how)
        results, tally = job.run(output, num_threads, force=force, resume=resume, quiet=quiet)
        return AnswerFolderSummary(**results, **answering.results_of(tally))


@dataclass(frozen=True)
class _Way:
    """How a job is computed and written, without what it does with rows."""

    scheduler: str
    partition_rows: int
    output_format: str | None

    @classmethod
    def checked(
        cls, scheduler: str, partition_rows: int, output_format: str | None, num_threads: int | None, purpose: str
    ) -> _Way:
        """Raises ArgumentError, and MissingPackageError where Dask is not installed, which is needed for `purpose`."""
        check_scheduler(scheduler)
        extras.require("distributed", purpose)
        if partition_rows < 1:
            raise ArgumentError(f"partition_rows (--partition-rows) is {partition_rows}; give 1 or more")
        if num_threads is not None and num_threads < 1:
            raise ArgumentError(f"num_threads (--threads) is {num_threads}; give 1 or more")
        return cls(scheduler, partition_rows, output_format)


def _checked_files(inputs: str | Path | Sequence[str | Path], use_in_memory: str) -> list[str | Location]:
    paths = checked_inputs(inputs, use_in_memory)
    for path in paths:
        if isinstance(path, Location):
            filesystem_of(path)  # offline, or without its package, this is said before a cluster starts
            continue
        if path == STANDARD_STREAM or is_pipe(path):
            raise DataError(f"{path}: can be read only once, but partitions are read by many; save its rows to a file")
        if os.path.isdir(path):
            raise DataError(f"{path}: is a folder; name its files, such as '{path}/*.csv'")
    absolute = [path if isinstance(path, Location) else os.path.abspath(path) for path in paths]
    names = sorted(map(str, absolute))
    twice = next((name for name, before in zip(names[1:], names, strict=False) if name == before), None)
    if twice is not None:
        raise DataError(f"{twice}: is named twice; name each input once")
    return absolute


def _ending(first: str | Location, output_format: str | None) -> str:
    """Returns the ending of the outputs, such as `.csv.gz`."""
    if output_format is not None:
        if output_format not in OUTPUT_FORMATS:
            raise ArgumentError(
                f"output_format (--output-format) is {output_format!r}; give one of {', '.join(OUTPUT_FORMATS)}"
            )
        return f".{output_format}"
    name = first.name if isinstance(first, Location) else first
    suffix = plain_suffix(name)
    if suffix in (".parquet", ".xlsx"):
        return suffix
    form = ".jsonl" if suffix in (".jsonl", ".ndjson", ".json") else ".tsv" if suffix == ".tsv" else ".csv"
    return form + ({"gzip": ".gz", "zstd": ".zst"}.get(compression_of(name) or "", ""))


class _Job:
    """A job on its way through the cluster."""

    def __init__(
        self,
        task: TableTask,
        row_model: RowModel,
        content: ModelBytes,
        paths: Sequence[str | Location],
        how: _Way,
    ) -> None:
        self._task = task
        self._row_model = row_model
        self._content = content
        self._paths = paths
        self._inputs = {str(path): path for path in paths}
        self._token = uuid.uuid4().hex
        self._how = how
        self._ending = _ending(paths[0], how.output_format)
        self.rows_before = 0
        self._partitions = 0
        self._started = time.monotonic()
        self._problems: list[tuple[Partition, TextclfError]] = []

    @property
    def _target(self) -> str:
        """A name of an output: its ending decides how rows are written."""
        return f"part{self._ending}"

    def _check_output(self, columns: Sequence[str]) -> None:
        model = self._row_model
        check_output(
            self._paths[0], columns, self._task.tables, target=self._target, added=model.added, labels=model.values
        )

    @property
    def settings(self) -> dict[str, Any]:
        return {
            **self._row_model.settings,
            "partition_rows": self._how.partition_rows,
            "output_format": self._ending[1:],
        }

    @local_copies()
    def run(
        self, output: str | Path, num_threads: int | None, *, force: bool, resume: bool, quiet: bool
    ) -> tuple[dict[str, Any], Tally]:
        """Returns the numbers of a summary that every kind of model has, and all counts."""
        target = _output_of(output)
        self._check_output(())
        with open_folder(target, self.settings, self._paths, force=force, resume=resume) as folder:
            self.rows_before = folder.tally.rows
            try:
                with connected(self._how.scheduler, num_threads) as engine:
                    engine.wait_for_workers()
                    try:
                        with Progress(quiet=quiet).during("Dividing the inputs into partitions"):
                            self._plan(engine, folder)
                        self._compute(engine, folder, quiet=quiet)
                    finally:
                        if any(isinstance(path, Location) for path in self._paths):
                            engine.forget_copies(self._token)
            except KeyboardInterrupt:
                raise JobInterruptedError(f"interrupted after {self._progress(folder)}; {_CONTINUE}") from None
            except LostSchedulerError as error:
                raise RunError(f"{error}; {self._progress(folder)} are done: {_CONTINUE}") from None
            self._check_complete(folder)
            folder.finish()
        return self._results(folder, str(target)), folder.tally

    def _results(self, folder: JobFolder, output: str) -> dict[str, Any]:
        values = summary_values(
            folder.tally,
            output,
            seconds=time.monotonic() - self._started,
            seconds_before=folder.seconds_before,
            rows_before=self.rows_before,
            interpreter_share=0.0,
        )
        return {**values, "partitions": len(folder.done)}

    def _plan(self, engine: Engine, folder: JobFolder) -> None:
        def find(paths: Sequence[str | Location]) -> Iterator[FileParts]:
            find_in = functools.partial(
                find_here,
                self._token,
                first_path=self._paths[0],
                tables=self._task.tables,
                target=self._target,
                rows_a_part=self._how.partition_rows,
            )
            return engine.in_order(find_in, paths)

        if folder.plan.exists():
            renew_plan(folder.plan, self._inputs, folder.done.__contains__, find, nothing_done=not folder.done)
        else:
            write_plan(folder.plan, find(self._paths))
        self._partitions = sum(len(found.parts) for found in read_plan(folder.plan))

    def _compute(self, engine: Engine, folder: JobFolder, *, quiet: bool) -> None:
        columns = columns_of(read_plan(folder.plan))
        self._check_output(columns)
        job = PartitionedJob(
            self._task,
            folder.place,
            self._paths[0],
            tuple(columns),
            self._ending,
            max(_FEWEST_DIGITS, len(str(self._partitions - 1))),
            self._token,
        )
        partitions = partitions_of(read_plan(folder.plan), self._inputs)
        missing = (partition for partition in partitions if partition.number not in folder.done)
        total = sum(found.size for found in read_plan(folder.plan))
        folder.begin_run(job.token)
        with (
            engine.holding(job, self._content),
            Progress(quiet=quiet).rows_bar(total, self.rows_before) as bar,
        ):
            self._hand_out(engine, folder, job.token, missing, bar)

    def _hand_out(
        self, engine: Engine, folder: JobFolder, token: str, missing: Iterator[Partition], bar: RowsBar
    ) -> None:
        bytes_done = folder.bytes_done
        for partition, result in engine.results(functools.partial(compute_here, token), missing):
            if isinstance(result, TextclfError):
                self._problems.append((partition, result))
                engine.stopped |= not self._concerns_one_partition(result)
                continue
            folder.add(result, folder.seconds_before + time.monotonic() - self._started)
            bytes_done += partition.part.end - partition.part.start
            bar.update(folder.tally.rows, bytes_done)

    def _concerns_one_partition(self, error: TextclfError) -> bool:
        """Returns whether the other partitions can still be computed, as where a file is damaged."""
        return isinstance(error, KilledWorkersError) or (isinstance(error, DataError) and self._row_model.keeps_errors)

    def _check_complete(self, folder: JobFolder) -> None:
        """Raises the error of a partition that could not be computed."""
        if not self._problems:
            return
        self._problems.sort(key=lambda problem: problem[0].number)
        partition, error = self._problems[0]
        if not str(error).startswith(str(partition.path)):
            error = type(error)(f"{_described(partition)}: {error}")
        missing = shown_parts([other.number for other, _ in self._problems])
        raise type(error)(
            f"{error}; {self._progress(folder)} are done, partition {missing} could not be computed: correct the cause, then "
            f"{_CONTINUE}"
        )

    def _progress(self, folder: JobFolder) -> str:
        return f"{len(folder.done):,} of {self._partitions:,} partitions" if self._partitions else "no partition"


_CONTINUE = "run the same command with --resume (resume=True) to continue"


def _described(partition: Partition) -> str:
    part = partition.part
    if part.groups is not None:
        first, last = part.groups
        return f"{partition.path}: row group {first + 1}" + (f" to {last}" if last - first > 1 else "")
    if part.place is not None:
        return f"{partition.path}: the rows from row {part.place.number:,} on"
    return str(partition.path)


def _output_of(output: str | Path) -> str | Location:
    """Returns the path of the output folder, or its address. Raises RunError for an address that cannot be written."""
    try:
        location = location_of(output)
    except DataError as error:
        raise RunError(str(error)) from None
    if location is None:
        return os.fspath(output)
    check_writable(location)
    return Location(location.address.rstrip("/"))
