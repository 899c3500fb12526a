"""The command demo: a page with a model inside, written or served."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from textclf.cli.group import cli, help_end, offline_option
from textclf.cli.options import DATA_PATH, PATH, label_option, text_option
from textclf.terminal.door import announce, write_message, write_result


@cli.command(
    "demo",
    short_help="Write a page with the model inside.",
    epilog=help_end(
        "textclf demo runs/NAME",
        "textclf demo runs/NAME --serve",
        "textclf demo model.tflite -o page.html --examples-from labelled.csv",
        then="textclf classify runs/NAME inbox.csv -o sorted.csv",
    ),
)
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, help="File to write (default: demo.html in the run's folder).")
@click.option(
    "--examples",
    type=click.IntRange(min=1),
    default=12,
    show_default=True,
    metavar="N",
    help="Number of test rows in the page.",
)
@click.option("--no-examples", is_flag=True, help="Put no rows into the page.")
@click.option(
    "--examples-from", type=DATA_PATH, metavar="TABLE", help="Labelled rows to use instead of the run's test rows."
)
@text_option
@label_option("Column with the true label, for --examples-from.")
@click.option("--serve", is_flag=True, help="Serve the page on this machine; without -o, no file is written.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Port for --serve (default: a free port)."
)
@click.option("--force", is_flag=True, help="Replace the page if it exists.")
@offline_option
def demo_command(
    model: Path,
    output: Path | None,
    examples: int,
    no_examples: bool,
    examples_from: Path | None,
    text_columns: tuple[str, ...],
    label_column: str | None,
    serve: bool,
    port: int,
    force: bool,
) -> None:
    """Write one HTML page that contains and runs the model. It needs no network, no server and no installation.

    MODEL is a .tflite file of textclf or the folder of a run. The page predicts while you type a text, and shows which words
    decided. With a question answering model, it marks the answer in a text.

    The page contains the model and, if MODEL is a run, some of its test rows. If they are private, use --no-examples before
    you share the page.
    """
    if no_examples and examples_from is not None:
        raise click.UsageError("--examples-from has no effect with --no-examples; leave one of them out")
    announce("Loading the model")
    from textclf.runs.demo.writing import make_page, write_demo
    from textclf.terminal.progress import Progress

    rows: dict[str, Any] = {
        "examples": 0 if no_examples else examples,
        "examples_from": examples_from,
        "text_columns": text_columns,
        "label_column": label_column,
        "quiet": False,
    }
    if serve and output is None:
        with Progress().spinner("Making the page"):
            page = make_page(model, **rows)
        _report_examples(page.examples, page.rows_name)
        _serve(page.content, port)
        return
    with Progress().spinner("Writing the page"):
        demo = write_demo(model, output, force=force, **rows)
    _report_examples(demo.examples, demo.rows_name)
    write_result(f"Page written, {demo.bytes / 1e6:.1f} MB; open it in a browser → {demo.path}", needed=False)
    if serve:
        _serve(demo.path.read_bytes(), port)


def _report_examples(count: int, rows_name: str) -> None:
    if count:
        write_message(
            f"{count} {rows_name} are inside the page. If they are private, run the command again with --no-examples before "
            "you share it.",
            "note",
        )


def _serve(content: bytes, port: int) -> None:
    from textclf.runs.demo.serving import DemoServer

    with DemoServer(content, port) as server:
        write_result(f"Serving on {server.address} (Ctrl-C to stop)", needed=False)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
