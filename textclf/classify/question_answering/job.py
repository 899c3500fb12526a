"""Adds answers to tables of any size: each row has a question and its context.

The job runs as one of labels does: the order of rows, every other column and the dialect are kept, and a killed job can
be resumed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from textclf.classify.question_answering.question_answerer import Answer, PendingAnswers, QuestionAnswerer
from textclf.classify.question_answering.texts import problem_of_texts
from textclf.classify.tables.rows import (
    ERROR_COLUMN,
    ClassifiedRows,
    NumberColumn,
    RowResults,
    TableLayout,
    Tally,
    WholeNumberColumn,
    fault_of,
    is_blank,
    rows_text,
    written_rows,
)
from textclf.classify.tables.table_job import Finish, check_ways, checked_inputs, run_table_job
from textclf.classify.tables.windows import TableOptions, WindowSize
from textclf.classify.texts import checked_argument, named_columns
from textclf.data.tables.table import Row
from textclf.errors import ArgumentError, DataError
from textclf.files.kinds import kind_of
from textclf.recipe.values import checked_delimiter, checked_encoding

COLUMNS = ("answer", "score", "start", "end")
"""The added columns, before that of errors."""

# An answer takes about as long as labels for 30 texts, and a killed job should lose little.
_WINDOW_SIZE = WindowSize(first_rows=8, rows=128, characters=1 << 18)

_ANSWERED, _UNANSWERED = "answer", "no answer"


@dataclass(frozen=True)
class AnswerSummary:
    """The summary of a job.

    `rows` is the number of written rows: `answered` ones, `unanswered` ones, whose context does not answer the question,
    and those without a result, which `errors` counts by reason. `truncated` questions were longer than the model reads.
    `blank_lines` were written unchanged. `uneven_rows` lacked cells at the end that are not needed, or had additional
    empty cells. `seconds` is the time of all runs of the job; `rows_per_second` and `interpreter_share` (0 to 1, of the
    threads' time) are those of the last run.
    """

    output: str
    rows: int
    seconds: float
    rows_per_second: float
    interpreter_share: float
    blank_lines: int
    truncated: int
    uneven_rows: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    answered: int = 0
    unanswered: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Returns the results as a dictionary."""
        return asdict(self)

    def as_text(self) -> str:
        """Returns the summary for a person."""
        lines = [
            f"{self.output}: {self.answered:,} of {rows_text(self.rows)} answered in {self.seconds:.1f} s, "
            f"{self.rows_per_second:,.1f} rows per second"
        ]
        if self.unanswered:
            lines.append(f"{rows_text(self.unanswered)} with a context that does not answer the question")
        if self.truncated:
            lines.append(
                f"{rows_text(self.truncated)} with a longer question than the model reads; only its beginning was used"
            )
        if self.uneven_rows:
            lines.append(f"{rows_text(self.uneven_rows)} with fewer or more cells than the header; no text was missing")
        if self.errors:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.errors.items())
            lines.append(
                f"{rows_text(sum(self.errors.values()))} without a result, for the reasons in the column of errors: {reasons}"
            )
        return "\n".join(lines)


def answer_file(
    model: str | Path,
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
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
) -> AnswerSummary:
    """Writes the rows of all inputs, one input after the other, with answers to their questions to `output`.

    Inputs and outputs are those of `classify_file`. `question_column` and `context_column` are by default the columns
    that the model was trained on. The job adds the columns `answer`, `score`, `start`, `end` and `error`; `column_prefix`
    is put before these names. `score` is the probability of the answer (0 to 1); `start` and `end` (exclusive) are its
    characters in the context. If the context does not answer the question, `answer`, `start` and `end` are empty, and
    `score` is the probability of this. A row without a result keeps its place, with the reason in `error`. With
    `strict` there is no column `error`, and the first such row stops the job. `phone` answers as BertQuestionAnswerer
    does on a phone. `resume` continues an interrupted job, or starts a new one.

    Raises DataError for inputs that cannot be read, RunError for an output that cannot be written, and
    JobInterruptedError, a KeyboardInterrupt.
    """
    check_ways(force=force, resume=resume)
    paths = checked_inputs(
        inputs, "use QuestionAnswerer(model).answers([(question, context), …]), which returns the answers"
    )
    check_tables(paths)
    target = os.fspath(output)
    with QuestionAnswerer(model, num_threads) as answerer:
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
        answered = answering.row_model(answerer, paths)
        job = run_table_job(answered, paths, answering.tables, target, force=force, resume=resume, quiet=quiet)
        return AnswerSummary(**job.results(target), **answering.results_of(job.tally))


def check_tables(paths: Sequence[str | Path]) -> None:
    """Raises DataError for a SQuAD file, into which no answers can be written."""
    for path in paths:
        if kind_of(path) == "squad":
            raise DataError(
                f"{path}: is a SQuAD file, but answers are written into tables; measure the model on it with `textclf evaluate`, "
                "or write its questions into a table with the columns question and context"
            )


def answering_of(
    answerer: QuestionAnswerer,
    *,
    question_column: str | None = None,
    context_column: str | None = None,
    phone: bool = False,
    strict: bool = False,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    sheet: str | None = None,
    columns: Sequence[str] = (),
    column_prefix: str = "",
) -> Answering:
    """Returns what `answer_file` does with rows for these arguments of it. Raises ArgumentError, DataError and ModelError."""
    if phone:
        answerer.check_phone()
    tables = _table_options(answerer, question_column, context_column, delimiter, encoding)
    tables = replace(tables, sheet=sheet, columns=named_columns(columns))
    return Answering(tables, phone, not strict, column_prefix)


