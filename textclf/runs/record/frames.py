"""Tables in memory in place of a recipe's files: read for a run, and kept in its folder as CSV or JSON Lines.

Takes `data={"train": frame, …}` as `train` and `check` accept it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from textclf.data.examples import Split
from textclf.data.tables.frames import FrameTable, Rows, frame_table
from textclf.encoders.prepare import PreparedData
from textclf.errors import ArgumentError
from textclf.files.data_files import named_paths
from textclf.files.writing import write_bytes
from textclf.recipe.settings import Recipe
from textclf.training.saved.run_folder import DATA, RunFolder

SPLITS = ("train", "validation", "test")

# A table in memory numbers its first row 0. A spreadsheet numbers the first row below the header 2, and JSON Lines have no
# header.
_FIRST_ROW_OF_CSV, _FIRST_ROW_OF_LINES = 2, 1


def tables_of(recipe: Recipe, data: Mapping[str, Rows] | None) -> dict[str, FrameTable]:
    """Returns the tables in memory by split. Messages call them data[train] and so on.

    Raises ArgumentError for a name that is not a split, and DataError for a table that cannot be read.
    """
    data = {} if data is None else data
    if not isinstance(data, Mapping):
        raise ArgumentError(f'data is a {type(data).__name__}; pass a dict by split such as {{"train": frame}}')
    if unknown := sorted(map(str, data.keys() - set(SPLITS))):
        raise ArgumentError(f"data has the key `{unknown[0]}`; the keys are train, validation and test")
    texts, label, others = recipe.columns
    lists = recipe.has_several_labels
    return {name: frame_table(rows, f"data[{name}]", texts, label, *others, lists=lists) for name, rows in data.items()}


def files_of(recipe: Recipe, tables: Mapping[str, FrameTable]) -> dict[str, list[Path]]:
    """Returns the files that a run reads, by split, without those that tables in memory replace."""
    named = {name: named_paths(getattr(recipe.dataset, name)) for name in SPLITS if name not in tables}
    return {name: paths for name, paths in named.items() if paths}


def check_can_be_kept(recipe: Recipe, tables: Mapping[str, FrameTable]) -> None:
    """Raises ArgumentError if the recipe's other files are not read as the kept CSV files: one setting applies to all."""
    settings = recipe.dataset
    if not tables or not (files := files_of(recipe, tables)):
        return
    for key, value, fitting in (
        ("delimiter", settings.delimiter, (None, ",")),
        ("encoding", settings.encoding, ("utf-8", "utf-8-sig")),
        ("columns", settings.columns, (None,)),
    ):
        if value not in fitting:
            split, (path, *_) = next(iter(files.items()))
            raise ArgumentError(
                f"dataset.{key} is {value!r} for {path}, but the run keeps data[{next(iter(tables))}] as CSV with commas in "
                f"UTF-8, and one setting applies to all files of a recipe; pass data[{split}] too, or convert that file"
            )


def keep_tables(
    recipe: Recipe, data: PreparedData, tables: Mapping[str, FrameTable], folder: RunFolder
) -> tuple[Recipe, PreparedData]:
    """Writes the tables to `data/<split>.csv` (or `.jsonl`) in the run's folder, so that the run can be repeated from there.

    Returns the recipe that names these files, and the data with their names, and rows numbered as in these files.
    """
    shutil.rmtree(folder.path / DATA, ignore_errors=True)  # an interrupted run may have kept other splits
    if not tables:
        return recipe, data
    (folder.path / DATA).mkdir()
    for name, table in tables.items():
        write_bytes(folder.path / DATA / _file_of(name, table), table.content)
    kept = {name: folder.place / DATA / _file_of(name, table) for name, table in tables.items()}
    changes: dict[str, object] = dict(kept)
    if not files_of(recipe, tables):
        changes |= {"delimiter": ",", "encoding": "utf-8", "sheet": None, "columns": None}
    recipe = recipe.model_copy(update={"dataset": recipe.dataset.model_copy(update=changes)})
    dataset = data.dataset
    paths = {Path(table.name): kept[name] for name, table in tables.items()}
    first_rows = {
        kept[name]: _FIRST_ROW_OF_LINES if table.has_lists else _FIRST_ROW_OF_CSV for name, table in tables.items()
    }

    def as_kept(split: Split) -> Split:
        if (path := paths.get(split.file)) is None:
            return split
        return replace(split, file=path, rows=[row + first_rows[path] for row in split.rows])

    dataset = replace(
        dataset,
        train=as_kept(dataset.train),
        validation=as_kept(dataset.validation),
        test=None if dataset.test is None else as_kept(dataset.test),
        files={paths.get(path, path): digest for path, digest in dataset.files.items()},
    )
    return recipe, replace(data, dataset=dataset)


def _file_of(split: str, table: FrameTable) -> str:
    return f"{split}.jsonl" if table.has_lists else f"{split}.csv"
