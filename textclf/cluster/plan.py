"""The partitions of a job: which parts its inputs have. They are found once and kept in a file, one line for each input."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from textclf.classify.tables.windows import Partition, TableOptions, columns_of_all, parts_of
from textclf.data.tables.parts import TablePart, size_of
from textclf.errors import DataError, RunError
from textclf.files.locations import Location, version_of

Inputs: TypeAlias = Mapping[str, str | Location]
"""The paths and addresses of a job's inputs, by how they are shown."""

FindParts: TypeAlias = Callable[[Sequence[str | Location]], Iterable["FileParts"]]
"""Returns the parts of several files in their order, perhaps on other machines."""


@dataclass(frozen=True)
class FileParts:
    """The parts of an input, and its size and time of change (of an address: its version) when they were found.

    `path` is the input as it is shown: an address without its secret part. `columns` are those of the first input and then
    those that this one has besides; none for the first.
    """

    path: str
    size: int
    changed: int | str
    columns: tuple[str, ...]
    parts: tuple[TablePart, ...]

    def is_current(self, path: str | Location) -> bool:
        """Returns whether the input, whose whole path or address is given, is unchanged."""
        size, changed = _status(path)
        return size in (None, self.size) and changed == self.changed

    def line(self) -> str:
        parts = [part.as_dict() for part in self.parts]
        about = {"path": self.path, "size": self.size, "changed": self.changed, "columns": list(self.columns)}
        return json.dumps({**about, "parts": parts}) + "\n"


def find_file_parts(
    path: str | Location, first_path: str | Location, tables: TableOptions, target: str, rows_a_part: int
) -> FileParts:
    """Reads an input and returns its parts. Raises DataError, also if it does not fit to the first input in one output."""
    status = _status(path)
    size = size_of(path)
    columns = columns_of_all([first_path, path], tables, target) if path != first_path else []
    parts = parts_of(path, tables, rows_a_part)
    if _status(path) != status:
        raise DataError(f"{path}: was changed while it was read; run the command again when nothing writes it")
    return FileParts(str(path), size, status[1], tuple(columns), tuple(parts))


def write_plan(file: Path, inputs: Iterable[FileParts]) -> None:
    """Writes the plan completely or not at all."""
    temporary = file.with_name(f"{file.name}.part")
    with temporary.open("w", encoding="utf-8") as stream:
        for found in inputs:
            stream.write(found.line())
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)


def read_plan(file: Path) -> Iterator[FileParts]:
    """Raises RunError for a damaged plan."""
    try:
        with file.open(encoding="utf-8") as stream:
            for line in stream:
                yield _from_line(json.loads(line))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise RunError(f"{file}: is damaged; start again with force=True (--force)") from None


def columns_of(plan: Iterable[FileParts]) -> list[str]:
    """Returns the columns of all inputs, in the order in which they occur; none if there is one input."""
    return list(dict.fromkeys(name for found in plan for name in found.columns))


def partitions_of(plan: Iterable[FileParts], inputs: Inputs) -> Iterator[Partition]:
    """Yields the partitions of a job, numbered from 0."""
    number = 0
    for found in plan:
        for part in found.parts:
            yield Partition(number, inputs[found.path], part)
            number += 1


def renew_plan(
    file: Path, inputs: Inputs, is_done: Callable[[int], bool], find: FindParts, *, nothing_done: bool
) -> None:
    """Finds the parts of inputs that were changed since the plan was made, and writes the plan again.

    Raises RunError if the partitions that are done would no longer be those that were done.
    """
    paths = [inputs[found.path] for found in read_plan(file) if not found.is_current(inputs[found.path])]
    if not paths:
        return
    renewed = dict(zip(map(str, paths), find(paths), strict=True))
    if not nothing_done:
        number = 0
        for before in read_plan(file):
            parts = before.parts
            _check_kept(before, renewed.get(before.path, before), [is_done(number + i) for i in range(len(parts))])
            number += len(parts)
    write_plan(file, (renewed.get(before.path, before) for before in read_plan(file)))


def _check_kept(before: FileParts, after: FileParts, done: Sequence[bool]) -> None:
    same_form = len(before.parts) == len(after.parts) and before.columns == after.columns
    kept = same_form and all(
        one == other for one, other, is_done in zip(before.parts, after.parts, done, strict=True) if is_done
    )
    if not kept:
        raise RunError(
            f"{before.path}: was changed since the job began ({before.size:,} bytes in {len(before.parts):,} partitions then, "
            f"{after.size:,} in {len(after.parts):,} now; {sum(done):,} of them are done); restore the file, or start again "
            "with force=True (--force)"
        )


def _from_line(values: dict[str, Any]) -> FileParts:
    parts = tuple(map(TablePart.from_dict, values["parts"]))
    columns = tuple(map(str, values["columns"]))
    changed = values["changed"] if isinstance(values["changed"], str) else int(values["changed"])
    return FileParts(str(values["path"]), int(values["size"]), changed, columns, parts)


def _status(path: str | Location) -> tuple[int | None, int | str]:
    """Returns the size of a file and when it was changed, or what a server says about its size and version."""
    if isinstance(path, Location):
        version = version_of(path)
        return version.size, version.mark or ""
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); every machine must see it under this path"
        ) from error
    return status.st_size, status.st_mtime_ns
