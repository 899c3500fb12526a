"""`textclf examples`: lists the example recipes that come with textclf, and copies one with its data."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from textclf.data.table_sample import sample_table
from textclf.data.tables.table import shown_path
from textclf.errors import ArgumentError, RunError
from textclf.files.data_files import data_files
from textclf.files.package_data import example_paths, examples_folder
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.recipe.values import nearest
from textclf.terminal.door import command_line

_TIME = re.compile(r"^# Time: (.+?)\.?$", re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """An example recipe. `about` is its first line, `rows` the number of training rows or questions, `labels` all labels
    (none for question answering), `text` the columns that the model reads, `time` how long the training takes and on what
    machine."""

    name: str
    path: Path
    about: str
    rows: int
    labels: tuple[str, ...]
    text: tuple[str, ...]
    time: str


def list_examples() -> list[Example]:
    """Returns the example recipes that come with textclf, sorted by name.

    Raises TextclfError if they are not part of the installation.
    """
    return [_read(path) for path in example_paths().values()]


def copy_example(name: str, folder: str | os.PathLike[str] = ".") -> Path:
    """Copies an example recipe and its data into `folder` and returns the path of the copied recipe.

    The folder gets `recipes/NAME.yaml` and the tables in `datasets/`, so that the recipe runs unchanged. Further tables
    whose names begin with NAME are copied too. The folder is made if it does not exist. Nothing is overwritten: a file that
    is already there must have the same content.

    Raises ArgumentError for an unknown name, and RunError for files that are in the way or cannot be written.
    """
    root, paths = examples_folder(), example_paths()
    wanted = name.removesuffix(".yaml").replace("-", "_")
    if wanted not in paths:
        near = nearest(wanted, paths)
        remedy = f"did you mean {near}?" if near else f"the examples are {', '.join(paths)}"
        raise ArgumentError(f"{name}: there is no such example; {remedy}")
    tables = [*_tables(load_recipe(paths[wanted])), *_beside(root / "datasets", wanted)]
    sources = [paths[wanted], *tables, root / "datasets" / "README.md"]
    targets = {source: Path(folder) / source.relative_to(root) for source in sources}
    different = [
        target
        for source, target in targets.items()
        if os.path.lexists(target) and not (target.is_file() and filecmp.cmp(source, target, shallow=False))
    ]
    if different:
        raise RunError(
            f"{shown_path(different[0])}: exists already with another content; copy to another folder, for example "
            f"textclf examples copy {wanted} {command_line([str(Path(folder) / wanted)])}"
        )
    try:
        for source, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    except OSError as error:
        raise RunError(f"{error.filename}: cannot be written ({error.strerror}); check the folder") from None
    return targets[paths[wanted]]


def _read(path: Path) -> Example:
    recipe = load_recipe(path)
    rows, labels = _rows_and_labels(recipe)
    text = path.read_text(encoding="utf-8")
    time = _TIME.search(text)
    about = text.splitlines()[0].removeprefix("# ")
    columns = ("question", "context") if recipe.answers_questions else recipe.dataset.text
    return Example(path.stem, path, about, rows, labels, columns, time[1] if time else "unknown")


def _rows_and_labels(recipe: Recipe) -> tuple[int, tuple[str, ...]]:
    data = recipe.dataset
    if recipe.answers_questions:
        from textclf.data.question_answering.dataset import load_question_file

        return len(load_question_file(data, data_files(data.train)[0])[0].rows), ()
    if recipe.has_several_labels:
        from textclf.data.multi_label.dataset import load_label_sets

        dataset = load_label_sets(data, recipe.training.seed)
        return len(dataset.train.rows) + len(dataset.validation.rows), tuple(dataset.labels)
    sample = sample_table(data_files(data.train)[0], (*data.text, data.label))
    return sample.total, tuple(sorted(set(sample.cells(sample.columns.index(data.label)))))


def _beside(folder: Path, name: str) -> list[Path]:
    """Returns the data files whose names begin with that of the example."""
    return sorted(path for ending in ("csv", "json") for path in folder.glob(f"{name}*.{ending}"))


def _tables(recipe: Recipe) -> list[Path]:
    data = recipe.dataset
    return [path for split in (data.train, data.validation, data.test) for path in data_files(split)]
