"""The command about finished question answering models: answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textclf.cli import summaries
from textclf.cli.group import cli, help_end, offline_option
from textclf.cli.models import end_of_job, refuse_others, refuse_without_dask, stopped_by_signals, without_dask
from textclf.cli.options import (
    COLUMN,
    DATA,
    MODEL,
    columns_option,
    dask_options,
    delimiter_option,
    encoding_option,
    json_option,
    sheet_option,
)
from textclf.errors import DataError
from textclf.terminal.door import (
    announce,
    json_text,
    printable,
    result_screen,
    write_message,
    write_result,
)

if TYPE_CHECKING:
    from textclf.classify.question_answering.job import AnswerSummary
    from textclf.classify.question_answering.question_answerer import Answer, QuestionAnswerer


@cli.command(
    "answer",
    short_help="Answer questions about texts.",
    epilog=help_end(
        "textclf answer runs/NAME --context page.txt --question 'Who pays the return?'",
        "textclf answer runs/NAME questions.csv -o answers.csv",
        "textclf answer model.tflite 'parts/*.csv.gz' -o answers.csv.gz --resume",
        "textclf answer runs/NAME 'in/*.parquet' -o out/ --dask tcp://scheduler:8786",
    ),
)
@click.argument("model", type=MODEL)
@click.argument("inputs", metavar="[INPUT]...", nargs=-1, type=DATA)
@click.option("-o", "--output", help="File to write, compressed if it ends in .gz or .zst; - for standard output.")
@click.option(
    "--question",
    "questions",
    multiple=True,
    metavar="TEXT",
    help="A question; repeat the option for several questions.",
)
@click.option("--context", metavar="FILE", help="Text file that contains the answers; - for standard input.")
@click.option("--question-column", type=COLUMN, metavar="COLUMN", help="Column with the question.")
@click.option("--context-column", type=COLUMN, metavar="COLUMN", help="Column with the context.")
@click.option("--phone", is_flag=True, help="Answer as the Task Library's BertQuestionAnswerer does on a phone.")
@delimiter_option
@encoding_option
@sheet_option
@columns_option
@click.option("--prefix", "column_prefix", default="", help="Put this before the names of the added columns.")
@click.option("--strict", is_flag=True, help="Stop at the first row that cannot be answered.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of parallel interpreters (default: one per core).",
)
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@click.option("--resume", is_flag=True, help="Continue an interrupted job.")
@dask_options("Answer", partition_rows=2_000)
@json_option("Print the answers, or the summary, as JSON.")
@offline_option
@click.pass_context
def answer_command(
    context_of_click: click.Context,
    /,
    model: Path,
    inputs: tuple[str, ...],
    output: str | None,
    questions: tuple[str, ...],
    context: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Answer the questions of tables, or questions about one text.

    MODEL is a .tflite file or the folder of a run. INPUT is a table with a column of questions and a column of contexts, the
    texts that contain the answers; the formats are those of classify. The output has all columns and rows of the input in the
    same order, and the new columns answer, score (its probability), start and end (its characters in the context), and error.

    With --dask, the rows are divided into partitions, whose questions the workers of a Dask cluster answer. OUTPUT is a
    folder with a file for each partition and manifest.json.

    Exit code 3: the job is complete, but some rows have no result; their column error says why. A context that does not
    answer its question is a result: answer, start and end are empty.
    """
    if bool(questions) == bool(inputs):
        raise click.UsageError("pass either INPUT with -o OUTPUT, or --question with --context")
    announce("Loading the model")
    if questions:
        if context is None:
            raise click.UsageError("--context FILE is missing; name the text file that contains the answers")
        refuse_without_dask(options)
        used = ("model", "questions", "context", "phone", "encoding", "threads", "as_json")
        refuse_others(context_of_click, "--question", used)
        _answer_questions(model, questions, context, options, as_json)
        return
    refuse_without_dask(options)
    refuse_others(context_of_click, "INPUT", [name for name in _names(context_of_click) if name != "context"])
    if output is None:
        raise click.UsageError("-o OUTPUT is missing; write -o - for standard output")
    if options["force"] and options["resume"]:
        raise click.UsageError("--force starts again and --resume continues: use one of the two")
    options["num_threads"] = options.pop("threads")
    with stopped_by_signals():
        summary = _answer_tables(model, inputs, output, options)
    end_of_job(summary, lambda: summaries.of_answers(summary, model), output, as_json=as_json)


def _answer_tables(model: Path, inputs: tuple[str, ...], output: str, options: dict[str, Any]) -> AnswerSummary:
    if of_dask := without_dask(options, output):
        from textclf.cluster.job import answer_files

        return answer_files(model, inputs, output, quiet=False, **of_dask, **options)
    from textclf.classify.question_answering.job import answer_file

    return answer_file(model, inputs, output, quiet=False, **options)


def _names(context: click.Context) -> list[str]:
    return [parameter.name or "" for parameter in context.command.params]


def _answer_questions(
    model: Path, questions: Sequence[str], context: str, options: dict[str, Any], as_json: bool
) -> None:
    from textclf.classify.question_answering.context_file import read_context
    from textclf.classify.question_answering.question_answerer import QuestionAnswerer

    for question in questions:
        if not question.strip():
            raise DataError("--question is empty; write a question")
    with QuestionAnswerer(model, options["threads"]) as answerer:
        text = read_context(context, options["encoding"])
        answers = answerer.answers([(question, text) for question in questions], phone=options["phone"])
        notes = _notes(answerer, answers)
    if as_json:
        values = [
            {
                "question": question,
                "answer": answer.text if answer.is_answer else None,
                "score": answer.score,
                "start": answer.start if answer.is_answer else None,
                "end": answer.end if answer.is_answer else None,
            }
            for question, answer in zip(questions, answers, strict=True)
        ]
        write_result(json_text({"answers": values}))
    else:
        lines = [
            (printable(" ".join(answer.text.split())) if answer.is_answer else "(no answer)", f"{answer.score:.4f}")
            for answer in answers
        ]
        if result_screen().width is None:
            write_result("\n".join("\t".join(line) for line in lines))
        else:
            from textclf.terminal.tables import text_table

            write_result(text_table(lines[0], lines[1:]))
    for note in notes:
        write_message(note)


def _notes(answerer: QuestionAnswerer, answers: Sequence[Answer]) -> list[str]:
    """Returns what was not read, for a person."""
    notes = []
    if cut := sum(answer.question_truncated for answer in answers):
        which = "The question has" if len(answers) == 1 else f"{cut} of {len(answers)} questions have"
        notes.append(
            f"{which} more than {answerer.question_length} tokens; only the first {answerer.question_length} were used."
        )
    if any(answer.context_truncated for answer in answers):
        notes.append(
            f"The context is longer than the {answerer.max_length} tokens that a phone reads; only its beginning was used."
        )
    return notes
