"""The code blocks of the documentation and of README.md run as a reader would run them: in a folder, from top to bottom.

A block with a title, such as ```yaml title="tickets.yaml"```, is saved as this file. Blocks of bash and python run. A block
of yaml without a title is a part of a recipe and is checked as one. All other blocks are in `NOT_RUN`, with the reason.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from sybil import Document, Example, Region
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from textclf.recipe.reading import load_recipe

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DOCS = REPOSITORY / "docs"
TUTORIAL = DOCS / "tutorial.md"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]

BEGINS_EMPTY = {
    "docs/tutorial.md",
    "docs/how-to/own-data.md",
    "docs/how-to/pairs.md",
    "docs/how-to/question-answering.md",
    "docs/how-to/several-labels.md",
    "docs/how-to/tables.md",
}
"""All other pages say that they use the files of the tutorial, or its table."""

NETWORK = "installs or downloads"
OTHER_LANGUAGE = "runs in an app, not here"
OTHER_PROGRAM = "needs the old program from which a reader migrates"
UNTIL_STOPPED = "a service that runs until it is stopped, and its requests; tests/serving/ sends such requests"
NOT_CODE = "shows files or a usage line"
NOT_RUN = {
    ("README.md", '$ pip install ".[train]"'): NETWORK,
    ("docs/tutorial.md", "python3 -m venv .venv"): NETWORK,
    ("docs/how-to/tables.md", '$ pip install "textclf-tflite[parquet,excel]"'): NETWORK,
    ("docs/how-to/locations.md", '$ pip install "textclf-tflite[train,remote,parquet]" s3fs'): NETWORK,
    ("docs/how-to/locations.md", "https://***@example.org/tickets.csv"): NOT_CODE,
    ("docs/how-to/onnx.md", '$ pip install "textclf-tflite[train,onnx]"'): NETWORK,
    ("docs/how-to/serve.md", '$ pip install "textclf-tflite[serve]"'): NETWORK,
    ("docs/how-to/serve.md", "$ textclf serve"): UNTIL_STOPPED,
    ("docs/how-to/serve.md", "$ curl"): UNTIL_STOPPED,
    ("docs/how-to/serve.md", "$ python -c"): UNTIL_STOPPED,
    ("docs/how-to/serve.md", "{"): NOT_CODE,
    ("docs/how-to/compare.md", '$ pip install "textclf-tflite[tensorboard]"'): NETWORK,
    ("docs/how-to/cluster.md", "export TEXTCLF_CACHE=/shared/textclf-cache"): NETWORK,
    ("docs/how-to/dask.md", "dask scheduler"): NETWORK,
    ("docs/how-to/dask.md", "textclf classify runs/tickets 's3://bucket/"): NETWORK,
    ("docs/how-to/from-tflite-model-maker.md", "textclf model-maker setup"): NETWORK,
    ("docs/how-to/from-tflite-model-maker.md", "from tflite_model_maker import model_spec"): OTHER_PROGRAM,
    ("docs/how-to/from-mediapipe-model-maker.md", "from mediapipe_model_maker import text_classifier"): OTHER_PROGRAM,
    ("docs/how-to/apps.md", "import com.google.mediapipe.tasks.core.BaseOptions"): OTHER_LANGUAGE,
    ("docs/how-to/apps.md", "import MediaPipeTasksText"): OTHER_LANGUAGE,
    ("docs/how-to/apps.md", "import { FilesetResolver, TextClassifier }"): OTHER_LANGUAGE,
    ("docs/how-to/new-recipe.md", "$ textclf new tickets.csv"): NOT_CODE,
    ("docs/how-to/new-recipe.md", "$ textclf train recipe.yaml training.cal<Tab>"): NOT_CODE,
    ("docs/how-to/new-recipe.md", "$ _TEXTCLF_COMPLETE=bash_source textclf"): NOT_CODE,
    ("docs/reference/run-folder.md", "runs/support-tickets/"): NOT_CODE,
    ("docs/reference/commands.md", "textclf "): NOT_CODE,
}
"""Blocks that do not run, by page and by the beginning of their first line."""

_LEXER = RawFencedCodeBlockLexer(re.compile(r'(?P<language>[\w+-]*)(?: +title="(?P<title>[^"]+)")? *\n'))


# --- Reading the blocks ------------------------------------------------------------------------------------------------
def blocks_of(page: Path) -> list[Example]:
    def every_block(document: Document) -> Iterator[Region]:
        for region in _LEXER(document):
            region.parsed = region.lexemes["source"]
            region.evaluator = lambda example: None
            yield region

    return list(Document.parse(str(page), every_block).examples())


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def runs(block: Example) -> bool:
    return block.region.lexemes["title"] is not None or block.region.lexemes["language"] in ("bash", "python", "yaml")


PAGES_WITH_BLOCKS = [page for page in PAGES if any(map(runs, blocks_of(page)))]


# --- Running them ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with the commands `textclf` and `python` of this Python, as after the installation."""
    folder = tmp_path_factory.mktemp("bin")
    python = shlex.quote(sys.executable)
    for name, words in (("python", python), ("textclf", f"{python} -m textclf")):
        (folder / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (folder / name).chmod(0o755)
    paths = [*filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="session")
def after_the_tutorial(tmp_path_factory: pytest.TempPathFactory, surroundings: dict[str, str]) -> Path:
    folder = tmp_path_factory.mktemp("tutorial")
    run_page(TUTORIAL, folder, surroundings)
    return folder


def run_page(page: Path, folder: Path, surroundings: dict[str, str]) -> None:
    for block in blocks_of(page):
        if runs(block):
            run_block(block, folder, surroundings, f"{name_of(page)}:{block.line}")


def run_block(block: Example, folder: Path, surroundings: dict[str, str], place: str) -> None:
    language, title, text = block.region.lexemes["language"], block.region.lexemes["title"], str(block.parsed)
    if title is not None:
        (folder / title).write_text(text, encoding="utf-8")
    elif language == "yaml":
        check_part_of_a_recipe(text, folder)
    else:
        command = ["bash", "-euo", "pipefail", "-c", text] if language == "bash" else ["python", "-c", text]
        done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{place}\n{text}\n{done.stdout}\n{done.stderr}"


def check_part_of_a_recipe(text: str, folder: Path) -> None:
    recipe = {"name": "part", "dataset": {"train": "tickets.csv"}}
    for key, value in yaml.safe_load(text).items():
        recipe[key] = {**recipe.get(key, {}), **value} if isinstance(value, dict) else value
    path = folder / "part_of_a_recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    load_recipe(path)
    path.unlink()


@pytest.mark.skipif(shutil.which("bash") is None, reason="the blocks are written for bash")
@pytest.mark.parametrize("page", PAGES_WITH_BLOCKS, ids=name_of)
def test_the_blocks_of_a_page_run_from_top_to_bottom(
    page: Path, tmp_path: Path, surroundings: dict[str, str], request: pytest.FixtureRequest
) -> None:
    if page == TUTORIAL:
        request.getfixturevalue("after_the_tutorial")
        return
    folder = tmp_path / "reader"
    if name_of(page) in BEGINS_EMPTY:
        folder.mkdir()
    elif page.name == "README.md":  # its reader has a table, and nothing else
        folder.mkdir()
        shutil.copy(request.getfixturevalue("after_the_tutorial") / "tickets.csv", folder)
    else:
        shutil.copytree(request.getfixturevalue("after_the_tutorial"), folder)
    if (folder / "tickets.csv").exists():  # rows that were not used for training, as the pages say
        (folder / "labelled.csv").write_text(LABELLED, encoding="utf-8")
    run_page(page, folder, surroundings)


LABELLED = """message,queue
My card was charged although I cancelled the order.,billing
The parcel is at the wrong address.,shipping
The app asks for a password again and again.,technical
"""


def test_every_block_runs_or_is_listed_with_a_reason() -> None:
    unlisted, used = [], set()
    for page in PAGES:
        for block in blocks_of(page):
            if runs(block):
                continue
            first_line = str(block.parsed).split("\n")[0]
            listed = [key for key in NOT_RUN if key[0] == name_of(page) and first_line.startswith(key[1])]
            used.update(listed)
            if not listed:
                unlisted.append(f"{name_of(page)}:{block.line}: {first_line}")
    assert unlisted == []
    assert set(NOT_RUN) - used == set()
