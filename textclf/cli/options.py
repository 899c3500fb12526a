"""Arguments and options. Their values are checked like the corresponding keys of a recipe."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from textclf.files.kinds import check_is_data, check_is_recipe, model_path, run_path
from textclf.files.locations import path_of
from textclf.recipe.values import all_columns, checked_delimiter, checked_encoding

_Command = TypeVar("_Command", bound=Callable[..., Any])


# --- Arguments and options -------------------------------------------------------------------------------------------
class _Checked(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """A value that a function of the library checks. The message of its ValueError follows the name of the option."""

    def __init__(self, name: str, check: Callable[[Any], Any]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._check(value)
        except ValueError as error:
            name = param.opts[0] if param is not None and param.param_type_name == "option" else self.name
            raise click.UsageError(f"{name} {error}", ctx) from None

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Lets the shell complete paths."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")] if self.name in _PATH_NAMES else []


_PATH_NAMES = ("PATH", "RECIPE", "MODEL", "RUN", "DATA")


def _checked_path(value: str | os.PathLike[str]) -> Path:
    if not os.fspath(value).strip():
        raise ValueError("has no value; write a path")
    if "\0" in os.fspath(value):
        raise ValueError("contains a NUL character, which no path can contain; write a path")
    return Path(value)


def _checked_program(value: str) -> Path:
    if not _checked_path(value).is_file():
        raise ValueError(f"is `{value}`, but there is no such file; write the path of a Python 3.9")
    return Path(value)


def _checked_recipe(value: str) -> str:
    check_is_recipe(_checked_path(value))
    return value


def _checked_data(value: str) -> str:
    if value != "-":
        _checked_path(value)
        check_is_data(value)
    return value


def _checked_column(value: str) -> str:
    if not value.strip():
        raise ValueError("has no value; write the name of a column")
    return value


def _checked_columns(value: Any) -> tuple[str, ...]:
    names = next(csv.reader([value], skipinitialspace=True), []) if isinstance(value, str) else list(value)
    checked = all_columns(names or None)
    return () if checked is None else tuple(names)


def _checked_probability(value: Any) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:  # also rejects NaN
        raise ValueError(f"is `{value}`, but must be a number from 0 to 1")
    return number


PATH = _Checked("PATH", _checked_path)

RECIPE = _Checked("RECIPE", _checked_recipe)

MODEL = _Checked("MODEL", lambda value: model_path(_checked_path(value)))

RUN = _Checked("RUN", lambda value: run_path(_checked_path(value)))

DATA = _Checked("DATA", _checked_data)

DATA_PATH = _Checked("DATA", lambda value: path_of(_checked_data(value)))

PYTHON = _Checked("PATH", _checked_program)

COLUMN = _Checked("COLUMN", _checked_column)

COLUMNS = _Checked("NAMES", _checked_columns)

PROBABILITY = _Checked("P", _checked_probability)

DELIMITER = _Checked("CHARACTER", checked_delimiter)

ENCODING = _Checked("ENCODING", checked_encoding)


def checked_text_columns(
    context: click.Context, parameter: click.Parameter, columns: tuple[str, ...]
) -> tuple[str, ...]:
    if len(columns) > 2:
        raise click.UsageError(f"--text is given {len(columns)} times; name one column, or two for a sentence pair")
    if len(columns) == 2 and columns[0] == columns[1]:
        raise click.UsageError(f"--text names the column `{columns[0]}` twice; name two columns, or one")
    return columns


def completed_settings(section: str = "") -> Callable[[click.Context, click.Parameter, str], list[Any]]:
    """Completes `KEY=VALUE` of a recipe; with a `section` such as `export.`, of this section without its name."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from textclf.recipe.completion import complete_setting

        return [CompletionItem(one.word, help=one.help) for one in complete_setting(incomplete, section)]

    return complete


# --- Options of several commands -------------------------------------------------------------------------------------
text_option = click.option(
    "--text",
    "text_columns",
    multiple=True,
    type=COLUMN,
    callback=checked_text_columns,
    metavar="COLUMN",
    help="Column with the text; twice for a sentence pair.",
)

delimiter_option = click.option(
    "--delimiter", type=DELIMITER, metavar="CHARACTER", help="Character between the fields (default: detected)."
)

encoding_option = click.option(
    "--encoding", type=ENCODING, default="utf-8", show_default=True, help="Text encoding of the table."
)


sheet_option = click.option(
    "--sheet", metavar="NAME", help="Sheet of an Excel workbook (default: the first that is visible)."
)

columns_option = click.option(
    "--columns",
    type=COLUMNS,
    default="",
    metavar="NAMES",
    help="Names of all columns of a table without a header, separated by commas: text,label.",
)


def label_option(help_text: str) -> Callable[[_Command], _Command]:
    return click.option("--label", "label_column", type=COLUMN, metavar="COLUMN", help=help_text)


def json_option(help_text: str = "Print as JSON.") -> Callable[[_Command], _Command]:
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def dask_options(verb: str, *, partition_rows: int) -> Callable[[_Command], _Command]:
    """The options of a job with Dask; `verb` is what the command does, `partition_rows` the default."""
    options = (
        click.option(
            "--dask",
            "scheduler",
            metavar="SCHEDULER",
            help=f"{verb} with a Dask cluster and write a folder: tcp://host:8786, or local or local:N for N processes here.",
        ),
        click.option(
            "--partition-rows",
            type=click.IntRange(min=1),
            metavar="N",
            help=f"With --dask: number of rows in each output file (default: {partition_rows}).",
        ),
        click.option(
            "--output-format",
            metavar="FORMAT",
            help="With --dask: csv, tsv or jsonl, with .gz or .zst to compress it, parquet or xlsx (default: that of the first "
            "input).",
        ),
    )

    def decorated(function: _Command) -> _Command:
        for option in reversed(options):
            function = option(function)
        return function

    return decorated
