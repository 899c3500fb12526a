"""Runs jobs, in this process or in several, and writes every finished run at once.

A job trains recipes side by side, with one seed and one encoder on one set.
"""

from __future__ import annotations

import os
import queue
import sys
import time
import traceback
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pretraining.fine_tuning.recipes import FineTuning
from pretraining.fine_tuning.tokens import TokenSet
from pretraining.fine_tuning.training import FirstHead, SideBySide, fit_first_head, synchronised_time
from pretraining.results import Results, processor
from textclf.encoders.checkpoint import EncoderCheckpoint


@dataclass(frozen=True)
class Job:
    """Recipes by name that are trained side by side, with one seed, on one set."""

    seed: int
    set_name: str
    encoder: str
    recipes: dict[str, FineTuning]

    def only(self, names: Iterable[str]) -> Job:
        return replace(self, recipes={name: self.recipes[name] for name in names})

    def __str__(self) -> str:
        return f"{self.set_name}, {self.encoder}, seed {self.seed}, {len(self.recipes)} recipes"


@dataclass(frozen=True)
class Inputs:
    """What every process needs. `tokens` are by set, vocabulary and length, as in the name of the file."""

    split: str
    encoders: dict[str, EncoderCheckpoint]
    checksums: dict[str, str]
    tokens: dict[tuple[str, str, int], TokenSet]
    device: str
    rows: int | None


