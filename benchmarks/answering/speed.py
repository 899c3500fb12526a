"""How fast both engines train, and how fast their files are: `textclf compare --engines` with a recipe for this purpose.

The latency of two or more finished files can be measured alone, in turns and with one thread, and with more rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from textclf import QuestionAnswerer
from textclf.classify.question_answering.evaluation import read_questions
from textclf.recipe.settings import Recipe
from textclf.recipe.values import ENGINES
from textclf.runs.comparison.engines import Comparison, compare_engines

_TIMED_QUESTIONS = 20


def compare(train: Path, test: Path, encoder: str, batch_size: int, output: Path) -> Comparison:
    """Trains one epoch with both engines and measures their files."""
    recipes = {
        engine: Recipe.model_validate(
            {
                "name": "question-answering-speed",
                "task": "question-answering",
                "dataset": {"train": train.resolve(), "validation": test.resolve()},
                "encoder": {"source": encoder},
                "training": {"engine": engine, "epochs": 1, "batch_size": batch_size},
                # A model that has learned little changes many answers. The files still have the same form.
                "export": {"max_changed_labels": 1.0, "max_lost_accuracy": 1.0},
            }
        )
        for engine in ENGINES
    }
    return compare_engines(recipes, [1], output, force=True)


def latencies(models: Sequence[Path], file: Path, rounds: int) -> Iterator[str]:
    """Yields the lines of a Markdown table: ms for a window of full length, the median of the rounds, with one thread.

    Every round asks each model the same question, in an order that changes from round to round.
    """
    with ExitStack() as stack:
        answerers = [stack.enter_context(QuestionAnswerer(model, num_threads=1)) for model in models]
        asked = read_questions(answerers[0], file).texts[:_TIMED_QUESTIONS]
        times: list[list[float]] = [[] for _ in models]
        # One round that does not count: the first run of an interpreter allocates.
        for turn in range(-1, rounds):
            question = asked[turn % len(asked)]
            for place in range(len(models)):
                number = (place + turn) % len(models)
                begun = time.perf_counter()
                windows = len(answerers[number].logits_at_full_length([question]))
                if turn >= 0:
                    times[number].append(1e3 * (time.perf_counter() - begun) / windows)
    yield f"| file | MB | ms for {answerers[0].max_length} tokens | fastest | share of the last file |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    medians = [statistics.median(one) for one in times]
    for model, answerer, own, median in zip(models, answerers, times, medians, strict=True):
        size = answerer.path.stat().st_size / 1e6
        yield f"| {model} | {size:.1f} | {median:.1f} | {min(own):.1f} | {median / medians[-1]:.2f} |"
