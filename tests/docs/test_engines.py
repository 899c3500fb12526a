"""The programs of the page about Spark and Ray, where these engines are installed.

They are not packages of textclf or of its tests. TEXTCLF_ENGINES_PYTHON names a Python that has them, textclf and what it
needs; otherwise this one is asked.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.classify.test_classifier import write_tiny_model
from tests.docs.test_code_blocks import DOCS, REPOSITORY, blocks_of
from textclf.classify.classifier import Classifier

PYTHON = os.environ.get("TEXTCLF_ENGINES_PYTHON", sys.executable)
TEXTS = ["good film", "bad, and late", "", 'a "great" phone', "two\nlines that hate", "love it"]


def has(module: str) -> bool:
    return subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(("program", "module"), [("on_spark.py", "pyspark"), ("on_ray.py", "ray")])
def test_the_program_of_an_engine_labels_every_row(program: str, module: str, tmp_path: Path) -> None:
    if not has(module):
        pytest.skip(f"needs {module}; set TEXTCLF_ENGINES_PYTHON to a Python that has it")
    if module == "pyspark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "runs" / "tickets").mkdir(parents=True)
    model = write_tiny_model(tmp_path / "runs" / "tickets" / "model.tflite", text=("message",))
    with (tmp_path / "tickets.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "message"), *enumerate(TEXTS)])
    [source] = [
        str(block.parsed)
        for block in blocks_of(DOCS / "how-to" / "spark-and-ray.md")
        if block.region.lexemes["title"] == program
    ]
    (tmp_path / program).write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYSPARK_PYTHON": PYTHON}
    command = [PYTHON, program]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    engine = module.removeprefix("py")
    rows = parquet.read_table(tmp_path / f"labelled-by-{engine}").to_pylist()
    labels = {int(row["id"]): row["predicted_label"] for row in rows}
    with Classifier(model) as classifier:
        expected = [prediction.label or None for prediction in classifier.classify(TEXTS)]
    assert [labels[number] for number in range(len(TEXTS))] == expected
