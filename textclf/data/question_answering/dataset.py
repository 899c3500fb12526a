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
from textclf.data.reading import FileReader, encoding_errors, own_names
from textclf.data.splits import set_aside
from textclf.data.tables.frames import FrameTable
from textclf.data.tokens.row_keys import Reading, as_written
from textclf.errors import DataError
from textclf.files.copies import local_copies
from textclf.files.data_files import data_files, hashes_of, one_name
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
    values = {"train": settings.train, "validation": settings.validation, "test": settings.test}
    named = {name: value for name, value in values.items() if isinstance(value, Path | tuple)}
    readers: list[FileReader] = []
    files = {
        name: _read(name, Path(frames[name].name), settings, errors, readers, frames[name])
        if name in frames
        else _read_split(name, value, settings, errors, readers)
        for name, value in named.items()
    }
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
    digests = hashes_of([value for name, value in named.items() if name not in frames])
    digests = {**{Path(frame.name): frame.sha256 for frame in frames.values()}, **digests}
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
    return split_of("test", file.questions, file), findings_of_questions(file)


def _read_split(
    name: str,
    value: Path | tuple[Path, ...],
    settings: DatasetSettings,
    errors: list[str],
    readers: list[FileReader],
) -> QuestionFile:
    """Returns the questions of all files of a split, one file after the other."""
    try:
        files = data_files(value)
    except DataError as error:
        errors.append(f"dataset.{name}: {error}")
        return QuestionFile(name, one_name(value))
    parts = [_read(name, file, settings, errors, readers) for file in files]
    if len(parts) == 1:
        return parts[0]
    together = QuestionFile(name, one_name(value), files=tuple(files))
    for part, shown in zip(parts, own_names(files), strict=True):
        together.add(part, shown)
    return together


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
            splits[name] = split_of(name, chosen, source)
    return splits


def split_of(name: str, questions: Sequence[Question], source: QuestionFile) -> QuestionSplit:
    """Returns some questions of a file, or of several files, as a split."""
    firsts = [(one.answers[0].start, one.answers[0].end) if one.answers else (-1, -1) for one in questions]
    return QuestionSplit(
        name,
        [(one.question, one.context) for one in questions],
        np.array(firsts, np.int32).reshape(-1, 2),
        [one.number for one in questions],
        source.file,
        [one.id for one in questions],
        [one.answers for one in questions],
        source.files,
    )
