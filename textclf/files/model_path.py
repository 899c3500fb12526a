"""What a person names as a model: a `.tflite` file or the folder of a run in, the path of the `.tflite` file out."""

from __future__ import annotations

from pathlib import Path

from textclf.errors import ModelError

MODEL_FILE = "model.tflite"
"""The model's name in the folder of a run."""


def model_path_of(path: str | Path) -> Path:
    """The file itself, or of a folder the `model.tflite` in it. Raises ModelError for a folder that holds none."""
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
