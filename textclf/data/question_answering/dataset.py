"""Takes the dataset section of a question answering recipe and returns checked splits, with findings about the data.

Problems that make the data unusable raise one DataError that lists all of them: files that cannot be read, missing
columns or keys, values of another type, an answer without an offset that is not once in its context. Other problems become
a `Finding` and are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from textclf.data.examples import Dataset
from textclf.data.findings.finding import Finding
from textclf.data.question_answering.findings import alike, findings_of_leaks, findings_of_questions, findings_of_splits
from textclf.data.question_answering.question_table import read_question_table
from textclf.data.question_answering.questions import Question, QuestionFile, QuestionSplit
from textclf.data.question_answering.squad import read_squad
from textclf.data.reading import FileReader, encoding_errors
from textclf.data.splits import set_aside
from textclf.data.tables.frames import FrameTable
from textclf.data.tokens.row_keys import Reading, as_written
from textclf.errors import DataError
from textclf.files.copies import local_copies
from textclf.files.data_files import data_files, sha256_of
from textclf.files.kinds import is_squad
from textclf.recipe.settings import DatasetSettings


@local_copies()
def load_questions(
    settings: DatasetSettings, seed: int, reading: Reading = as_written, frames: Mapping[str, FrameTable] | None = None
) -> Dataset:
    """Read, check and split questions about contexts; `Dataset.labels` is empty, the splits are `QuestionSplit`s.

    Fractions are set aside from the training file by context, so that no context is in two splits. Contexts that differ
    in capitals and white space only are the same. The split of a context depends on the seed and its text alone, as far as
    the fractions allow. `reading` is not used: equality does not depend on a tokenizer, which may read only the first
    tokens of a context.

    `frames` are tables in memory for the splits train, validation and test, in place of the recipe's files. Raises
    DataError with every problem that makes the data unusable, one per line.
    """
    errors: list[str] = []
    frames = frames or {}
    settings = settings.model_copy(update={name: Path(frame.name) for name, frame in frames.items()})
    named = {"train": settings.train, "validation": settings.validation, "test": settings.test}
    paths = {
        name: path if name in frames else _one_file(name, path, errors)
        for name, path in named.items()
        if isinstance(path, Path)
    }
    readers: list[FileReader] = []
    files = {name: _read(name, path, settings, errors, readers, frames.get(name)) for name, path in paths.items()}
    errors += encoding_errors(readers)
    if not errors:
        errors += [problem for file in files.values() if (problem := _nothing_to_use(file))]
    if errors:
        raise DataError("\n".join(errors))
    findings = [finding for file in files.values() for finding in findings_of_questions(file)]
    findings += findings_of_leaks(files)
    splits = _splits(settings, seed, files)
    if not splits["validation"].rows:
        raise DataError(
            f"{files['train'].shown}: all questions are about the same context, so none can be set aside for validation; "
            "add questions about other contexts, or set dataset.validation to a file"
        )
    findings += findings_of_splits(splits)
    digests = {path: frames[name].sha256 if name in frames else sha256_of(path) for name, path in paths.items()}
    return Dataset([], splits["train"], splits["validation"], splits.get("test"), findings, digests)


@local_copies()
def load_question_file(
    settings: DatasetSettings, path: Path, frame: FrameTable | None = None
) -> tuple[QuestionSplit, list[Finding]]:
    """The questions of one file, or of a table in memory, as a split named `test`, read with the columns of `settings`;
    and findings about them.

    Raises DataError with every problem, one per line.
    """
    errors: list[str] = []
    readers: list[FileReader] = []
    file = _read("test", path, settings, errors, readers, frame)
    errors += encoding_errors(readers)
    if not errors and not file.questions:
        errors.append(_nothing_to_use(file) or "")
    if errors:
        raise DataError("\n".join(errors))
    return split_of("test", file.questions, path), findings_of_questions(file)


def _read(
    name: str,
    path: Path,
    settings: DatasetSettings,
    errors: list[str],
    readers: list[FileReader],
    frame: FrameTable | None = None,
) -> QuestionFile:
    """Returns the questions of a file; its problems are added to the errors."""
    file = QuestionFile(name, path)
    try:
        if frame is None and is_squad(path):
            errors += read_squad(file, settings.encoding)
        else:
            errors += read_question_table(file, settings, readers, frame)
    except DataError as error:
        errors.append(str(error))
    return file


def _one_file(name: str, path: Path, errors: list[str]) -> Path:
    """Returns the file of a split, which may be written as a pattern."""
    try:
        files = data_files(path)
    except DataError as error:
        errors.append(f"dataset.{name}: {error}")
        return path
    if len(files) > 1:
        errors.append(
            f"dataset.{name}: {path} matches {len(files)} files, but questions are read from one file for each split; put "
            "them together"
        )
    return files[0]


def _nothing_to_use(file: QuestionFile) -> str | None:
    if not file.questions:
        return f"{file.shown}: no question can be used, because each lacks a question, a context or an answer in it"
    if file.name == "train" and not any(question.answers for question in file.questions):
        return f"{file.shown}: no question has an answer, so nothing can be learned; add questions with answers"
    return None


def _splits(settings: DatasetSettings, seed: int, files: Mapping[str, QuestionFile]) -> dict[str, QuestionSplit]:
    train = files["train"]
    shares = {
        name: share
        for name, share in (("test", settings.test), ("validation", settings.validation))
        if isinstance(share, float)
    }
    keys = {context: alike(context) for context in dict.fromkeys(one.context for one in train.questions)}
    side = set_aside(
        [(one.context,) for one in train.questions],
        [0] * len(train.questions),
        shares,
        seed,
        [keys[one.context] for one in train.questions],
    )
    splits = {}
    for name in ("train", "validation", "test"):
        source = files.get(name, train)
        if name in files or name in shares:
            chosen = (
                [one for one, own in zip(source.questions, side, strict=True) if own == name]
                if source is train
                else source.questions
            )
            splits[name] = split_of(name, chosen, source.file)
    return splits


def split_of(name: str, questions: Sequence[Question], file: Path) -> QuestionSplit:
    """Returns questions as a split."""
    firsts = [(one.answers[0].start, one.answers[0].end) if one.answers else (-1, -1) for one in questions]
    return QuestionSplit(
        name,
        [(one.question, one.context) for one in questions],
        np.array(firsts, np.int32).reshape(-1, 2),
        [one.number for one in questions],
        file,
        [one.id for one in questions],
        [one.answers for one in questions],
    )
