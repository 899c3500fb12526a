"""Writes the page of `textclf demo`: one HTML file with the model, the program that computes it, and examples.

The page makes no request. A browser checks this: its content security policy allows the page's script by its hash, the worker
that the script starts, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import textclf
from textclf.errors import ArgumentError, DataError, ModelError, RunError
from textclf.files.kinds import model_path
from textclf.files.locations import path_of
from textclf.files.output_file import check_ending, checked_output, output_errors
from textclf.files.writing import write_bytes
from textclf.runs.demo.examples import Example, LabelledRows, choose_examples, rows_of_run, rows_of_table
from textclf.runs.demo.graph import PageGraph
from textclf.runs.demo.model import OpenedModel, graph_of, open_model, tokenizer_facts
from textclf.terminal.progress import Progress

EXAMPLES = 12

# Browsers refuse a text of more than 512 MB, and phones far less.
_LARGEST_PAGE = 256 << 20

_MARK = b'<meta name="generator" content="textclf demo">'

_WORKER = ("interpreter.js", "tokenizers.js", "models.js", "worker.js")


@dataclass(frozen=True)
class DemoPage:
    """The page as bytes. `examples` is the number of rows in it, and `rows_name` what they are: `test rows`."""

    content: bytes
    examples: int
    rows_name: str


@dataclass(frozen=True)
class Demo:
    """A written page. `examples` is the number of rows in it, and `rows_name` what they are: `test rows`."""

    path: Path
    bytes: int
    examples: int
    rows_name: str


def write_demo(
    model: str | Path,
    output: str | Path | None = None,
    *,
    examples: int = EXAMPLES,
    examples_from: str | Path | None = None,
    text_columns: tuple[str, ...] = (),
    label_column: str | None = None,
    force: bool = False,
    quiet: bool = True,
) -> Demo:
    """Writes one HTML page in which a browser computes the model, without a network, and returns where it is.

    `model` is a `.tflite` file of textclf or the folder of a run. `output` is by default demo.html in the folder of the run,
    or NAME-demo.html beside a model NAME.tflite. `examples` rows are inside the page: test rows of the run, or rows of the
    table `examples_from`, whose columns are by default those of the training; a model file alone has none. 0 leaves them out.
    With `force` an earlier page is replaced; other files never are. Raises ModelError for a model that the page cannot
    compute, DataError for a table that cannot be read, ArgumentError for an output without the name of a page, and RunError
    for one that exists or cannot be written.
    """
    path = Path(output) if output is not None else _usual_output(Path(model))
    check_ending(path, (".html", ".htm"), "a page")
    target = checked_output(path, _why_not_replaced, force=force)
    page = make_page(
        model,
        examples=examples,
        examples_from=examples_from,
        text_columns=text_columns,
        label_column=label_column,
        quiet=quiet,
    )
    with output_errors(path):
        write_bytes(target, page.content)
    return Demo(path, len(page.content), page.examples, page.rows_name)


def make_page(
    model: str | Path,
    *,
    examples: int = EXAMPLES,
    examples_from: str | Path | None = None,
    text_columns: tuple[str, ...] = (),
    label_column: str | None = None,
    quiet: bool = True,
) -> DemoPage:
    """Returns the page that `write_demo` writes."""
    if examples < 0:
        raise ArgumentError(f"examples is {examples}, expected 0 or more")
    progress = Progress(quiet=quiet)
    run = Path(model) if Path(model).is_dir() else None
    opened = open_model(model_path(model), "the demo computes")
    try:
        graph, facts = graph_of(opened), {**opened.facts, "tokenizer": tokenizer_facts(opened)}
        rows = LabelledRows([], [], "test rows")
        if examples and examples_from is not None:
            rows = rows_of_table(path_of(examples_from), opened.opened, text_columns, label_column)
        elif examples and run is not None:
            rows = _rows_of_run(run, opened, progress)
        chosen = choose_examples(opened.opened, rows, examples) if rows.texts else []
    finally:
        opened.close()
    content = _html(graph, {**facts, "run": run.name if run is not None else None}, chosen, rows.name).encode()
    if len(content) > _LARGEST_PAGE:
        raise ModelError(
            f"{model}: the page would have {len(content) / 1e6:,.0f} MB, more than browsers open "
            f"({_LARGEST_PAGE / 1e6:,.0f} MB); export the model with quantization=dynamic or int4"
        )
    return DemoPage(content, len(chosen), rows.name)


def _rows_of_run(run: Path, opened: OpenedModel, progress: Progress) -> LabelledRows:
    """Returns the rows of a run; none, with a warning, where its data cannot be read any more."""
    try:
        return rows_of_run(run, opened.opened)
    except (DataError, RunError, OSError) as error:
        reason = str(error).split("\n")[0]
        progress.warn(f"the page has no examples, because the rows of the run cannot be read: {reason}")
        return LabelledRows([], [], "test rows")


# --- The page --------------------------------------------------------------------------------------------------------
def _html(graph: PageGraph, model: dict[str, Any], examples: list[Example], rows_name: str) -> str:
    """`model` are the facts that models.js and page.js read."""
    script, worker = _file("page.js").decode(), "\n".join(_file(name).decode() for name in _WORKER)
    style = resources.files("textclf.runs.pages").joinpath("templates/style.css").read_text("utf-8")
    note = (
        f"{rows_name[:1].upper()}{rows_name[1:]}, which are part of this page. Right and wrong predictions are mixed on "
        "purpose; how often the model is right is in its report."
    )
    facts = {
        "model": model,
        "graph": graph.description,
        "examples": [asdict(example) for example in examples],
        "kept": note,
    }
    values = {
        "title": html.escape(model["run"] or model["name"]),
        "version": html.escape(textclf.__version__),
        "style": style + _file("demo.css").decode(),
        "facts": _as_json(facts),
        "worker": worker,
        "kernels": _packed(_file("kernels.wasm")),
        "constants": _packed(graph.constants),
        "script": script,
        "script_hash": f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], _file("demo.html").decode())


def _file(name: str) -> bytes:
    return resources.files("textclf.runs.demo").joinpath("page").joinpath(name).read_bytes()


def _as_json(value: Any) -> str:
    """Returns JSON for a script element, which `<` could end."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _packed(content: bytes) -> str:
    """Returns bytes compressed and as text. Weights have no repetitions, so a search for them would be in vain."""
    packer = zlib.compressobj(6, strategy=zlib.Z_HUFFMAN_ONLY)
    return base64.b64encode(packer.compress(content) + packer.flush()).decode()


# --- The output ------------------------------------------------------------------------------------------------------
def _usual_output(model: Path) -> Path:
    return model / "demo.html" if model.is_dir() else model.with_name(f"{model.stem}-demo.html")


def _why_not_replaced(target: Path) -> str | None:
    """Returns why an existing file is never replaced by a page, or None if it may be."""
    with target.open("rb") as file:
        if _MARK in file.read(4096):
            return None
    return "exists already and is not a demo of textclf, so it is not replaced; choose another output (-o)"
