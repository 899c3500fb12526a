"""How good the answers of a trained model are: each encoder, engine and seed, on the same questions.

Takes SQuAD files. Appends one line a run to a file of results, and makes Markdown tables of them. What the file has is not
measured again; an interrupted training of textclf continues at its last saved step.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

import textclf
from pretraining.results import Results, cell, processor
from textclf.encoders.sources.locate import load_checkpoint
from textclf.files.writing import write_text
from textclf.runs.record.training_log import read_steps
from textclf.training.saved.run_folder import RunFolder

IDENTITY = ("data", "encoder", "sha256", "engine", "seed", "recipe")
SCORES = ("exact_match", "f1")
BOTH = ("native", "model-maker")


@dataclass(frozen=True)
class Measurement:
    """One training. `data` is the SHA-256 of the two files together, `sha256` that of the encoder."""

    data: str
    encoder: str
    sha256: str
    engine: str
    seed: int
    recipe: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of its folder and its recipe, which is another one for every run."""
        shown = self.encoder.rpartition(":")[2].rpartition("/")[2]
        digest = hashlib.sha256(repr(self).encode()).hexdigest()[:8]
        return f"{shown}-{self.engine}-{self.seed}-{digest}"

    @property
    def identity(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in IDENTITY}


def measurements(
    train: Path,
    test: Path,
    encoders: Sequence[str],
    engines: Sequence[str],
    seeds: Sequence[int],
    recipe: dict[str, Any],
) -> Iterator[Measurement]:
    """Every run, all of the first seed before the next one, and both engines of an encoder side by side."""
    data = hashlib.sha256(train.read_bytes() + test.read_bytes()).hexdigest()
    checksums = {encoder: load_checkpoint(encoder).fingerprint() for encoder in encoders}
    for seed in seeds:
        for encoder in encoders:
            for engine in engines:
                yield Measurement(data, encoder, checksums[encoder], engine, seed, recipe)


def measure_missing(
    runs: Sequence[Measurement], train: Path, test: Path, work: Path, results: Results
) -> Iterator[str]:
    """Measures what the results lack; yields a line for each run."""
    for number, run in enumerate(runs, 1):
        if results.find(run.identity) is None:
            results.add(measure(run, train, test, work))
            found = results.rows[-1]
            yield (
                f"{number} of {len(runs)}: {run.encoder}, {run.engine}, seed {run.seed}: exact match "
                f"{100 * found['exact_match']:.1f} %, F1 {100 * found['f1']:.1f} % in {found['seconds']:.0f} s"
            )


def measure(run: Measurement, train: Path, test: Path, work: Path) -> dict[str, Any]:
    """Returns the line of the results. The model is kept in the folder `models` of `work`, the rest is removed."""
    folder = work / "runs" / run.name
    file = work / f"{run.name}.yaml"
    write_text(file, recipe_text(run, train, test))
    is_interrupted = run.engine == "native" and RunFolder(folder).last_state.is_file()
    finished = textclf.train(textclf.load_recipe(file), folder, resume=is_interrupted, force=not is_interrupted)
    metrics, steps = finished.metrics, read_steps(finished.dir)
    steps = steps[1:] or steps
    phone = metrics["test"]["phone"]
    (work / "models").mkdir(exist_ok=True)
    shutil.copy(finished.model_path, work / "models" / f"{run.name}.tflite")
    shutil.rmtree(folder)
    file.unlink()
    return {
        **run.identity,
        "exact_match": metrics["test"]["server"]["exact_match"],
        "f1": metrics["test"]["server"]["f1"],
        "phone_exact_match": phone["exact_match"],
        "phone_f1": phone["f1"],
        "questions": metrics["rows"],
        "best_epoch": metrics["best_epoch"],
        "form": metrics["export"]["quantization"],
        "bytes": metrics["export"]["bytes"],
        # An interrupted training counts from its continuation.
        "seconds": metrics["seconds"],
        # Without the first step, which builds the graph; an example is a window.
        "examples_per_second": round(sum(step.rows for step in steps) / sum(step.seconds for step in steps), 2),
        "processor": processor(),
        "bfloat16": metrics["precision"] == "bfloat16",
        "model": f"models/{run.name}.tflite",
    }


def recipe_text(run: Measurement, train: Path, test: Path) -> str:
    settings = {
        "name": run.name,
        "task": "question-answering",
        # The same questions for both engines: which are set aside depends on the seed and the contexts alone.
        "dataset": {"train": str(train.resolve()), "validation": 0.1, "test": str(test.resolve())},
        "encoder": {"source": run.encoder},
        "training": {**run.recipe, "engine": run.engine, "seed": run.seed},
    }
    if run.engine == "model-maker":
        # The file of Model Maker is measured as it is. Its 8-bit weights change more answers than textclf accepts.
        settings["export"] = {"max_changed_labels": 1.0, "max_lost_accuracy": 1.0}
    return yaml.safe_dump(settings, sort_keys=False)


# --- The table -------------------------------------------------------------------------------------------------------
def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each encoder and engine, shares in % as mean ± deviation over the seeds (their number)."""
    lines = [
        "| encoder | engine | exact match | F1 | exact match, phone | F1, phone | examples a second | minutes |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for encoder in dict.fromkeys(row["encoder"] for row in rows):
        by_engine = {
            engine: [row for row in rows if (row["encoder"], row["engine"]) == (encoder, engine)] for engine in BOTH
        }
        for engine, own in by_engine.items():
            if own:
                scores = [cell([row[name] for row in own]) for name in (*SCORES, "phone_exact_match", "phone_f1")]
                speed, minutes = (
                    mean(row["examples_per_second"] for row in own),
                    mean(row["seconds"] for row in own) / 60,
                )
                lines.append(f"| {encoder} | {engine} | {' | '.join(scores)} | {speed:.1f} | {minutes:.1f} |")
        if all(by_engine.values()):
            lines.append(f"| {encoder} | difference | {' | '.join(_differences(by_engine))} | | |")
    return "\n".join(lines)


def _differences(by_engine: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """The native engine's mean minus that of Model Maker, in points, over the seeds that both have."""
    ours, theirs = ({row["seed"]: row for row in by_engine[engine]} for engine in BOTH)
    seeds = ours.keys() & theirs.keys()
    for name in (*SCORES, "phone_exact_match", "phone_f1"):
        found = [100 * (ours[seed][name] - theirs[seed][name]) for seed in seeds]
        yield f"{mean(found):+.1f}" if found else ""
