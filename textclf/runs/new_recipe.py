"""`textclf new`: takes the path of a table and writes a first recipe for it, with a reason beside each setting."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from textclf.data.findings.finding import counted, visible
from textclf.data.table_sample import TableSample, sample_table
from textclf.data.tables.files import STANDARD_STREAM
from textclf.data.tables.table import shown_path
from textclf.errors import ArgumentError, DataError
from textclf.files.copies import local_copies
from textclf.files.kinds import check_is_data, is_squad
from textclf.files.locations import Location, path_of
from textclf.files.writing import write_text
from textclf.recipe.values import DEFAULT_TASK, MULTI_LABEL, QUESTION_ANSWERING, Task, folder_safe, is_unicode
from textclf.runs.proposal.columns import Choose, Columns, choose_columns, contents
from textclf.runs.proposal.question_columns import QuestionColumns, question_columns
from textclf.runs.proposal.question_recipe import holds_squad, propose_questions
from textclf.runs.proposal.recipe_text import recipe_text
from textclf.runs.proposal.settings import (
    builtin_tokenizer,
    dataset_settings,
    encoder_settings,
    language_warning,
    measure_lengths,
    training_settings,
    window_settings,
)
from textclf.runs.proposal.several_labels import described
from textclf.runs.proposal.siblings import find_siblings, stem_of, training_file_beside
from textclf.terminal.door import command_line

# Names of tables that say nothing about their content. Then the folder's name is better.
_NO_NAMES = ("train", "training", "data", "dataset", "table", "export", "all")

_MOST_COLUMNS_SHOWN = 10


@dataclass(frozen=True)
class NewRecipe:
    """A recipe that was written for a table.

    `path` is its file, `rows` the number of rows of the table, `text` and `label` the columns that it reads (of several label
    columns, all names with commas between them). `files` are
    the files beside the table that serve as `validation` and `test`. `left_out` maps the other columns to what they
    contain, and `notes` say what a person should look at.

    If the `task` is question-answering, `rows` is the number of questions, `text` are the columns of the questions and of
    their contexts, and `label` is the column of the answers; those of a SQuAD file are called as in the file.

    Several labels of a row have the `separator` between them, or are `lists`.
    """

    path: Path
    table: Path
    rows: int
    text: tuple[str, ...]
    label: str
    files: dict[str, Path] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    separator: str | None = None
    task: Task = DEFAULT_TASK
    lists: bool = False

    def as_text(self) -> str:
        """Lines for a terminal."""
        unit = "question" if self.task == QUESTION_ANSWERING else "row"
        lines = [f"{shown_path(self.path)}: written for {counted(self.rows, unit)} of {shown_path(self.table)}"]
        if self.task == QUESTION_ANSWERING:
            lines.append(f"  task      {self.task}")
            names = zip(("question", "context", "answer"), (*self.text, self.label), strict=True)
            lines += [] if is_squad(self.table) else [f"  {what:<8}  {visible(name)}" for what, name in names]
        else:
            separator = "" if self.separator is None else f", several with {visible(self.separator)} between them"
            separator = ", several in a list" if self.lists else separator
            lines.append(f"  text   {' and '.join(map(visible, self.text))}")
            lines.append(f"  label  {visible(self.label)}{separator}")
        lines += [f"  {split} data in {shown_path(path)}" for split, path in self.files.items()]
        if self.left_out:
            shown = [f"{visible(name)} ({what})" for name, what in list(self.left_out.items())[:_MOST_COLUMNS_SHOWN]]
            more = len(self.left_out) - len(shown)
            lines.append(f"  not used: {', '.join(shown)}{f' and {more} more columns' if more else ''}")
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])


@local_copies()
def new_recipe(
    table: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    sheet: str | None = None,
    columns: Sequence[str] = (),
    force: bool = False,
    choose: Choose | None = None,
) -> NewRecipe:
    """Writes a recipe for a table or a SQuAD file and returns what it contains. Nothing is trained.

    `table` is the path of a CSV or TSV file, JSON Lines, a JSON array (plain or compressed), a Parquet file or an Excel
    workbook, of which `sheet` is read (default: the first that is visible), or of a SQuAD file. `columns` names all
    columns of a table without a header. A SQuAD file, and a table with questions, contexts and answers that are parts
    of their contexts, get a recipe of the task question-answering; to predict a label from such a table, name the
    label. The columns of the texts and of the label are detected from what they contain, unless `text`, `text_pair`
    (the second text of a sentence pair) and `label` name them. If several columns suit, `choose` is called with a
    question, whose `candidates` have a `name`, and returns one of the names; without it this is an error. Files such as
    test.csv and dev.csv beside train.csv are used if they have the same columns.

    `output` is the file to write (default: in the current folder, named after the table, with the ending .yaml). An
    existing file is replaced only with `force`.

    Raises DataError for a table that cannot be read or used, and ArgumentError for an argument that does not fit it.
    """
    path = path_of(table)
    check_is_data(path)
    if text_pair is not None and text is None:
        raise ArgumentError(
            "text_pair (--text-pair) names the second text, but the first is missing; name it with text (--text)"
        )
    _check_path(path)
    name = _name_for(path)
    target = Path(f"{name}.yaml" if output is None else output)
    _check_target(target, force)
    given = tuple(columns)
    is_chosen = text is not None or label is not None
    if not is_chosen and holds_squad(path):
        return _new_question_recipe(name, path, target, None, None)
    sample = sample_table(path, [column for column in (text, text_pair, label) if column is not None], sheet, given)
    if not is_chosen and (asked := question_columns(sample)) is not None:
        return _new_question_recipe(name, path, target, sample, asked)
    chosen = choose_columns(sample, text, text_pair, label, choose)
    if sample.left_out:  # perhaps only because cells behind the chosen columns are missing
        sample = sample_table(path, [*(column.name for column in chosen.text), *chosen.label_names], sheet, given)
    notes: list[str] = []
    siblings = find_siblings(sample, [column.name for column in chosen.text], chosen.label_names, chosen.separator)
    notes += siblings.notes
    if (other := training_file_beside(path)) is not None:
        notes.append(
            f"{sample.shown} seems to be test data. If {shown_path(other)} is the training file, run: textclf new "
            f"{command_line([shown_path(other)])}"
        )
    if chosen.doubts:
        notes.append(f"the label could also be {'; '.join(chosen.doubts)}. To choose it: --label COLUMN")
    tokenizer = builtin_tokenizer()
    language = language_warning(sample, chosen, tokenizer)
    if language:
        notes.append(f"the texts do not seem to be English; see encoder.source in {shown_path(target)}")
    lengths = measure_lengths(sample, chosen, tokenizer)
    sections = {
        "dataset": dataset_settings(sample, chosen, siblings),
        "encoder": [*encoder_settings(lengths, language), *window_settings(lengths, chosen)],
        "training": training_settings(sample, chosen),
    }
    task = MULTI_LABEL if chosen.lists else DEFAULT_TASK  # a separator, and columns of 0 and 1, set the task
    folder = target.absolute().parent
    _write(target, recipe_text(name, _about(sample, chosen), _hints(target), sections, folder, task))
    return NewRecipe(
        target,
        path,
        sample.total,
        tuple(column.name for column in chosen.text),
        ", ".join(chosen.label_names),
        {split: file.path for split, file in siblings.files.items()},
        {column.name or "(no name)": contents(column) for column in chosen.others},
        tuple(notes),
        separator=chosen.separator,
        task=MULTI_LABEL if chosen.has_several_labels else DEFAULT_TASK,
        lists=chosen.lists,
    )


def _new_question_recipe(
    name: str, path: Path, target: Path, sample: TableSample | None, columns: QuestionColumns | None
) -> NewRecipe:
    proposal = propose_questions(path, sample, columns)
    notes = list(proposal.notes)
    if columns is not None:
        notes.append(
            f"{shown_path(path)} looks like questions with answers from a text: {columns.found:,} of {columns.answered:,} cells "
            f"of {visible(columns.answer)} are in {visible(columns.context)}. To predict a label instead, name it: --label COLUMN"
        )
    if proposal.is_other_language:
        notes.append(f"the texts do not seem to be English; see encoder.source in {shown_path(target)}")
    folder = target.absolute().parent
    _write(
        target, recipe_text(name, proposal.about, _hints(target), proposal.sections, folder, task=QUESTION_ANSWERING)
    )
    used = () if columns is None else columns.names
    others = () if sample is None else tuple(one for one in sample.columns if one not in used)
    kinds = {} if sample is None else {one: _contents(sample, one) for one in others}
    return NewRecipe(
        target,
        path,
        proposal.questions,
        proposal.texts,
        proposal.answer,
        proposal.files,
        kinds,
        tuple(notes),
        task=QUESTION_ANSWERING,
    )


def _contents(sample: TableSample, name: str) -> str:
    return contents(described(sample, sample.columns.index(name)))


def _write(target: Path, written: str) -> None:
    try:
        write_text(target, written)
    except OSError as error:
        raise ArgumentError(
            f"{target}: cannot be written ({error.strerror or error}); check the folder, or name another file with --output"
        ) from None


def _check_path(path: Path) -> None:
    if str(path) == STANDARD_STREAM:
        raise ArgumentError(
            "a recipe names a file, but - is standard input; save the table to a file and name that file"
        )
    if isinstance(path, Location) and path.has_secret:
        raise ArgumentError(
            f"{path}: a recipe is a file that others read, so the hidden part of this address is not written into one; set "
            "credentials in the environment, or download the table"
        )
    if not is_unicode(str(path)):
        raise DataError(f"{shown_path(path)}: the path is not UTF-8, so a recipe cannot contain it; rename the file")


def _check_target(target: Path, force: bool) -> None:
    if target.suffix.lower() not in (".yaml", ".yml"):
        raise ArgumentError(
            f"{target}: a recipe's name ends in .yaml; write for example {target.with_suffix('.yaml').name}"
        )
    if target.is_dir():
        raise ArgumentError(f"{target}: this is a folder; name a file in it, for example {target / 'recipe.yaml'}")
    if not target.absolute().parent.is_dir():
        raise ArgumentError(
            f"{target}: there is no folder {target.parent}; make it, or name another file with --output"
        )
    if os.path.lexists(target) and not force:
        raise ArgumentError(f"{target}: exists already; name another file with --output, or replace it with --force")


def _name_for(path: Path) -> str:
    """Returns a name for the run: the table's, or its folder's if the table's says nothing."""
    stem = stem_of(path)
    folder = path.parts[-2] if isinstance(path, Location) else path.absolute().parent.name
    return folder_safe(folder if stem.casefold() in _NO_NAMES and len(folder_safe(folder)) > 1 else stem)


def _about(sample: TableSample, columns: Columns) -> str:
    texts = " and ".join(visible(column.name) for column in columns.text)
    what = "any number of labels" if columns.flags else visible(columns.label.name)
    if columns.separator is not None or columns.lists:
        what = f"any number of {what}"
    return (
        f"Predicts {what} from {texts}. `textclf new` wrote this recipe for "
        f"{counted(sample.total, 'row')} of {visible(sample.path.name)}. The comments give the reasons; change what you like."
    )


def _hints(target: Path) -> list[str]:
    shown = command_line([shown_path(target)])
    return [
        f"Check the recipe and its data:  textclf check {shown}",
        f"Train, export and verify:       textclf train {shown}",
        f"Try another value once:         textclf train {shown} training.epochs=5 --run-dir runs/other",
    ]
