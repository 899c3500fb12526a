"""Writes the last files of a run folder: `report.html`, `MODEL_CARD.md`, and `metrics.json`, from which both are made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from textclf.runs.classification import ClassificationMetrics
from textclf.runs.mistakes import Mistake
from textclf.runs.model_card import write_model_card
from textclf.runs.report import write_report

_LOG = logging.getLogger(__name__)


def write_pages(folder: Path, metrics: ClassificationMetrics, mistakes: Sequence[Mistake]) -> ClassificationMetrics:
    """Writes the three files and returns the metrics that were written.

    A page that cannot be drawn becomes a warning in the files that follow it.
    """
    pages: dict[str, Callable[[Path, ClassificationMetrics], None]] = {
        "report.html": partial(write_report, mistakes=mistakes),
        "MODEL_CARD.md": write_model_card,
    }
    for name, write in pages.items():
        try:
            write(folder, metrics)
        except OSError:
            raise
        except Exception as error:
            # The results and the model are worth more than a page on which a drawing library fails.
            problem = f"{type(error).__name__}: {error}"
            _LOG.warning("%s cannot be written (%s); all other files are complete", name, problem)
            warning = f"{name} could not be written: {problem}"
            metrics = metrics.with_changes(warnings=[*metrics.warnings, warning])
    metrics.write(folder)
    return metrics
