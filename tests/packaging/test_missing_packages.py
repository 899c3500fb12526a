"""A light installation: what it cannot do ends with one line that names the missing package and the command that adds it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

FIXTURES = REPOSITORY / "tests" / "fixtures" / "first_version"
RUN = FIXTURES / "runs" / "reviews"
COMMAND = 'pip install "textclf-tflite[{extra}]"'


def without(modules: str, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program in a Python in which the modules are not installed."""
    missing = f"import sys; sys.modules.update(dict.fromkeys({modules.split()!r}))\n"
    return subprocess.run(
        [sys.executable, "-c", missing + code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )


_EXTRAS = {"pyarrow": "parquet", "distributed": "dask", "starlette": "serve"}

TRAINING = "tensorflow is not installed, which is needed to train, to export and to compute with trained weights"


@pytest.mark.parametrize(
    ("modules", "arguments", "said"),
    [
        ("tensorflow", ["train", "recipe.yaml"], TRAINING),
        ("tensorflow", ["export", str(RUN), "quantization=none", "-o", "out.tflite"], TRAINING),
        ("tensorflow", ["verify", str(RUN), "--run", str(RUN)], TRAINING),
        ("tensorflow", ["encoder", "builtin", "--check"], TRAINING),
        ("tensorflow", ["compare", str(RUN), "recipe.yaml"], TRAINING),
        ("tensorflow", ["compare", "recipe.yaml", "--engines", "native"], "tensorflow is not installed"),
        (
            "requests",
            ["check", "recipe.yaml", "encoder.source=tfhub:owner/model/1"],
            "requests is not installed, which is needed to download encoders",
        ),
        (
            "pyarrow",
            ["check", "recipe.yaml", "dataset.train=table.parquet"],
            "pyarrow is not installed, which is needed to read and write Parquet files",
        ),
        (
            "starlette",
            ["serve", str(RUN)],
            "starlette is not installed, which is needed to serve a model",
        ),
        (
            "distributed",
            ["classify", str(RUN), str(FIXTURES / "train.csv"), "-o", "out", "--dask", "local"],
            "distributed is not installed, which is needed to classify with Dask",
        ),
    ],
)
def test_a_command_says_in_one_line_what_to_install(tmp_path, modules, arguments, said):
    data = (FIXTURES / "train.csv").as_posix()
    (tmp_path / "recipe.yaml").write_text(
        f"name: reviews\ndataset: {{train: {data}, text: review, label: mood}}\nencoder: builtin\n"
    )
    if modules == "pyarrow":
        (tmp_path / "table.parquet").write_bytes(b"PAR1" + bytes(100))
    done = without(modules, f"from textclf.cli import main; main({arguments!r})", tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"Error: {said}")
    assert last.endswith("; run: " + COMMAND.format(extra=_EXTRAS.get(modules, "train")))
    assert "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"recipe.yaml", "table.parquet"}


@pytest.mark.parametrize(
    "call",
    [
        "textclf.train('recipe.yaml')",
        "textclf.load_encoder()",
        "textclf.Encoder",
        f"textclf.export({str(RUN)!r}, ['quantization=none'], 'out.tflite')",
        f"textclf.verify({str(RUN)!r}, run={str(RUN)!r})",
    ],
)
def test_a_program_can_catch_what_is_missing_as_an_import_error_or_as_ours(tmp_path, call):
    code = (
        "import textclf\n"
        f"try: {call}\n"
        "except ImportError as error: print(isinstance(error, textclf.TextclfError), error)"
    )
    done = without("tensorflow", code, tmp_path)
    assert done.stdout.startswith(f"True {TRAINING}; run: "), done.stderr


def test_mediapipe_is_named_with_the_extra_that_adds_it(tmp_path):
    code = f"import textclf; print(textclf.verify({str(RUN)!r}, consumers=['mediapipe']).problems)"
    done = without("mediapipe", f"import os; os.environ.pop('TEXTCLF_MEDIAPIPE_PYTHON', None)\n{code}", tmp_path)
    assert COMMAND.format(extra="verify") in done.stdout, done.stderr


def test_a_finished_model_is_used_where_nothing_of_the_extras_is_installed(tmp_path):
    modules = "tensorflow keras h5py matplotlib jinja2 requests google_crc32c mediapipe pandas torch uv"
    code = (
        "import textclf\n"
        f"with textclf.Classifier({str(RUN / 'model.tflite')!r}) as classifier:\n"
        "    print(classifier.classify(['a good film'])[0].label)\n"
        f"print(textclf.evaluate_file({str(RUN)!r}, [{{'review': 'a bad film', 'mood': 'bad'}}]).accuracy)"
    )
    assert without(modules, code, tmp_path).stdout.split() == ["good", "1.0"]
