"""One training for `textclf compare`, alone in its process, so that time and memory are its own.

    python -m textclf.runs.measured_run RECIPE RUN_FOLDER RESULT PARENT

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
    from textclf.runs.train import train

    try:
        run = train(load_recipe(recipe_file), run_dir)
    except TextclfError as error:
        sys.exit(f"Error: {error}")
    engine = run.metrics["engine"]
    # What comes after was not part of the run.
    measured = {"peak_mib": engine.get("peak_mib", peak_memory())}
    measured["export_seconds"] = engine["seconds"]["export"] if "seconds" in engine else _export_again(run.dir)
    Path(result_file).write_text(json.dumps(measured), encoding="utf-8")


def _export_again(run_dir: Path) -> float:
    """The seconds from trained weights in memory to the file's bytes."""
    from textclf.exporting.trained_run import load_trained_run
    from textclf.exporting.writing import export_classifier

    trained = load_trained_run(run_dir)
    weights = trained.weights()
    begun = time.monotonic()
    export_classifier(trained.recipe, weights, trained.labels, trained.checkpoint.vocabulary)
    return round(time.monotonic() - begun, 3)


if __name__ == "__main__":
    main()
