"""`textclf compare --engines`: one recipe trained by several engines on the same split and encoder, in one table.

In: the recipe for each engine. Out: a folder with the split, the runs, `comparison.json` and `comparison.md`, which
appears when it is complete. Every training runs alone in its own process; the latencies of the files are measured in
turns in this one.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textclf import __version__
from textclf.classify.classifier import Classifier
from textclf.data.examples import Dataset, Split
from textclf.encoders.prepare import load_recipe_data, prepare
from textclf.encoders.sources.cache import offline_variables
from textclf.errors import EngineError
from textclf.extras import require
from textclf.files.writing import write_text
from textclf.model_maker.environment import require_environment
from textclf.model_maker.process import how_it_ended, last_words, run_process, tail
from textclf.recipe.settings import Recipe
from textclf.recipe.writing import dump_recipe
from textclf.runs.comparison.folder import FORMAT, VERSION, open_comparison_folder, writing
from textclf.terminal.progress import Progress
from textclf.terminal.tables import text_table

_LATENCY_ROUNDS = 60

_LATENCY_SECONDS = 60.0


@dataclass(frozen=True)
class Measurement:
    """One training with one engine and seed. Times in seconds; `first_step` from the start of the program on;
    `examples_per_second` after the first step; `changed_labels` of `compared_rows` by the export;
    `run` is its folder, relative to that of the comparison."""

    engine: str
    seed: int
    total: float
    first_step: float
    examples_per_second: float | None
    peak_mib: float
    accuracy: float
    macro_f1: float
    export: float
    bytes: int
    changed_labels: int
    compared_rows: int
    run: str


@dataclass(frozen=True)
class Comparison:
    """All measurements, the median latency in ms by engine (one row at full length, one thread), and rows a second as
    `textclf classify` runs the file on one thread."""

    name: str
    split: str
    rows: dict[str, int]
    max_length: int
    measurements: list[Measurement]
    latency_ms: dict[str, float]
    rows_per_second: dict[str, float]
    machine: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> list[list[str]]:
        """The first line is the header: what is measured, then one column an engine."""
        engines = list(self.latency_ms)
        by_engine = {engine: [one for one in self.measurements if one.engine == engine] for engine in engines}

        def line(what: str, show: Any) -> list[str]:
            return [what, *(show(engine, by_engine[engine]) for engine in engines)]

        return [
            ["", *engines],
            line("time to the first step", lambda _, all_of: f"{_mean(all_of, 'first_step'):.1f} s"),
            line("examples a second, after it", lambda _, all_of: _rate(all_of)),
            line("peak memory", lambda _, all_of: f"{max(one.peak_mib for one in all_of):,.0f} MiB"),
            line(f"accuracy, {self.split} split", lambda _, all_of: _share(all_of, "accuracy")),
            line(f"macro-F1, {self.split} split", lambda _, all_of: _share(all_of, "macro_f1")),
            line("export", lambda _, all_of: f"{_mean(all_of, 'export'):.1f} s"),
            line("whole run", lambda _, all_of: f"{_mean(all_of, 'total'):.1f} s"),
            line("model.tflite", lambda _, all_of: f"{all_of[0].bytes / 1e6:.2f} MB"),
            line(f"latency, {self.max_length} tokens, 1 thread", lambda engine, _: f"{self.latency_ms[engine]:.1f} ms"),
            line("classify, 1 thread", lambda engine, _: f"{self.rows_per_second[engine]:,.0f} rows/s"),
            line("labels changed by quantisation", lambda _, all_of: _changed(all_of)),
        ]

    def as_text(self) -> str:
        header, *lines = self.table()
        return text_table(header, lines)

    def as_markdown(self) -> str:
        header, *lines = [[cell or "measured" for cell in row] for row in self.table()]
        rows = [header, ["---", *["---:"] * (len(header) - 1)], *lines]
        seeds = sorted({one.seed for one in self.measurements})
        counts = ", ".join(f"{count:,} {split}" for split, count in self.rows.items())
        machine = self.machine
        return (
            f"# {self.name}: {' and '.join(header[1:])}\n\n"
            f"Rows: {counts}. Seeds: {', '.join(map(str, seeds))}. {machine['processor']}, {machine['cores']} cores, load "
            f"{machine['load_before']} before and {machine['load_after']} after; textclf {machine['textclf']}.\n\n"
            + "".join(f"| {' | '.join(row)} |\n" for row in rows)
            + "\nTime to the first step counts from the start of the engine's program; of Model Maker, memory, time to the "
            "first step and export are of its own process alone.\n"
        )


def compare_engines(
    recipes: Mapping[str, Recipe], seeds: Sequence[int], output: Path, *, force: bool = False, quiet: bool = False
) -> Comparison:
    """Trains each engine's recipe with each seed and writes the folder `output`.

    The recipes differ in training.engine only. A comparison that exists is replaced only with `force`, only where textclf
    wrote all that the folder holds, and only when the new one is complete. Raises RunError for a folder that may not be
    written or replaced, and EngineError, with the last words of the run, for one that fails: the runs that were complete
    then are kept in the unfinished folder.
    """
    progress = Progress(quiet=quiet)
    if os.name != "posix":  # Memory and the end of all that a run started are measured and ensured as POSIX has them.
        raise EngineError(
            "engines can be compared on Linux and macOS only; train the recipe with training.engine=native, and compare "
            "runs: textclf compare RUN RUN"
        )
    require("tensorflow", "to train")
    if "model-maker" in recipes:
        require_environment()
    with open_comparison_folder(output, force=force, say=progress.say) as folder:
        first = next(iter(recipes.values()))
        _, dataset = load_recipe_data(first)
        with writing(folder, progress.say) as path:
            return _compare(recipes, seeds, dataset, path, progress)


def _compare(
    recipes: Mapping[str, Recipe], seeds: Sequence[int], dataset: Dataset, output: Path, progress: Progress
) -> Comparison:
    machine = _machine()
    name = next(iter(recipes.values())).name
    recipes = {engine: _with_split(recipe, dataset, output / "data") for engine, recipe in recipes.items()}
    measurements = []
    for number, seed in enumerate(seeds):
        # Turn about, so that whatever favours the first or the second favours both.
        for engine in list(recipes)[:: 1 if number % 2 == 0 else -1]:
            measured = _measure(recipes[engine], engine, seed, output, progress)
            progress.say(
                f"{engine}, seed {seed}: first step after {measured.first_step:.1f} s, accuracy {measured.accuracy:.1%}, "
                f"{measured.peak_mib:,.0f} MiB, {measured.total:.0f} s in all"
            )
            measurements.append(measured)
    models = {engine: output / _run_of(engine, measurements).run / "model.tflite" for engine in recipes}
    measured_split = dataset.test or dataset.validation
    latency, throughput = _speeds(models, measured_split, progress)
    comparison = Comparison(
        name=name,
        split=measured_split.name,
        rows={split.name: len(split.rows) for split in dataset.splits},
        max_length=next(iter(recipes.values())).encoder.fixed_length,
        measurements=measurements,
        latency_ms=latency,
        rows_per_second=throughput,
        machine={**machine, "load_after": _load()},
    )
    values = {"format": FORMAT, "version": VERSION, **comparison.as_dict()}
    write_text(output / "comparison.json", json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    write_text(output / "comparison.md", comparison.as_markdown())
    return comparison


# --- The runs --------------------------------------------------------------------------------------------------------
def _with_split(recipe: Recipe, dataset: Dataset, folder: Path) -> Recipe:
    """The recipe on files of the split, the same for every seed and engine; also its length as a number."""
    folder.mkdir(exist_ok=True)
    paths: dict[str, Path | None] = {"test": None}
    for split in dataset.splits:
        paths[split.name] = (folder / f"{split.name}.csv").absolute()
        with (folder / f"{split.name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*recipe.dataset.text, recipe.dataset.label])
            writer.writerows(
                [*texts, dataset.labels[label]] for texts, label in zip(split.texts, split.labels, strict=True)
            )
    settings = {**paths, "labels": tuple(dataset.labels), "delimiter": ",", "encoding": "utf-8"}
    recipe = prepare(recipe, dataset).recipe
    return recipe.model_copy(update={"dataset": recipe.dataset.model_copy(update=settings)})


def _measure(recipe: Recipe, engine: str, seed: int, output: Path, progress: Progress) -> Measurement:
    name = f"{engine}-{seed}"
    place = output / "runs" / f"{name}.log"
    place.mkdir(parents=True)
    training = recipe.training.model_copy(update={"seed": seed, "seeds": None})
    recipe_file = place / "recipe.yaml"
    write_text(recipe_file, dump_recipe(recipe.model_copy(update={"training": training}), relative_to=place.absolute()))
    run_dir = (output / "runs" / name).absolute()
    result = (place / "result.json").absolute()
    progress.say(f"{engine}, seed {seed}: running")
    watched = _FirstStep(run_dir.with_name(f".{name}.unfinished") / "log.jsonl")
    arguments = [str(recipe_file.absolute()), str(run_dir), str(result), str(os.getpid())]
    command = [sys.executable, "-m", "textclf.runs.measured_run", *arguments]
    begun = time.time()
    returned = run_process(command, place, on_look=watched.look, environment=_variables())
    total = time.time() - begun
    if returned != 0 or not result.exists():
        raise EngineError(
            f"{engine}, seed {seed}: the run ended with {how_it_ended(returned)}, its last words:\n{last_words(place)}"
        )
    metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    own = json.loads(result.read_text(encoding="utf-8"))
    scores = metrics.get("test") or metrics["validation"]
    worker_first_step = metrics["engine"].get("seconds", {}).get("first_step")
    return Measurement(
        engine=engine,
        seed=seed,
        total=round(total, 1),
        first_step=worker_first_step or round((watched.at or time.time()) - begun, 1),
        examples_per_second=_examples_per_second(run_dir / "log.jsonl"),
        peak_mib=own["peak_mib"],
        accuracy=scores["accuracy"],
        macro_f1=scores["macro_f1"],
        export=own["export_seconds"],
        bytes=metrics["export"]["bytes"],
        changed_labels=metrics["export"]["changed_labels"],
        compared_rows=metrics["export"]["rows"],
        run=f"runs/{name}",
    )


class _FirstStep:
    """When the first step was written into a run's log."""

    def __init__(self, log: Path) -> None:
        self.at: float | None = None
        self._new = tail(log)

    def look(self) -> None:
        if self.at is None and any(event.get("event") == "step" for event in next(self._new)):
            self.at = time.time()


