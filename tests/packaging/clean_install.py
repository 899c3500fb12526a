"""Installs a wheel into a new environment and does the main jobs there, from an empty folder.

    python tests/packaging/clean_install.py dist/textclf_tflite-0.1.0-py3-none-any.whl [--train]

Needs nothing but Python, its venv and a package index. Prints what the installation costs: seconds, megabytes and
packages. Without --train only the light core is installed, and the jobs are those of a finished model; then training
must end with one line that says what to install. With --train the extra is added, and a model is trained. Ends with an
error at the first job that does not do what it should.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "first_version"

LARGEST_CORE = 260
"""Megabytes (10^6 bytes), with Python's compiled files and without pip."""

RECIPE = """\
name: reviews
dataset: {train: train.csv, test: test.csv, text: review, label: mood}
encoder: ENCODER
training: {epochs: 3}
"""


class Installation:
    """A virtual environment with the wheel, and an empty folder in which its commands run."""

    def __init__(self, place: Path) -> None:
        self.environment = place / "environment"
        self.folder = place / "empty folder"
        self.folder.mkdir()
        subprocess.run([sys.executable, "-m", "venv", str(self.environment)], check=True)
        self._programs = self.environment / ("Scripts" if os.name == "nt" else "bin")
        self._before = self._sizes()

    def install(self, requirement: str) -> None:
        """Prints what it costs."""
        begun = time.monotonic()
        pip = [str(self._programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, requirement], check=True, cwd=self.folder)
        seconds = time.monotonic() - begun
        print(
            f"{Path(requirement).name}: {seconds:.0f} s, {self.megabytes():.0f} MB, {self.packages()} packages",
            flush=True,
        )

    def megabytes(self) -> float:
        """What the installation added to the empty environment."""
        return sum(size for file, size in self._sizes().items() if file not in self._before) / 1e6

    def packages(self) -> int:
        """How many packages are installed, textclf included and pip and setuptools not."""
        found = {
            file.parent for file in self._sizes() if file.name == "METADATA" and file.parent.suffix == ".dist-info"
        }
        return sum(not folder.name.startswith(("pip-", "setuptools-")) for folder in found)

    def _sizes(self) -> dict[Path, int]:
        files = (path for path in self.environment.rglob("*") if path.is_file() and not path.is_symlink())
        return {path: path.stat().st_size for path in files}

    def textclf(self, *arguments: str, code: int = 0) -> str:
        """What a command prints, on both streams; raises SystemExit where it ends with another code."""
        done = subprocess.run(
            [str(self._programs / "textclf"), *arguments],
            cwd=self.folder,
            env=_variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        if done.returncode != code or "Traceback" in done.stdout:
            sys.exit(f"textclf {' '.join(arguments)}: exit code {done.returncode}, expected {code}\n{done.stdout}")
        print(f"textclf {' '.join(arguments)}: exit code {code}, as expected", flush=True)
        return done.stdout


def _variables() -> Mapping[str, str]:
    """Nothing of this checkout, and UTF-8 on every system's pipes."""
    return {**{key: value for key, value in os.environ.items() if key != "PYTHONPATH"}, "PYTHONIOENCODING": "utf-8"}


def expect(fact: bool, what: str) -> None:
    if not fact:
        sys.exit(f"not as expected: {what}")


def copy(installation: Installation, name: str) -> None:
    (installation.folder / Path(name).name).write_bytes((FIXTURES / name).read_bytes())


def use_finished_model(installation: Installation) -> None:
    """Checks a recipe with the built-in encoder, then inspects, verifies, measures and uses a model."""
    for name in ("runs/reviews/model.tflite", "train.csv", "test.csv"):
        copy(installation, name)
    recipe = installation.folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("ENCODER", "builtin"), encoding="utf-8")
    expect("Labels: 2" in installation.textclf("check", "recipe.yaml"), "check reports two labels")
    installation.textclf("inspect", "model.tflite")
    expect("model.tflite: verified" in installation.textclf("verify", "model.tflite", "test.csv"), "verify passes")
    accuracy = json.loads(installation.textclf("evaluate", "model.tflite", "test.csv", "--json"))["accuracy"]
    expect(accuracy > 0.9, f"evaluate measures an accuracy above 0.9, found {accuracy}")
    classify(installation, "model.tflite")


def classify(installation: Installation, model: str) -> None:
    installation.textclf("classify", model, "test.csv", "-o", "classified.csv", "--force")
    with (installation.folder / "classified.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["predicted_label"] == row["mood"] for row in rows)
    expect(len(rows) == 60 and right > 54, f"classify labels 60 rows, most of them right; found {right} of {len(rows)}")


def refuse_to_train(installation: Installation) -> None:
    said = installation.textclf("train", "recipe.yaml", code=2)
    expect(
        'pip install "textclf-tflite[train]"' in said, f"train names the command that adds TensorFlow; it said {said}"
    )
    expect(not (installation.folder / "runs").exists(), "train without TensorFlow writes nothing")


def train(installation: Installation) -> None:
    recipe = installation.folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("ENCODER", "average-words"), encoding="utf-8")
    installation.textclf("train", "recipe.yaml")
    classify(installation, str(Path("runs", "reviews")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--train", action="store_true", help="Add the extra `train` afterwards, and train.")
    arguments = parser.parse_args()
    wheel = arguments.wheel.resolve(strict=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        installation = Installation(Path(place))
        installation.install(str(wheel))
        expect(installation.megabytes() <= LARGEST_CORE, f"the light core takes at most {LARGEST_CORE} MB")
        use_finished_model(installation)
        refuse_to_train(installation)
        if arguments.train:
            installation.install(f"{wheel}[train]")
            train(installation)


if __name__ == "__main__":
    main()
