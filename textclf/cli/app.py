"""The command app: small projects for phones, browsers and Python that use a finished model."""

from __future__ import annotations

from pathlib import Path

import click

from textclf.cli.group import cli, help_end
from textclf.cli.options import PATH
from textclf.runs.choices import PLATFORMS
from textclf.terminal.door import announce, write_message, write_result


@cli.command(
    "app",
    short_help="Write an app that uses the model.",
    epilog=help_end(
        "textclf app runs/NAME",
        "textclf app runs/NAME --for web",
        "textclf app model.tflite --for android --for ios -o apps",
        then="textclf verify runs/NAME labelled.csv",
    ),
)
@click.argument("model", type=PATH)
@click.option(
    "--for",
    "platforms",
    type=click.Choice((*PLATFORMS, "all")),
    multiple=True,
    default=("all",),
    help="Platform; repeat the option for several (default: all).",
)
@click.option("-o", "--output", type=PATH, help="Folder for the apps (default: app in the run's folder).")
@click.option("--force", is_flag=True, help="Replace the files of existing apps; your changes in them are lost.")
def app_command(model: Path, platforms: tuple[str, ...], output: Path | None, force: bool) -> None:
    """Write the smallest complete project that classifies, or answers questions, with a finished model: for Android, iOS,
    browsers, Flutter and Python, each in a separate folder.

    MODEL is the folder of a run, or a .tflite file of textclf. The projects use the model's thresholds for labels and for
    rejecting texts. Each contains a copy of the model and a README.
    """
    announce("Loading the model")
    from textclf.runs.app.writing import write_app
    from textclf.terminal.progress import Progress

    with Progress().spinner("Writing the apps"):
        apps = write_app(model, PLATFORMS if "all" in platforms else platforms, output, force=force)
    for app in apps:
        if app.path is None:
            write_message(f"no {app.platform} app: {app.problem}", "note")
            continue
        for note in app.notes:
            write_message(f"{app.platform}: {note}", "note")
        write_result(f"{app.platform} → {app.path}", needed=False)