class Worker:
    """Runs jobs one after the other. A head that was fitted is kept for other seeds and recipes."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs, self.device = inputs, torch.device(inputs.device)
        # Gradients are parts of one row for each run, which PyTorch suspects to be slow.
        warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")
        self._heads: dict[tuple[str, str, int], FirstHead] = {}

    def run(self, job: Job) -> list[dict[str, Any]]:
        """Returns the lines of the results. Where a device has too little memory, half of the recipes come after the others."""
        names = list(job.recipes)
        try:
            return self._run(job)
        except torch.OutOfMemoryError:
            if len(names) == 1:
                raise
        torch.cuda.empty_cache()
        halves = names[: len(names) // 2], names[len(names) // 2 :]
        return [row for half in halves for row in self.run(job.only(half))]

    def _run(self, job: Job) -> list[dict[str, Any]]:
        started = synchronised_time(self.device)
        encoder, length = self.inputs.encoders[job.encoder], next(iter(job.recipes.values())).max_length
        key = job.set_name, job.encoder, length
        data = self.inputs.tokens[key]
        if key not in self._heads:
            self._heads[key] = fit_first_head(encoder, data, self.device)
        bfloat16 = self.device.type == "cuda"
        recipes = list(job.recipes.values())
        side_by_side = SideBySide(encoder, data, self._heads[key], recipes, job.seed, self.device, bfloat16)
        trained = side_by_side.run()
        seconds = synchronised_time(self.device) - started
        on = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else processor()
        return [
            {
                **identity(self.inputs, job, name),
                "accuracy": run.metrics.accuracy,
                "macro_f1": run.metrics.macro_f1,
                "best_epoch": run.best_epoch,
                "validation": [round(accuracy, 4) for accuracy in run.validation],
                "training_loss": [round(loss, 5) for loss in run.losses],
                "seconds": round(seconds, 1),
                "side_by_side": len(recipes),
                "processor": on,
                "bfloat16": bfloat16,
            }
            for name, run in zip(job.recipes, trained, strict=True)
        ]


def identity(inputs: Inputs, job: Job, name: str) -> dict[str, Any]:
    """What tells a run from others in the results; `rows` only if the set was cut."""
    cut = {} if inputs.rows is None else {"rows": inputs.rows}
    names = {"split": inputs.split, "set": job.set_name, "encoder": job.encoder}
    return {
        **names,
        "sha256": inputs.checksums[job.encoder],
        "seed": job.seed,
        "recipe": {**job.recipes[name].changes, **cut},
    }


# --- Jobs ------------------------------------------------------------------------------------------------------------
def jobs_of(
    seeds: Iterable[int],
    sets: Sequence[str],
    encoders: Iterable[str],
    recipes: Mapping[str, FineTuning],
    at_once: int,
) -> list[Job]:
    """All sets and encoders of a seed come before the next seed."""
    groups: dict[tuple[Any, ...], list[dict[str, FineTuning]]] = {}
    for name, recipe in recipes.items():
        parts = groups.setdefault(recipe.together, [])
        if not parts or len(parts[-1]) == at_once:
            parts.append({})
        parts[-1][name] = recipe
    together = [part for parts in groups.values() for part in parts]
    encoders = list(encoders)
    return [
        Job(seed, name, encoder, part) for seed in seeds for part in together for name in sets for encoder in encoders
    ]


def missing_of(job: Job, inputs: Inputs, results: Results) -> Job | None:
    """The job without the runs that the results have; None if there are no others."""
    missing = [name for name in job.recipes if results.find(identity(inputs, job, name)) is None]
    return job.only(missing) if missing else None


class Runner:
    """Runs jobs in this process or in several, writes every finished run at once, and says which failed."""

    def __init__(self, inputs: Inputs, results: Results, until: float) -> None:
        self.inputs, self.results, self.until = inputs, results, until
        self.failed = 0

    def here(self, jobs: Sequence[Job]) -> None:
        worker = Worker(self.inputs)
        for number, job in enumerate(jobs, 1):
            if time.monotonic() >= self.until:
                print(f"stopped after {number - 1} of {len(jobs)} jobs, because the time is over", file=sys.stderr)
                return
            self._take(_answer(worker, job), number, len(jobs))

    def in_processes(self, jobs: Sequence[Job], count: int) -> None:
        context = torch.multiprocessing.get_context("spawn")
        # NumPy, which fits heads, reads this when a process begins.
        for library in ("OMP", "OPENBLAS", "MKL"):
            os.environ.setdefault(f"{library}_NUM_THREADS", str(_threads(count)))
        handed, waiting, answers = context.Queue(), context.Queue(), context.Queue()
        # Arguments of a process would be written before it has begun, and block where it cannot begin.
        for _ in range(count):
            handed.put(self.inputs)
        handed.cancel_join_thread()
        for job in [*jobs, *[None] * count]:
            waiting.put(job)
        processes = [context.Process(target=_work, args=(count, handed, waiting, answers)) for _ in range(count)]
        for process in processes:
            process.start()
        try:
            self._collect(jobs, processes, answers)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()

    def _collect(self, jobs: Sequence[Job], processes: Sequence[Any], answers: Any) -> None:
        done = 0
        while done < len(jobs):
            if time.monotonic() >= self.until:
                print(f"stopped after {done} of {len(jobs)} jobs, because the time is over", file=sys.stderr)
                return
            try:
                answer = answers.get(timeout=1.0)
            except queue.Empty:
                if not any(process.is_alive() for process in processes):
                    print(f"all processes ended after {done} of {len(jobs)} jobs", file=sys.stderr)
                    self.failed += len(jobs) - done
                    return
                continue
            done += 1
            self._take(answer, done, len(jobs))

    def _take(self, answer: tuple[Job, list[dict[str, Any]], str | None], number: int, count: int) -> None:
        job, rows, trouble = answer
        if trouble is not None:
            self.failed += 1
            print(f"{number} of {count}: {job} FAILED\n{trouble}", file=sys.stderr, flush=True)
            return
        for row in rows:
            self.results.add(row)
        scores = ", ".join(f"{name} {100 * row['accuracy']:.1f}" for name, row in zip(job.recipes, rows, strict=True))
        print(f"{number} of {count}: {job} in {rows[0]['seconds']:.0f} s: {scores}", file=sys.stderr, flush=True)


def _threads(processes: int) -> int:
    return max(1, (os.cpu_count() or 1) // processes)


def _answer(worker: Worker, job: Job) -> tuple[Job, list[dict[str, Any]], str | None]:
    """A job that fails must not end the others, for example if memory is short."""
    try:
        return job, worker.run(job), None
    except Exception:
        return job, [], traceback.format_exc()


def _work(processes: int, handed: Any, waiting: Any, answers: Any) -> None:
    """What a process of several does."""
    torch.set_num_threads(_threads(processes))
    worker = Worker(handed.get())
    while (job := waiting.get()) is not None:
        answers.put(_answer(worker, job))
