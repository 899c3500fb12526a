"""The last files of a run folder, drawn from its numbers: `report.html`, `MODEL_CARD.md` and `metrics.json` itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from textclf.classify.metrics import metrics_json
from textclf.files.writing import write_text
from textclf.runs.model_card import write_model_card
from textclf.runs.report import Mistake, write_report
from textclf.training.run_folder import METRICS

WITHHELD = "model.tflite was not written"
"""How the warning begins that a run without a model carries."""

_LOG = logging.getLogger(__name__)


def write_pages(folder: Path, metrics: dict[str, Any], mistakes: Sequence[Mistake]) -> None:
    """Writes `report.html`, `MODEL_CARD.md` and `metrics.json`; a page that cannot be drawn is a warning in the others."""
    pages = {
        "report.html": partial(write_report, folder, metrics, mistakes),
        "MODEL_CARD.md": partial(write_model_card, folder, metrics),
    }
    for name, write in pages.items():
        try:
            write()
        except OSError:
            raise
        except Exception as error:
            # Whatever a drawing library stumbles over, the numbers and the model are worth more than the page.
            _LOG.warning("%s cannot be written (%s: %s); all else is complete", name, type(error).__name__, error)
            metrics["warnings"] = [
                *metrics["warnings"],
                f"{name} could not be written: {type(error).__name__}: {error}",
            ]
    write_text(folder / METRICS, metrics_json(metrics))
