"""The command `textclf new`: a first recipe for a table or a SQuAD file, and its check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textclf.cli.group import cli, help_end, offline_option
from textclf.cli.options import COLUMN, DATA_PATH, PATH, columns_option, sheet_option
from textclf.errors import DataError, TextclfError
from textclf.terminal.door import can_ask, command_line, write_message, write_report, write_result

if TYPE_CHECKING:
    from textclf.runs.proposal.columns import Question

# The check reads all rows. With more of them it would take minutes.
_MOST_ROWS_CHECKED = 100_000


@cli.command(
    "new",
    short_help="Write a recipe for a table.",
    epilog=help_end(
        "textclf new tickets.csv",
        "textclf new tickets.csv --text message --label queue -o my_recipe.yaml",
        "textclf new questions.json",
        then="textclf train tickets.yaml",
    ),
)
@click.argument("table", type=DATA_PATH)
@click.option("-o", "--output", type=PATH, help="File to write (default: the table's name with .yaml).")
@click.option("--text", type=COLUMN, metavar="COLUMN", help="Column with the text (default: detected).")
@click.option("--label", type=COLUMN, metavar="COLUMN", help="Column with the label (default: detected).")
@click.option("--text-pair", type=COLUMN, metavar="COLUMN", help="Column with the second text of a sentence pair.")
@sheet_option
@columns_option
@click.option("--force", is_flag=True, help="Replace the recipe if it exists.")
@offline_option
def new_command(table: Path, output: Path | None, **options: Any) -> None:
    """Write a recipe for TABLE, with the reason for each setting in a comment, and check it.

    TABLE is a CSV or TSV file, JSON Lines, a JSON array, a Parquet file or an Excel workbook, or a SQuAD file. The columns
    with the text and the label are detected from their content. If several columns are possible, you are asked. Questions with
    contexts and answers get a recipe of the task question-answering. Files such as test.csv and dev.csv beside train.csv
    become the test and validation data.
    """
    from textclf.runs.new_recipe import new_recipe

    choose = _ask if can_ask() else None
    made = new_recipe(table, output, choose=choose, **options)
    write_report(made.as_text() + "\n", marked=True)
    recipe = command_line([str(made.path)])
    if made.rows > _MOST_ROWS_CHECKED:
        write_result(
            f"With {made.rows:,} rows the check takes minutes. Check with: textclf check {recipe}\n"
            f"Train with: textclf train {recipe}"
        )
        return
    from textclf.runs.check import check

    try:
        report = check(made.path)
    except TextclfError as error:
        raise DataError(
            f"{error}\nThe recipe {recipe} is written. Correct the problems, then run: textclf check {recipe}"
        ) from None
    write_report(report.as_text(), marked=True)
    write_result(f"\nTrain with: textclf train {recipe}")


def _ask(question: Question) -> str:
    """Asks on the terminal until one of the columns is named, by its name or its number."""
    names = {column.name: column.name for column in question.candidates}
    numbers = {str(number): name for number, name in enumerate(names, start=1)}
    write_message(question.as_text())
    while True:
        answer = click.prompt(f"Which column is the {question.role}? Its number or name", err=True).strip()
        if name := names.get(answer) or numbers.get(answer):
            return name
        write_message(f"{answer}: not one of these columns; type a number from 1 to {len(names)}")
