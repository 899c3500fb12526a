"""The commands about the example recipes that come with textclf."""

from __future__ import annotations

from pathlib import Path

import click

from textclf.cli.group import cli, help_end
from textclf.cli.options import PATH
from textclf.terminal.door import command_line, write_report, write_result


@cli.group(
    "examples",
    short_help="List and copy example recipes.",
    invoke_without_command=True,
    epilog=help_end(
        "textclf examples",
        "textclf examples copy app_reviews",
        then="textclf train recipes/app_reviews.yaml",
    ),
)
@click.pass_context
def examples_group(context: click.Context) -> None:
    """List the example recipes that come with textclf."""
    if context.invoked_subcommand is not None:
        return
    from textclf.files.package_data import schema_path
    from textclf.runs.examples import list_examples

    lines = []
    for example in list_examples():
        labels = f"{example.rows:,} rows, {len(example.labels)} labels: {', '.join(example.labels)}"
        lines += [
            f"{example.name}",
            f"  {example.about}",
            f"  {labels if example.labels else f'{example.rows:,} questions'}",
            f"  Training takes {example.time}",
            "",
        ]
    lines.append("Copy one with its data: textclf examples copy NAME [FOLDER]")
    if schema := schema_path():
        lines.append(f"JSON Schema of a recipe, for editors: {schema}")
    write_report("\n".join(lines))


def _complete_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from textclf.files.package_data import example_paths

    return [name for name in example_paths() if name.startswith(incomplete)]


@examples_group.command(
    "copy",
    short_help="Copy an example recipe and its data.",
    epilog=help_end(
        "textclf examples copy app_reviews",
        "textclf examples copy faq_match my_folder",
        then="textclf train recipes/app_reviews.yaml",
    ),
)
@click.argument("name", shell_complete=_complete_names)
@click.argument("folder", type=PATH, default=".")
def examples_copy_command(name: str, folder: Path) -> None:
    """Copy the example recipe NAME and its data into FOLDER (default: the current folder). Nothing is overwritten."""
    from textclf.runs.examples import copy_example

    recipe = copy_example(name, folder)
    write_result(f"{recipe}: copied with its data\nTrain with: textclf train {command_line([str(recipe)])}")
