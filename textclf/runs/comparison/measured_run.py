"""One training for `textclf compare` in a process that does nothing else, so that its time and memory can be measured.

    python -m textclf.runs.comparison.measured_run RECIPE RUN_FOLDER RESULT PARENT

Writes a run folder as `textclf train` does and, into RESULT, a JSON object with `peak_mib` and `export_seconds`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from textclf.errors import TextclfError
from textclf.model_maker.worker import end_with, peak_memory
from textclf.terminal.native_log import load_tensorflow


def main() -> None:
    recipe_file, run_dir, result_file, parent = sys.argv[1:]
    end_with(int(parent))
    load_tensorflow()
    from textclf.recipe.reading import load_recipe
    from textclf.runs.record.metrics_file import RunMetrics
    from textclf.runs.train import train

    try:
        run = train(load_recipe(recipe_file), run_dir)
    except TextclfError as error:
        sys.exit(f"Error: {error}")
    engine = RunMetrics.read(run.dir).engine
    # Before the second export, which is not part of the run.
    peak_mib = engine.peak_mib if engine.peak_mib is not None else peak_memory()
    export_seconds = engine.seconds["export"] if engine.seconds is not None else _export_again(run.dir)
    measured = {"peak_mib": peak_mib, "export_seconds": export_seconds}
    Path(result_file).write_text(json.dumps(measured), encoding="utf-8")


def _export_again(run_dir: Path) -> float:
    """Returns the seconds that it takes to make the bytes of the file from the trained weights in memory."""
    from textclf.runs.tasks.table import task_of_run

    finished = task_of_run(run_dir).finished_run(run_dir, [])
    begun = time.monotonic()
    finished.content()
    return round(time.monotonic() - begun, 3)


if __name__ == "__main__":
    main()
