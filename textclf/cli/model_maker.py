"""The commands about the real TFLite Model Maker."""

from __future__ import annotations

from pathlib import Path

import click

from textclf.cli.group import cli, help_end, offline_option
from textclf.cli.options import PYTHON, json_option
from textclf.terminal.door import json_text, write_result


@cli.group(
    "model-maker",
    short_help="Set up TFLite Model Maker as an engine.",
    epilog=help_end("textclf model-maker setup", then="textclf train recipe.yaml --engine model-maker"),
)
def model_maker_group() -> None:
    """Set up the real TFLite Model Maker as a training engine, in a separate environment."""


@model_maker_group.command(
    "setup",
    short_help="Create the environment (2.5 GB).",
    epilog=help_end(
        "textclf model-maker setup",
        "textclf model-maker setup --python /usr/bin/python3.9",
        then="textclf train recipe.yaml --engine model-maker",
    ),
)
@click.option("--python", type=PYTHON, help="Path of a Python 3.9 (default: an installed Python 3.9, or a download).")
@offline_option
def model_maker_setup_command(python: Path | None) -> None:
    """Create the environment for training.engine=model-maker. It needs 2.5 GB in textclf's cache folder."""
    from textclf.model_maker.environment import set_up

    set_up(python)


@model_maker_group.command(
    "remove",
    short_help="Delete the environment.",
    epilog=help_end(
        "textclf model-maker remove",
    ),
)
def model_maker_remove_command() -> None:
    """Delete the environment and everything else that setup wrote."""
    from textclf.model_maker.environment import place, remove

    freed = remove()
    text = f"{place()}: removed, {freed / 1e9:.1f} GB" if freed else "Model Maker is not set up: nothing to remove"
    write_result(text, needed=False)


@model_maker_group.command(
    "status",
    short_help="Show whether the environment exists.",
    epilog=help_end(
        "textclf model-maker status",
        "textclf model-maker status --json",
    ),
)
@json_option()
def model_maker_status_command(as_json: bool) -> None:
    """Show whether the environment exists, and what is in it."""
    from textclf.model_maker.environment import status, status_text

    found = status()
    write_result(json_text(found) if as_json else status_text(found))
