"""How a Dask job scales: one worker beside two, each a process with one interpreter, and the memory of client and scheduler.

In: nothing; a model of averaged words with random vectors and a CSV of short texts are made. Out, for each number of workers:
rows a second, the processor time of the workers for 1,000 rows (which a loaded machine changes less), and the resident memory
of the client and of the scheduler along the job in MB. The number of rows is per worker, so that each has the same work.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

LABELS = ("first", "second", "third", "fourth")
MAX_LENGTH = 64
WORDS, WIDTH = 5000, 16
COMMAND = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from textclf.cli.main import main; main(sys.argv[1:])"


@dataclass
class Measured:
    """One job. `memory` are samples of the client's and the scheduler's megabytes."""

    summary: dict[str, float]
    seconds: float
    memory: list[tuple[float, float]] = field(default_factory=list)
    load: float = 0.0
    processor_seconds: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500_000, help="rows for each worker")
    parser.add_argument("--partition-rows", type=int, default=10_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--port", type=int, default=18796)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder) / "model.tflite")
        for workers in options.workers:
            table = Path(folder) / f"texts-{workers}.csv"
            write_table(table, options.rows * workers)
            measured = run_job(Path(folder), table, workers, options)
            print(report(workers, measured), flush=True)


def make_model(path: Path) -> None:
    from textclf.data.tokens.words import DELIMITER_PATTERN, SPECIAL_WORDS
    from textclf.tflite.graph.average_words import AverageWordsWeights, build_average_words_graph
    from textclf.tflite.metadata import write_metadata

    numbers = np.random.default_rng(0)
    vocabulary = [*SPECIAL_WORDS, *(f"word{number}" for number in range(WORDS))]
    vectors = numbers.standard_normal((len(vocabulary), WIDTH)).astype(np.float32)
    head = numbers.standard_normal((WIDTH, len(LABELS))).astype(np.float32)
    weights = AverageWordsWeights(vectors, np.arange(len(vocabulary), dtype=np.int32), head, np.zeros(4, np.float32))
    content = build_average_words_graph(weights, MAX_LENGTH, "dynamic")
    settings = {"text": ["text"], "label": "label"}
    path.write_bytes(
        write_metadata(
            content,
            name="benchmark",
            labels=LABELS,
            vocabulary=vocabulary,
            settings=settings,
            delimiter_pattern=DELIMITER_PATTERN,
        )
    )


def write_table(path: Path, rows: int) -> None:
    """Texts of 4 to 16 words, of which hardly two are equal."""
    dice = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        file.write("id,text\n")
        for number in range(rows):
            words = " ".join(f"word{dice.randrange(WORDS)}" for _ in range(dice.randrange(4, 17)))
            file.write(f"{number},{words}\n")


def run_job(folder: Path, table: Path, workers: int, options: argparse.Namespace) -> Measured:
    address = f"tcp://127.0.0.1:{options.port}"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    quiet = {"stderr": subprocess.DEVNULL, "env": environment}
    scheduler = subprocess.Popen(
        dask("scheduler", "--host", "127.0.0.1", "--port", str(options.port), "--no-dashboard"), **quiet
    )
    cluster = subprocess.Popen(dask("worker", address, "--nworkers", str(workers), "--nthreads", "1"), **quiet)
    try:
        time.sleep(15)  # the workers have started
        begun, load, used = time.monotonic(), os.getloadavg()[0], processor_seconds(cluster.pid)
        words = ["classify", folder / "model.tflite", table, "-o", folder / f"out-{workers}", "--dask", address]
        command = [
            sys.executable,
            "-c",
            COMMAND,
            *map(str, words),
            "--partition-rows",
            str(options.partition_rows),
            "--json",
        ]
        client = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        memory: list[tuple[float, float]] = []
        over = threading.Event()
        watching = threading.Thread(target=watch, args=(client.pid, scheduler.pid, memory, over))
        watching.start()
        output, _ = client.communicate()
        over.set()
        watching.join()
        seconds, used = time.monotonic() - begun, processor_seconds(cluster.pid) - used
        return Measured(json.loads(output), seconds, memory, load, used)
    finally:
        for process in (cluster, scheduler):
            process.terminate()
            process.wait()


def dask(what: str, *words: str) -> list[str]:
    return [sys.executable, "-m", f"distributed.cli.dask_{what}", *words]


def watch(client: int, scheduler: int, memory: list[tuple[float, float]], over: threading.Event) -> None:
    while not over.wait(1.0):
        try:
            sample = megabytes(client), megabytes(scheduler)
        except OSError:
            return
        if all(sample):  # a process that has ended has none
            memory.append(sample)


def processor_seconds(process: int) -> float:
    """The processor time of the processes that a process has started."""
    import psutil

    times = [child.cpu_times() for child in psutil.Process(process).children(recursive=True)]
    return sum(time.user + time.system for time in times)


def megabytes(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def report(workers: int, measured: Measured) -> str:
    summary, memory = measured.summary, measured.memory
    places = [memory[len(memory) * quarter // 4 - 1] for quarter in (1, 2, 3, 4)] if len(memory) >= 4 else memory
    return "\n".join(
        [
            f"{workers} workers: {summary['rows']:,} rows, {summary['partitions']:,} partitions, "
            f"{summary['rows_per_second']:,.0f} rows a second, {measured.seconds:.0f} s with all starts "
            f"(load at the beginning {measured.load:.1f}); the workers used "
            f"{1000 * measured.processor_seconds / summary['rows']:.3f} processor seconds for 1,000 rows",
            "  MB at 25, 50, 75 and 100 % of the time: "
            f"client {', '.join(f'{client:.0f}' for client, _ in places)}; "
            f"scheduler {', '.join(f'{scheduler:.0f}' for _, scheduler in places)}",
        ]
    )


if __name__ == "__main__":
    main()