def _variables() -> dict[str, str]:
    """The runs import the textclf that is running here."""
    package = str(Path(__file__).resolve().parents[3])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **offline_variables(), "PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "2"}


def _examples_per_second(log: Path) -> float | None:
    """Without the first step, which builds the graph; None where there was no other."""
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps = [entry for entry in entries if entry["event"] == "step"][1:]
    seconds = sum(step["seconds"] for step in steps)
    return round(sum(step["rows"] for step in steps) / seconds, 2) if seconds else None


# --- The files -------------------------------------------------------------------------------------------------------
def _run_of(engine: str, measurements: Sequence[Measurement]) -> Measurement:
    return next(one for one in measurements if one.engine == engine)


def _speeds(models: Mapping[str, Path], split: Split, progress: Progress) -> tuple[dict[str, float], dict[str, float]]:
    """Median ms of one row at full length, the files taking turns, and rows a second of all rows; on one thread."""
    progress.say("measuring the files in turns")
    classifiers = {engine: Classifier(model, num_threads=1) for engine, model in models.items()}
    texts = split.texts
    times: dict[str, list[float]] = {engine: [] for engine in models}
    ends = time.monotonic() + _LATENCY_SECONDS
    for turn in range(_LATENCY_ROUNDS):
        for engine, classifier in classifiers.items():
            begun = time.perf_counter()
            classifier.probabilities_at_full_length([texts[turn % len(texts)]])
            times[engine].append(1e3 * (time.perf_counter() - begun))
        if time.monotonic() > ends:
            break
    throughput = {}
    for engine, classifier in classifiers.items():
        begun = time.perf_counter()
        classifier.probabilities(texts)
        throughput[engine] = round(len(texts) / (time.perf_counter() - begun), 1)
    return {engine: round(statistics.median(values), 2) for engine, values in times.items()}, throughput


# --- Numbers for people ----------------------------------------------------------------------------------------------
def _mean(measured: Sequence[Measurement], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in measured]))


def _rate(measured: Sequence[Measurement]) -> str:
    rates = [one.examples_per_second for one in measured if one.examples_per_second is not None]
    return f"{np.mean(rates):.1f}" if rates else "–"


def _share(measured: Sequence[Measurement], name: str) -> str:
    values = [100 * getattr(one, name) for one in measured]
    deviation = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{deviation} %"


def _changed(measured: Sequence[Measurement]) -> str:
    return f"{sum(one.changed_labels for one in measured):,} of {sum(one.compared_rows for one in measured):,}"


def _machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "textclf": __version__,
        "load_before": _load(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _load() -> float | None:
    """None where the system tells none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
