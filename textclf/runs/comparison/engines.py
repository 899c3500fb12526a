"""`textclf compare --engines`: trains one recipe with several engines on the same split and encoder.

Takes the recipe for each engine. Writes a folder with the split, the runs, `comparison.json` and `comparison.md`, which
gets its name when it is complete. Each training runs in a separate process, one after the other. The latencies of the
files are measured in this process, in turns.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from textclf import __version__
from textclf.data.examples import Dataset, Split
from textclf.encoders.prepare import load_recipe_data, prepare
from textclf.errors import ArgumentError, EngineError
from textclf.extras import require
from textclf.files.network import offline_variables
from textclf.files.writing import write_text
from textclf.model_maker.environment import require_environment
from textclf.model_maker.process import how_it_ended, last_words, run_process, tail
from textclf.recipe.settings import Recipe
from textclf.recipe.writing import dump_recipe
from textclf.runs.comparison.folder import FORMAT, VERSION, open_comparison_folder, writing
from textclf.runs.comparison.measurement import EngineMeasures, Measurement
from textclf.runs.record.latency import processor_name
from textclf.runs.record.metrics_file import RunMetrics
from textclf.runs.record.training_log import read_steps
from textclf.runs.tasks.table import task_of
from textclf.terminal.progress import Progress
from textclf.terminal.tables import text_table

_LATENCY_ROUNDS = 60

_LATENCY_SECONDS = 60.0


Measure = Callable[[Recipe, str, int, Path, Progress], Measurement]
"""Trains a recipe with an engine and a seed, and writes the run into the folder of the comparison."""


@dataclass(frozen=True)
class Comparison:
    """All measurements, and by engine the median latency in ms (one row or window of full length, one thread) and the rows,
    or questions, per second of `textclf classify`, or `textclf answer`, with one thread."""

    task: str
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
        """The first line is the header. Each line has the name of a measurement and one column per engine."""
        engines = list(self.latency_ms)
        by_engine = {engine: [one for one in self.measurements if one.engine == engine] for engine in engines}
        first = self.measurements[0]
        digits = 0 if min(self.rows_per_second.values()) >= 100 else 1

        def line(what: str, show: Any) -> list[str]:
            return [what, *(show(engine, by_engine[engine]) for engine in engines)]

        return [
            ["", *engines],
            line("time to the first step", lambda _, all_of: f"{_mean(all_of, 'first_step'):.1f} s"),
            line("examples per second, after the first step", lambda _, all_of: _rate(all_of)),
            line("peak memory", lambda _, all_of: f"{max(one.peak_mib for one in all_of):,.0f} MiB"),
            *(line(f"{name}, {self.split} split", partial(_share, name)) for name in first.scores),
            line("export", lambda _, all_of: f"{_mean(all_of, 'export'):.1f} s"),
            line("whole run", lambda _, all_of: f"{_mean(all_of, 'total'):.1f} s"),
            line(
                "form of model.tflite", lambda _, all_of: ", ".join(dict.fromkeys(one.quantization for one in all_of))
            ),
            line("model.tflite", lambda _, all_of: f"{all_of[0].bytes / 1e6:.2f} MB"),
            line(f"latency, {self.max_length} tokens, 1 thread", lambda engine, _: f"{self.latency_ms[engine]:.1f} ms"),
            line(
                f"{first.command}, 1 thread",
                lambda engine, _: f"{self.rows_per_second[engine]:,.{digits}f} {first.unit}/s",
            ),
            line(f"{first.predictions} changed by quantisation", lambda _, all_of: _changed(all_of)),
        ]

    def as_text(self) -> str:
        header, *lines = self.table()
        return text_table(header, lines)

    def as_markdown(self) -> str:
        header, *lines = [[cell or "measured" for cell in row] for row in self.table()]
        rows = [header, ["---", *["---:"] * (len(header) - 1)], *lines]
        seeds = sorted({one.seed for one in self.measurements})
        counts = ", ".join(f"{count:,} {split}" for split, count in self.rows.items())
        unit = self.measurements[0].unit.capitalize()
        machine = self.machine
        return (
            f"# {self.name}: {' and '.join(header[1:])}\n\n"
            f"{unit}: {counts}. Seeds: {', '.join(map(str, seeds))}. {machine['processor']}, {machine['cores']} cores, load "
            f"{machine['load_before']} before and {machine['load_after']} after; textclf {machine['textclf']}.\n\n"
            + "".join(f"| {' | '.join(row)} |\n" for row in rows)
            + "\nThe time to the first step is counted from the start of the engine's program. For Model Maker, the memory, "
            "the time to the first step and the time of the export are those of its separate process only.\n"
        )


def compare_engines(
    recipes: Mapping[str, Recipe],
    seeds: Sequence[int],
    output: Path,
    *,
    force: bool = False,
    quiet: bool = False,
    measure: Measure | None = None,
) -> Comparison:
    """Trains each engine's recipe with each seed and writes the folder `output`.

    The recipes differ in training.engine only. An existing comparison is replaced only with `force`, only if textclf wrote
    everything in its folder, and only when the new one is complete. `measure` trains one recipe, by default
    `measure_training`. Raises RunError for a folder that may not be written or replaced, and EngineError, with the last
    lines of its log, for a run that fails. Runs that were complete by then are kept in the unfinished folder.
    """
    progress = Progress(quiet=quiet)
    if os.name != "posix":  # Memory and the end of all that a run started are measured and ensured as POSIX has them.
        raise EngineError(
            "engines can be compared on Linux and macOS only; train the recipe with training.engine=native, and compare "
            "runs: textclf compare RUN RUN"
        )
    _measures_of(next(iter(recipes.values())))
    require("tensorflow", "to train")
    if "model-maker" in recipes:
        require_environment()
    with open_comparison_folder(output, force=force, say=progress.say) as folder:
        first = next(iter(recipes.values()))
        _, dataset = load_recipe_data(first, read=task_of(first).read_dataset)
        with writing(folder, progress.say) as path:
            return _compare(recipes, seeds, dataset, path, progress, measure or measure_training)


def _compare(
    recipes: Mapping[str, Recipe],
    seeds: Sequence[int],
    dataset: Dataset,
    output: Path,
    progress: Progress,
    measure: Measure,
) -> Comparison:
    machine = _machine()
    first = next(iter(recipes.values()))
    recipes = {engine: _with_split(recipe, dataset, output / "data") for engine, recipe in recipes.items()}
    measurements = []
    for number, seed in enumerate(seeds):
        # In alternating order, so that no engine always has the advantage of being first or second.
        for engine in list(recipes)[:: 1 if number % 2 == 0 else -1]:
            measured = measure(recipes[engine], engine, seed, output, progress)
            score, value = next(iter(measured.scores.items()))
            progress.say(
                f"{engine}, seed {seed}: first step after {measured.first_step:.1f} s, {score} {value:.1%}, "
                f"{measured.peak_mib:,.0f} MiB, {measured.total:.0f} s in total"
            )
            measurements.append(measured)
    models = {engine: output / _run_of(engine, measurements).run / "model.tflite" for engine in recipes}
    measured_split = dataset.test or dataset.validation
    latency, throughput = _speeds(_measures_of(first), models, measured_split, progress)
    comparison = Comparison(
        task=task_of(first).name,
        name=first.name,
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


def _measures_of(recipe: Recipe) -> EngineMeasures:
    """Raises ArgumentError for a task whose engines are not compared."""
    task = task_of(recipe)
    measures = task.engine_measures()
    if measures is None:
        raise ArgumentError(
            f"{recipe.name}: is a recipe of {task.name}, which only the engine native can train, so there are no engines to "
            "compare; train it (textclf train RECIPE), and compare it with other runs: textclf compare RUN RUN"
        )
    return measures


# --- The runs --------------------------------------------------------------------------------------------------------
def _with_split(recipe: Recipe, dataset: Dataset, folder: Path) -> Recipe:
    """Writes the split into files that every seed and engine reads; returns the recipe with these files and a fixed length."""
    folder.mkdir(exist_ok=True)
    settings = _measures_of(recipe).write_split(recipe, dataset, folder)
    recipe = prepare(recipe, dataset).recipe
    return recipe.model_copy(update={"dataset": recipe.dataset.model_copy(update=settings)})


def measure_training(recipe: Recipe, engine: str, seed: int, output: Path, progress: Progress) -> Measurement:
    """Trains one recipe in a separate process, in `output`/runs/<engine>-<seed>. Raises EngineError if that fails."""
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
    command = [sys.executable, "-m", "textclf.runs.comparison.measured_run", *arguments]
    begun = time.time()
    returned = run_process(command, place, on_look=watched.look, environment=_variables())
    total = time.time() - begun
    if returned != 0 or not result.exists():
        raise EngineError(
            f"{engine}, seed {seed}: the run ended with {how_it_ended(returned)}; the end of its log:\n{last_words(place)}"
        )
    facts = RunMetrics.read(run_dir)
    own = json.loads(result.read_text(encoding="utf-8"))
    worker_first_step = (facts.engine.seconds or {}).get("first_step")
    assert facts.export.bytes is not None
    common = {
        "engine": engine,
        "seed": seed,
        "total": round(total, 1),
        "first_step": worker_first_step or round((watched.at or time.time()) - begun, 1),
        "examples_per_second": _examples_per_second(run_dir),
        "peak_mib": own["peak_mib"],
        "export": own["export_seconds"],
        "quantization": facts.export.quantization,
        "bytes": facts.export.bytes,
        "run": f"runs/{name}",
    }
    return _measures_of(recipe).measurement(run_dir, common)


class _FirstStep:
    """The time at which the first step was written into the log of a run."""

    def __init__(self, log: Path) -> None:
        self.at: float | None = None
        self._new = tail(log)

    def look(self) -> None:
        if self.at is None and any(event.get("event") == "step" for event in next(self._new)):
            self.at = time.time()


def _variables() -> dict[str, str]:
    """The environment of the runs, in which they import the same textclf as this process."""
    package = str(Path(__file__).resolve().parents[3])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **offline_variables(), "PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "2"}


def _examples_per_second(run: Path) -> float | None:
    """The rate without the first step, which builds the graph; None if there was no other step."""
    steps = read_steps(run)[1:]
    seconds = sum(step.seconds for step in steps)
    return round(sum(step.rows for step in steps) / seconds, 2) if seconds else None


# --- The files -------------------------------------------------------------------------------------------------------
def _run_of(engine: str, measurements: Sequence[Measurement]) -> Measurement:
    return next(one for one in measurements if one.engine == engine)


def _speeds(
    measures: EngineMeasures, models: Mapping[str, Path], split: Split, progress: Progress
) -> tuple[dict[str, float], dict[str, float]]:
    """The median latency at full length in ms, measured in turns, and the rows per second; both with one thread."""
    progress.say("Measuring the latency of the exported files")
    times: dict[str, list[float]] = {engine: [] for engine in models}
    throughput = {}
    with ExitStack() as stack:
        opened = {engine: stack.enter_context(measures.open(model, split)) for engine, model in models.items()}
        ends = time.monotonic() + _LATENCY_SECONDS
        for turn in range(_LATENCY_ROUNDS):
            for engine, timed in opened.items():
                begun = time.perf_counter()
                runs = timed.at_full_length(turn % len(split.rows))
                times[engine].append(1e3 * (time.perf_counter() - begun) / runs)
            if time.monotonic() > ends:
                break
        for engine, timed in opened.items():
            begun = time.perf_counter()
            rows = timed.predict()
            throughput[engine] = round(rows / (time.perf_counter() - begun), 1)
    return {engine: round(statistics.median(values), 2) for engine, values in times.items()}, throughput


# --- Numbers for people ----------------------------------------------------------------------------------------------
def _mean(measured: Sequence[Measurement], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in measured]))


def _rate(measured: Sequence[Measurement]) -> str:
    rates = [one.examples_per_second for one in measured if one.examples_per_second is not None]
    return f"{np.mean(rates):.1f}" if rates else "–"


def _share(score: str, _engine: str, measured: Sequence[Measurement]) -> str:
    """The mean of a score in %, with the standard deviation over the seeds."""
    values = [100 * value for one in measured if (value := one.scores[score]) is not None]
    if not values:
        return "–"
    deviation = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{deviation} %"


def _changed(measured: Sequence[Measurement]) -> str:
    changed, compared = (sum(numbers) for numbers in zip(*(one.changed for one in measured), strict=True))
    return f"{changed:,} of {compared:,}"


def _machine() -> dict[str, Any]:
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "textclf": __version__,
        "load_before": _load(),
    }


def _load() -> float | None:
    """The load of the machine; None if the system does not report it."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
