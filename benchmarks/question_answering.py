"""Measures question answering on SQuAD files: quality, training, latency, batches and positions, each with one command.

    python benchmarks/question_answering.py quality TRAIN.json TEST.json --work FOLDER
    python benchmarks/question_answering.py training TRAIN.json TEST.json
    python benchmarks/question_answering.py latency OURS.tflite THEIRS.tflite --data TEST.json
    python benchmarks/question_answering.py batch TEST.json --task-library-python PYTHON
    python benchmarks/question_answering.py positions RUN TEST.json

Model Maker runs in its own environment: set it up with `textclf model-maker setup`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# The checkout's own packages are imported from there.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pretraining.results import Results
from textclf.encoders.sources.locate import builtin_names
from textclf.errors import ArgumentError, TextclfError
from textclf.model_maker.environment import find_environment
from textclf.recipe.values import ENGINES

# As in run_squad.py for MobileBERT; Model Maker's default are 2 epochs.
RECIPE = {"epochs": 5, "batch_size": 32, "learning_rate": 4e-5}

# Enough for the rate of answers; Model Maker's file takes long for each.
_SPEED_QUESTIONS = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 2 for an error that the user can fix."""
    options = _parser().parse_args(arguments)
    try:
        for line in options.measure(options):
            print(line, flush=True)
    except TextclfError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, measure: Any, shown: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=shown, description=shown)
        added.set_defaults(measure=measure)
        return added

    quality = command("quality", _quality, "exact match and F1 of each encoder and engine, over seeds")
    quality.add_argument("train", type=Path, help="SQuAD file; a tenth of its contexts chooses the best epoch")
    quality.add_argument("test", type=Path, help="SQuAD file of the questions that are measured")
    quality.add_argument("--work", type=Path, required=True, help="folder for runs and trained models")
    quality.add_argument("--results", type=Path, help="file with a line for each run (default: WORK/results.jsonl)")
    quality.add_argument("--encoders", nargs="+", help="sources as in a recipe (default: the built-in encoders)")
    quality.add_argument(
        "--engines", nargs="+", choices=ENGINES, help="default: native, and model-maker if its environment is set up"
    )
    quality.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default: 1 2 3")
    for key, value in RECIPE.items():
        shown = key.replace("_", "-")
        quality.add_argument(
            f"--{shown}", type=type(value), default=value, help=f"of both engines (default: {value:g})"
        )
    quality.add_argument("--questions", type=int, help="use only this many questions of each file, to try the command")
    quality.add_argument("--table", action="store_true", help="only print the table of what the results have")

    training = command("training", _training, "examples a second of both engines, and the latency of their files")
    training.add_argument("train", type=Path, help="SQuAD file")
    training.add_argument("test", type=Path, help="SQuAD file")
    training.add_argument("--encoder", default="builtin", help="source as in a recipe")
    training.add_argument("--questions", type=int, default=320, help="training questions (default: 320)")
    training.add_argument("--batch-size", type=int, default=32, help="default: 32")
    training.add_argument(
        "--output", type=Path, default=Path("runs") / "question-answering-speed", help="folder to write"
    )

    latency = command("latency", _latency, "milliseconds for a window of full length: files in turns, one thread")
    latency.add_argument("models", nargs="+", type=Path, help="models or runs; times are compared with the last one")
    latency.add_argument("--data", type=Path, required=True, help="SQuAD file")
    latency.add_argument("--rounds", type=int, default=60, help="default: 60")

    batch = command("batch", _batch, "questions a second of `textclf answer` and of a loop over BertQuestionAnswerer")
    batch.add_argument("data", nargs="+", type=Path, help="SQuAD files")
    batch.add_argument("--encoder", default="builtin", help="source as in a recipe")
    batch.add_argument("--questions", type=int, default=300, help="the most questions of each file (default: 300)")
    batch.add_argument("--rounds", type=int, default=2, help="how often the programs take turns (default: 2)")
    batch.add_argument("--task-library-python", type=Path, required=True, help="a Python with tflite-support")

    positions = command("positions", _positions, "exact match and F1 by the position of the answer")
    positions.add_argument("model", type=Path, help="a trained model or its run")
    positions.add_argument("data", nargs="+", type=Path, help="SQuAD files")
    positions.add_argument("--questions", type=int, default=300, help="the most questions of each file (default: 300)")
    return parser


def _quality(options: argparse.Namespace) -> Iterator[str]:
    from answering import quality

    options.work.mkdir(parents=True, exist_ok=True)
    train, test = (shortened(file, options.questions, options.work) for file in (options.train, options.test))
    engines = options.engines or list(ENGINES)
    if find_environment() is None and "model-maker" in engines and not options.table:
        if options.engines:
            raise ArgumentError("--engines model-maker: is not set up; run `textclf model-maker setup`")
        print("left out: model-maker, because it is not set up (textclf model-maker setup)", file=sys.stderr)
        engines = ["native"]
    recipe = {key: getattr(options, key) for key in RECIPE}
    encoders = options.encoders or [f"builtin:{name}" for name in builtin_names()]
    runs = list(quality.measurements(train, test, encoders, engines, options.seeds, recipe))
    results = Results(options.results or options.work / "results.jsonl", quality.IDENTITY, quality.SCORES)
    if not options.table:
        for line in quality.measure_missing(runs, train, test, options.work, results):
            print(line, file=sys.stderr, flush=True)
    yield quality.table([row for run in runs if (row := results.find(run.identity)) is not None])


def _training(options: argparse.Namespace) -> Iterator[str]:
    from answering import speed

    # The comparison keeps its own copy of the questions.
    with TemporaryDirectory() as folder:
        train = shortened(options.train, options.questions, Path(folder))
        test = shortened(options.test, _SPEED_QUESTIONS, Path(folder))
        yield speed.compare(train, test, options.encoder, options.batch_size, options.output).as_markdown()


def _latency(options: argparse.Namespace) -> Iterator[str]:
    from answering import speed

    yield from speed.latencies(options.models, options.data, options.rounds)


def _batch(options: argparse.Namespace) -> Iterator[str]:
    from answering import batch

    python = options.task_library_python
    yield from batch.table(options.data, options.encoder, options.questions, options.rounds, python)


def _positions(options: argparse.Namespace) -> Iterator[str]:
    from answering import positions

    yield from positions.table(options.model, options.data, options.questions)


def shortened(file: Path, questions: int | None, folder: Path) -> Path:
    """Returns a SQuAD file with the first paragraphs of `file`, up to this many questions; `file` itself for None."""
    if questions is None:
        return file
    left, articles = questions, []
    for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
        paragraphs = []
        for paragraph in article["paragraphs"]:
            paragraphs.append({**paragraph, "qas": paragraph["qas"][:left]})
            left -= len(paragraphs[-1]["qas"])
            if not left:
                break
        articles.append({**article, "paragraphs": paragraphs})
        if not left:
            break
    short = folder / f"{file.stem}-{questions}.json"
    short.write_text(json.dumps({"data": articles}), encoding="utf-8")
    return short


if __name__ == "__main__":
    sys.exit(main())
