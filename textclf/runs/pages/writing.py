"""Writes the last files of a run folder: the pages of its task, such as `report.html`, and `metrics.json`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from textclf.runs.record.metrics_file import RunMetrics

_LOG = logging.getLogger(__name__)


Pages: TypeAlias = Mapping[str, Callable[[Path, Any], None]]
"""By file name, what writes a page into a run folder from the folder and the metrics of its task."""

_Metrics = TypeVar("_Metrics", bound=RunMetrics)


def write_pages(folder: Path, metrics: _Metrics, pages: Pages) -> _Metrics:
    """Writes the pages and the metrics, and returns the metrics that were written.

    A page that cannot be drawn becomes a warning in the files that follow it.
    """
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