@dataclass(frozen=True)
class Answering:
    """The `TableTask` of question answering. With `phone`, answers are those of a phone."""

    tables: TableOptions
    phone: bool = False
    keeps_errors: bool = True
    column_prefix: str = ""

    def open(self, content: bytes, name: str, path: Path, num_threads: int) -> AnsweredRows:
        return self.row_model(QuestionAnswerer.of_content(content, name, path, num_threads))

    def row_model(self, answerer: QuestionAnswerer, paths: Sequence[str | Path] = ()) -> AnsweredRows:
        """`paths` are the inputs, for `settings`."""
        return AnsweredRows(answerer, paths, self.tables, self.phone, self.keeps_errors, self.column_prefix)

    def results_of(self, tally: Tally) -> dict[str, Any]:
        """Returns the numbers of an `AnswerSummary` that only answers have."""
        return {"answered": tally.labels[_ANSWERED], "unanswered": tally.labels[_UNANSWERED]}


def _table_options(
    answerer: QuestionAnswerer, question: str | None, context: str | None, delimiter: str | None, encoding: str
) -> TableOptions:
    columns = (question or answerer.question_column, context or answerer.context_column)
    if columns[0] == columns[1]:
        raise ArgumentError(
            f"the question and the context are both the column `{columns[0]}`; name two columns in question_column "
            "(--question-column) and context_column (--context-column)"
        )
    wanted_by = (
        "the question and its context; name other columns in question_column (--question-column) and context_column "
        "(--context-column)"
    )
    separator = checked_argument("delimiter (--delimiter)", checked_delimiter, delimiter)
    return TableOptions(
        columns, wanted_by, None, separator, checked_argument("encoding (--encoding)", checked_encoding, encoding)
    )


def problem_of_row(row: Row, layout: TableLayout) -> tuple[str, str] | None:
    """Returns why a row gets no answer: a word to count by, and a message."""
    if row.fault is not None or len(row.fields) != layout.width:
        fault = fault_of(row, layout)
        if fault is not None:
            return fault
    question, context = (row.fields[column] for column in layout.text_columns)
    problem = problem_of_texts(question, context)
    return None if problem is None else ("empty", problem)


@dataclass(frozen=True)
class AnsweredRows:
    """The `RowModel` of question answering."""

    answerer: QuestionAnswerer
    inputs: Sequence[str | Path]
    tables: TableOptions
    phone: bool
    keeps_errors: bool
    column_prefix: str
    done = "answered"
    window_size = _WINDOW_SIZE
    values: Sequence[str] = ()

    @property
    def path(self) -> Path:
        return self.answerer.path

    @property
    def num_threads(self) -> int:
        return self.answerer.num_threads

    @property
    def seconds_in_interpreters(self) -> float:
        return self.answerer.seconds_in_interpreters

    @property
    def added(self) -> list[str]:
        text, score, *places = (self.column_prefix + name for name in COLUMNS)
        errors = [self.column_prefix + ERROR_COLUMN] if self.keeps_errors else []
        return [text, NumberColumn(score), *map(WholeNumberColumn, places), *errors]

    @property
    def settings(self) -> dict[str, Any]:
        tables = self.tables
        # Left out where they are not given: jobs of earlier versions do not know them.
        further = {"sheet": tables.sheet, "all_columns": list(tables.columns)}
        return {
            "inputs": list(map(str, self.inputs)),
            "model": self.answerer.sha256,
            "task": "question-answering",
            "columns": list(tables.text_columns),
            "delimiter": tables.delimiter,
            "encoding": tables.encoding,
            "phone": self.phone,
            "errors": self.keeps_errors,
            "column_prefix": self.column_prefix,
            **{name: value for name, value in further.items() if value},
        }

    def problem_of(self, row: Row, layout: TableLayout) -> tuple[str, str] | None:
        return problem_of_row(row, layout)

    def begin(self, layout: TableLayout, rows: Sequence[Row]) -> Finish:
        usable = [
            position for position, row in enumerate(rows) if not is_blank(row) and self.problem_of(row, layout) is None
        ]
        question, context = layout.text_columns
        asked = [(rows[position].fields[question], rows[position].fields[context]) for position in usable]
        pending = self.answerer.submit(asked, phone=self.phone)
        return lambda: self._finish(layout, rows, usable, pending)

    def _finish(
        self, layout: TableLayout, rows: Sequence[Row], usable: Sequence[int], pending: PendingAnswers
    ) -> ClassifiedRows:
        answers = dict(zip(usable, pending.result(), strict=True))
        tally = Tally(truncated=sum(pending.question_truncated))
        for answer in answers.values():
            if answer is not None:
                tally.labels[_ANSWERED if answer.is_answer else _UNANSWERED] += 1
        cells = {position: None if answer is None else _cells(answer) for position, answer in answers.items()}
        results = RowResults(cells, len(COLUMNS), self.keeps_errors, "answer", self.problem_of)
        return written_rows(rows, layout, results, tally)


def _cells(answer: Answer) -> list[str]:
    if not answer.is_answer:
        return ["", f"{answer.score:.6f}", "", ""]
    return [answer.text, f"{answer.score:.6f}", f"{answer.start}", f"{answer.end}"]
