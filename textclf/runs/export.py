"""`textclf export`: writes the model of a finished run in another form, after a comparison with the trained model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from textclf import extras
from textclf.encoders.sources.builtin import builtin_change
from textclf.errors import ArgumentError, ModelError, VerificationError
from textclf.exporting.report import MODEL, VerificationReport
from textclf.files.kinds import run_path
from textclf.files.output_file import check_ending, checked_output, output_errors
from textclf.files.writing import link_target, replace_file
from textclf.recipe.settings import Recipe
from textclf.runs.tasks.table import task_of_run
from textclf.tflite.metadata import read_metadata
from textclf.training.saved.run_folder import METRICS, is_run, read_metrics

_LOG = logging.getLogger(__name__)


def export_run(
    run: str | Path,
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    *,
    force: bool = False,
    to: Literal["tflite", "onnx"] = "tflite",
) -> tuple[Path, VerificationReport]:
    """Writes a finished run's model in another form, verifies it, and returns its path and the report.

    `run` is the folder of the run; `overrides` are settings such as `quantization=float16`. The path is `output`, by
    default model-<quantization>.tflite (or .onnx) in the folder of the run. If the run has no model because no form of it
    passed the checks, the default is model.tflite, and the run's metrics, report and model card are written again for this
    file. With `force` an earlier model of textclf is replaced; its file mode is kept and links are followed. The run's own
    model.tflite and files of other programs are never replaced. Raises VerificationError, and writes nothing, if the file
    differs too much from the trained model, RunError for an output that exists already or cannot be written, ArgumentError
    for an output whose name is that of another kind of file, and, for ONNX, MissingPackageError without its packages and
    ArgumentError for settings that ONNX files do not have.
    """
    folder = run_path(run)
    if output is not None:
        _check_ending(Path(output), to)
    trained = task_of_run(folder).finished_run(folder, overrides)
    _log_encoder_change(folder, trained.recipe.encoder.source)
    if to == "onnx":
        _check_onnx(trained.recipe, overrides)
    own_model = folder / MODEL
    withheld = to == "tflite" and not own_model.exists()
    path = Path(output) if output is not None else own_model if withheld else folder / _name_of(trained.recipe, to)
    target = checked_output(path, _why_not_replaced, force=force)
    unverified = target.with_name(f".{target.name}.unverified")
    report = VerificationReport(str(path))
    try:
        # Fails before the work if nothing can be written there.
        with output_errors(path):
            unverified.write_bytes(b"")
        content = trained.onnx(report) if to == "onnx" else trained.content()
        with output_errors(path):
            unverified.write_bytes(content)
        if to == "tflite":
            trained.compare(unverified, report)
        if report.problems:
            raise VerificationError(f"{path}: not written: {report.problems[0]}")
        with output_errors(path):
            replace_file(unverified, target)
    finally:
        unverified.unlink(missing_ok=True)
    if withheld and target == link_target(own_model):
        trained.record(path, report)
    return path, report


def _name_of(recipe: Recipe, to: str) -> str:
    form = recipe.export
    suffix = "-task-library" if to == "tflite" and form.compatibility == "task-library" else ""
    return f"model-{form.quantization}{suffix}.{to}"


def _check_ending(output: Path, to: str) -> None:
    """Raises ArgumentError for a name under which textclf would open the file as one of the other kind."""
    if to == "onnx":
        check_ending(output, (".onnx",), "an ONNX file")
    elif output.suffix == ".onnx":
        raise ArgumentError(
            f"output (-o) is {output}, but the file will be a .tflite; change the name, or set to=onnx (--to onnx)"
        )


def _check_onnx(recipe: Recipe, overrides: Sequence[str]) -> None:
    """Raises errors for what ONNX files need and do not have."""
    if any(override.partition("=")[0].strip().endswith("compatibility") for override in overrides):
        raise ArgumentError(
            "compatibility names the runtimes of a TFLite file, and ONNX files have no such setting; remove it, or write a "
            ".tflite"
        )
    from textclf.exporting.onnx import require_onnx

    require_onnx(recipe)


def _log_encoder_change(folder: Path, source: str) -> None:
    """Logs that a run began with a built-in encoder of another version. Its own weights are exported all the same."""
    encoder = read_metrics(folder).get("encoder") if (folder / METRICS).exists() else None
    sha256 = encoder.get("sha256") if isinstance(encoder, dict) else None
    change = builtin_change(source, sha256) if isinstance(sha256, str) else None
    if change is not None:
        _LOG.info("%s: %s; the run's own weights are exported", folder, change)


def _why_not_replaced(target: Path) -> str | None:
    """Returns why an existing file is never replaced by a model, or None if it may be."""
    if target.name == MODEL and is_run(target.parent):
        return "is the model of a run, which the run's metrics and report describe; choose another output (-o), or train again"
    if not _is_model_of_ours(target):
        return "exists already and is not a model of textclf, so it is not replaced; choose another output (-o)"
    return None


def _is_model_of_ours(path: Path) -> bool:
    try:
        return (read_metadata(path).settings or {}).get("vocabulary_sha256") is not None
    except ModelError:
        return path.suffix == ".onnx" and _is_onnx_of_ours(path)


def _is_onnx_of_ours(path: Path) -> bool:
    extras.require("onnx", "to see whether an ONNX file that exists is one of textclf")
    from textclf.onnx.model_file import is_ours

    return is_ours(path)
