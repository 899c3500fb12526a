"""How many requests per second `textclf serve` answers, and how long they take, beside a loop over `Classifier`.

    python benchmarks/serving.py runs/tickets tickets.csv [--text message] [--clients 1 8 64] [--seconds 10] [--threads N]

In: a model and the texts of a CSV. Out: a table with the requests per second and the latencies of the middle and
of the slowest hundredth, for each number of clients. A client sends one text, waits for its prediction, and sends the next one.
The loop calls `Classifier.classify` with one text at a time, before and after. Words are added to texts that repeat, so that
no cache helps. The labels must agree. With --overload, the queue is short, and refused requests are counted, too.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import itertools
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from textclf.classify.classifier import Classifier  # noqa: E402

_HEAD = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@dataclass
class Measured:
    """What happened in some seconds: requests by status, the seconds of those that were answered, and their labels."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    labels: dict[str, str | None] = field(default_factory=dict)

    def line(self, name: str) -> str:
        middle, slow = 1000 * np.quantile(self.latencies or [np.nan], [0.5, 0.99])
        refused = sum(count for status, count in self.statuses.items() if status != 200)
        return f"| {name} | {self.statuses[200] / self.seconds:,.1f} | {middle:.1f} | {slow:.1f} | {refused:,} |"


def main() -> None:
    arguments = _arguments()
    texts = _texts(arguments.table, arguments.text)
    print(f"{len(texts):,} texts of {arguments.table}, {arguments.model}\n")
    print("| | texts per second | middle, ms | slowest 1 %, ms | refused |\n| --- | ---: | ---: | ---: | ---: |")
    source = _different(texts)
    with Classifier(arguments.model, arguments.threads) as classifier:
        print(_loop(classifier, source, arguments.seconds).line("`Classifier` loop, before"), flush=True)
        with _Service(arguments) as service:
            for clients in arguments.clients:
                measured = asyncio.run(_load(service.port, source, clients, arguments.seconds))
                print(measured.line(f"`textclf serve`, {clients} clients"), flush=True)
                _check(classifier, measured)
        print(_loop(classifier, source, arguments.seconds).line("`Classifier` loop, after"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--text", help="column with the texts (default: the first one)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument(
        "--threads", type=int, help="interpreters of the service and of the loop (default: one per core)"
    )
    parser.add_argument("--overload", action="store_true", help="let only 16 texts wait")
    return parser.parse_args()


def _texts(path: Path, column: str | None) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        name = column or next(iter(rows.fieldnames or ()))
        return [row[name] for row in rows if row[name].strip()]


def _different(texts: Sequence[str]) -> Iterator[str]:
    """Yields the texts again and again, from the second time on with a number."""
    for turn in itertools.count():
        for text in texts:
            yield f"{text} {turn}" if turn else text


def _loop(classifier: Classifier, source: Iterator[str], seconds: float) -> Measured:
    measured, begun = Measured(), time.perf_counter()
    while (started := time.perf_counter()) < begun + seconds:
        classifier.classify([next(source)])
        measured.latencies.append(time.perf_counter() - started)
    measured.statuses[200] = len(measured.latencies)
    measured.seconds = time.perf_counter() - begun
    return measured


class _Service:
    """`textclf serve` in a process. It must end with exit code 0."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        command = [sys.executable, "-m", "textclf", "serve", str(arguments.model), "--port", "0"]
        command += ["--threads", str(arguments.threads)] if arguments.threads else []
        command += ["--max-queue", "16"] if arguments.overload else []
        self._process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        found = re.search(r":(\d+) ", self._process.stdout.readline())
        assert found is not None, "the service did not start"
        self.port = int(found[1])

    def __enter__(self) -> _Service:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        if code := self._process.wait(60):
            raise SystemExit(f"the service ended with exit code {code}")


async def _load(port: int, source: Iterator[str], clients: int, seconds: float) -> Measured:
    measured, begun = Measured(), time.perf_counter()
    await asyncio.gather(*(_client(port, source, begun + seconds, measured) for _ in range(clients)))
    measured.seconds = time.perf_counter() - begun
    return measured


async def _client(port: int, source: Iterator[str], end: float, measured: Measured) -> None:
    """Sends one request after the other over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (started := time.perf_counter()) < end:
        text = next(source)
        body = json.dumps({"text": text}).encode()
        writer.write(_HEAD % len(body) + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", answer)
        assert length is not None, answer
        content = await reader.readexactly(int(length[1]))
        status = int(answer.split(b" ", 2)[1])
        measured.statuses[status] += 1
        if status == 200:
            measured.latencies.append(time.perf_counter() - started)
            [prediction] = json.loads(content)["predictions"]
            measured.labels[text] = prediction["label"]
        else:  # the service asks to wait for at least a second
            await asyncio.sleep(0.05)
    writer.close()


def _check(classifier: Classifier, measured: Measured) -> None:
    texts = list(measured.labels)[:500]
    expected = [prediction.label or None for prediction in classifier.classify(texts)]
    if expected != [measured.labels[text] for text in texts]:
        raise SystemExit("labels of the service differ from those of the loop")


if __name__ == "__main__":
    main()
