"""Takes what a person passed as a model, a `.tflite` file or the folder of a run, and returns the path of the `.tflite`
file."""

from __future__ import annotations

from pathlib import Path

from textclf.errors import ModelError

MODEL_FILE = "model.tflite"
"""The name of the model file in the folder of a run."""


def run_of_model(path: Path) -> Path | None:
    """Returns the folder of the run whose model a file is, or None."""
    return path.parent if path.name == MODEL_FILE and (path.parent / "metrics.json").is_file() else None


def model_path_of(path: str | Path) -> Path:
    """Returns the file itself or, for a folder, its `model.tflite`.

    Raises ModelError for a folder without this file.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    if (path / MODEL_FILE).is_file():
        return path / MODEL_FILE
    what = f"this folder has no {MODEL_FILE}"
    others = sorted(file.name for file in path.glob("*.tflite") if not file.name.startswith("."))
    if others:
        remedy = f"name the file, for example {path / others[0]}"
    elif (path / "metrics.json").is_file():
        what, remedy = f"this run has no {MODEL_FILE}", f"write one with: textclf export {path}"
    else:
        remedy = "name a .tflite file, or the folder of a finished run"
    raise ModelError(f"{path}: {what}; {remedy}")
