"""Writes a model in the first form that passes its checks, whatever its task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from textclf.errors import TextclfError
from textclf.files.writing import write_bytes
from textclf.runs.record.metrics_file import WITHHELD, RefusedForm
from textclf.terminal.progress import Progress
from textclf.tflite.graph.mobilebert import Quantization

_LOG = logging.getLogger(__name__)

FORMS: tuple[Quantization, ...] = ("int4", "dynamic", "float16", "none")
"""From the smallest form of a model to the most exact one."""

_File = TypeVar("_File")


def forms_from(quantization: Quantization) -> tuple[Quantization, ...]:
    """Returns a form, then the more exact ones."""
    return FORMS[FORMS.index(quantization) :]


def first_passing_form(
    forms: Sequence[Quantization],
    path: Path,
    progress: Progress,
    *,
    export: Callable[[Quantization], bytes],
    check: Callable[[Quantization], _File],
    keep: Callable[[bytes], None] = lambda content: None,
) -> tuple[_File | None, list[RefusedForm]]:
    """Writes the model in the first of the `forms` that passes, or in none. Returns what the check found, and the forms
    that did not pass, in the order in which they were tried.

    `check` opens the file at `path` and raises an error if it must not be used. `keep` is given a file that is withheld.
    """
    refused: list[RefusedForm] = []
    for form in forms:
        content = b""
        try:
            content = export(form)
            write_bytes(path, content)
            return check(form), refused
        except (OSError, MemoryError):
            raise
        except Exception as error:
            # Also errors of the runtime: the failure of one form must not cost the training.
            path.unlink(missing_ok=True)
            refused.append(RefusedForm(quantization=form, reason=_reason(error, path)))
            _LOG.debug("the export as %s failed", form, exc_info=error)
            progress.warn(f"export.quantization {form}: {refused[-1].reason}")
            if content:
                keep(content)
    return None, refused


def _reason(error: Exception, path: Path) -> str:
    """The message of the error without the folder of the file."""
    message = str(error).replace(str(path), "model.tflite")
    return message if isinstance(error, TextclfError) else f"{type(error).__name__}: {message}"


def warnings_about(written: Quantization | None, doubt: str | None, refused: Sequence[RefusedForm]) -> list[str]:
    """Returns what a person must know about the file before using it; `written` is its form, None without one."""
    reasons = "; ".join(f"{form.quantization}: {form.reason}" for form in refused)
    if written is None:
        return [f"{WITHHELD}, because no form of it passed the checks ({reasons})"]
    warnings = [doubt] if doubt is not None else []
    if refused:
        warnings.append(
            f"model.tflite is written as {written}, not as {refused[0].quantization}, which the recipe asks for ({reasons})"
        )
    return warnings
