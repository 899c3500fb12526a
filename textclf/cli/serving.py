"""The command serve: an HTTP service for a finished model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from textclf.cli.group import cli, help_end
from textclf.cli.options import MODEL, PATH
from textclf.serving.limits import Limits
from textclf.terminal.door import announce, write_result

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _limit(name: str, usual: int, help: str, metavar: str = "N") -> Callable[[_Function], _Function]:
    """The option for one number of `Limits`."""
    return click.option(name, type=click.IntRange(min=1), default=usual, show_default=True, metavar=metavar, help=help)


@cli.command(
    "serve",
    short_help="Answer HTTP requests with a model.",
    epilog=help_end(
        "textclf serve runs/NAME",
        "textclf serve model.tflite --port 0 --threads 4",
        "textclf serve runs/NAME --host 0.0.0.0 --token-file token.txt",
    ),
)
@click.argument("model", type=MODEL)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; one that other machines can reach needs a token.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    metavar="N",
    help="Port; 0 means a free port.",
)
@click.option(
    "--token-file",
    type=PATH,
    metavar="FILE",
    help="File with the token that clients must send (default: the environment variable TEXTCLF_TOKEN).",
)
@click.option(
    "--threads",
    "num_threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of parallel interpreters (default: one per core).",
)
@click.option(
    "--max-wait-ms",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    metavar="MS",
    help="Milliseconds that a text waits for others before an incomplete batch starts.",
)
@_limit("--max-batch", Limits.max_batch, "Largest number of texts in a batch.")
@_limit("--max-queue", Limits.max_queue, "Largest number of waiting texts.")
@_limit("--max-texts", Limits.max_texts, "Largest number of texts in a request.")
@_limit("--max-characters", Limits.max_characters, "Largest number of characters in a text.")
@_limit("--max-body", Limits.max_body, "Largest size of a request body in bytes.", metavar="BYTES")
@click.option("--log-requests", is_flag=True, help="Log the path, status and time of each request, but no texts.")
def serve_command(model: Path, **options: Any) -> None:
    """Answer HTTP requests with a model: POST /classify, or POST /answer for a question answering model.

    MODEL is a .tflite file, an ONNX file of textclf or the folder of a run. Waiting texts of several requests are
    classified together. The page at / shows all routes, /openapi.json describes them, and /metrics is for Prometheus.

    Ctrl-C or SIGTERM stops the service. It first answers the requests that it has accepted.
    """
    announce("Loading the model")
    from textclf.serving.server import serve

    def started(address: str) -> None:
        write_result(f"Serving {model} on {address} (Ctrl-C to stop)", needed=False)

    serve(model, **options, on_start=started)
