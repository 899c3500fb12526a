"""What a finished model is used with runs where there is no POSIX, and where open files cannot be moved."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.encoder_writers import write_hugging_face
from tests.tiny import tiny_checkpoint

OTHER_SYSTEM = Path(__file__).parent / "other_system"
FIXTURES = REPOSITORY / "tests" / "fixtures" / "first_version"
MODEL = FIXTURES / "runs" / "reviews" / "model.tflite"
RECIPE = """\
name: reviews
dataset: {train: train.csv, test: test.csv, text: review, label: mood}
encoder: ENCODER
training: {epochs: 1}
"""


def textclf(folder: Path, *arguments: object, code: int = 0) -> str:
    """Runs a command on the other system, with the console's old code page, and returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "textclf", *map(str, arguments)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(OTHER_SYSTEM), str(REPOSITORY)]),
            "PYTHONIOENCODING": "cp1252",
            "TEXTCLF_CACHE": str(folder / "cache"),
        },
        capture_output=True,
        check=False,
    )
    said = (done.stdout + done.stderr).decode("cp1252")
    assert done.returncode == code, said
    assert "Traceback" not in said
    return said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An umlaut and a space in its name, and the example data in it."""
    folder = tmp_path / "Übungs daten"
    folder.mkdir()
    for name in ("train.csv", "test.csv"):
        (folder / name).write_bytes((FIXTURES / name).read_bytes())
    return folder


def write_recipe(folder: Path, encoder: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("ENCODER", encoder), encoding="utf-8")
    return path


@pytest.fixture(scope="module", autouse=True)
def _is_another_system() -> None:
    """The modules, functions and signals are really gone, in a child of a child too."""
    code = (
        "import os, signal, sys; print(hasattr(os, 'fork'), hasattr(signal, 'SIGKILL'));"
        "import subprocess; print(subprocess.run([sys.executable, '-c', 'import fcntl']).returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(OTHER_SYSTEM)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "False", "1"]


@pytest.mark.parametrize("output", ["classified.csv", "classified.csv.gz", "classified.csv.zst"])
def test_a_table_is_classified_and_its_output_replaced(folder, output):
    for _ in range(2):
        said = textclf(
            folder, "classify", MODEL, "test.csv", "-o", output, "--force", "--where-label", "--label", "mood"
        )
        assert "60 of 60 rows classified" in said
    assert sorted(path.name for path in folder.iterdir()) == sorted(["cache", output, "test.csv", "train.csv"])
    if output == "classified.csv":
        with (folder / output).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert sum(row["predicted_label"] == row["mood"] for row in rows) > 54


def test_a_table_from_standard_input_goes_to_standard_output(folder):
    done = subprocess.run(
        [sys.executable, "-m", "textclf", "classify", str(MODEL), "-", "-o", "-"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(OTHER_SYSTEM), str(REPOSITORY)])},
        input=(FIXTURES / "test.csv").read_bytes(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.count(b"\n") == 61


def test_a_model_is_inspected_verified_and_measured(folder):
    assert "bad, good" in textclf(folder, "inspect", MODEL)
    assert "model.tflite: verified" in textclf(folder, "verify", MODEL, "test.csv")
    assert "accuracy" in textclf(folder, "evaluate", MODEL, "test.csv").lower()


def test_a_recipe_is_checked(folder):
    assert "Labels: 2" in textclf(folder, "check", write_recipe(folder, "builtin"))


def test_an_encoder_is_read_from_a_copy_that_is_deleted_afterwards(folder):
    (folder / "encoder").mkdir()
    write_hugging_face(folder / "encoder", tiny_checkpoint(), "tf_model.h5")
    assert "hugging_face" in textclf(folder, "encoder", "encoder")


def test_a_run_is_trained_replaced_exported_and_compared(folder):
    pytest.importorskip("tensorflow")
    recipe = write_recipe(folder, "average-words")
    textclf(folder, "train", recipe)
    textclf(folder, "train", recipe, "--force")
    textclf(folder, "export", "runs/reviews", "quantization=none", "-o", "plain.tflite")
    assert [path.name for path in (folder / "runs").iterdir()] == ["reviews"]
    shutil.copytree(folder / "runs" / "reviews", folder / "copy")
    textclf(folder, "compare", "runs/reviews", "copy", "-o", "compared")
