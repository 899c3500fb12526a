"""How fast `textclf answer` is beside a loop over the Task Library's BertQuestionAnswerer: one encoder, real questions.

The head has random weights: they do not change the speed. The table has the questions a second, and how many answers of the
loop are those of textclf's phone mode.
"""

from __future__ import annotations

import csv
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from textclf import QuestionAnswerer, answer_file
from textclf.classify.question_answering.evaluation import read_questions
from textclf.encoders.sources.locate import load_checkpoint
from textclf.exporting.apps import run_question_answerer
from textclf.exporting.question_answering.model_file import export_question_answerer
from textclf.exporting.question_answering.verify import compared_answers
from textclf.recipe.reading import load_recipe

PROGRAMS = ("`textclf answer`", "textclf as a phone", "loop over BertQuestionAnswerer")


def table(files: Sequence[Path], encoder: str, questions: int, rounds: int, task_library_python: Path) -> Iterator[str]:
    """Yields the lines of a Markdown table, each when it is measured."""
    os.environ["TEXTCLF_TASK_LIBRARY_PYTHON"] = str(task_library_python)
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), encoder)
        yield f"| questions | windows | tokens of a window | {' | '.join(PROGRAMS)} | answers alike |"
        yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
        for file in files:
            yield measured(model, file, questions, rounds)


def write_model(folder: Path, encoder: str) -> Path:
    """A model with 8-bit weights of the encoder and a random head."""
    (folder / "data.json").write_text("{}")
    (folder / "recipe.yaml").write_text(
        f"name: speed\ntask: question-answering\ndataset: {{train: data.json}}\nencoder: {encoder}\n"
    )
    recipe = load_recipe(folder / "recipe.yaml")
    checkpoint = load_checkpoint(encoder, folder)
    width = checkpoint.width
    head = {
        "head/kernel": np.random.default_rng(0).standard_normal((width, 2)).astype(np.float32),
        "head/bias": np.zeros(2, np.float32),
        "features/mean": np.zeros((2, width), np.float32),
        "features/scale": np.ones((2, width), np.float32),
    }
    model = folder / "model.tflite"
    model.write_bytes(export_question_answerer(recipe, checkpoint, head))
    return model


def measured(model: Path, path: Path, most: int, rounds: int) -> str:
    """A line of the table: the best of some rounds, in which the programs take turns.

    The loop is another program. Its time is that for all questions less that for one, with which it also starts.
    """
    with QuestionAnswerer(model) as answerer:
        questions = [(question, context) for question, context in read_questions(answerer, path).texts[:most]]
        windows = answerer.submit(questions)._windows.encoded.lengths
        table, output = model.with_name("in.csv"), model.with_name("out.csv")
        write_table(table, questions)
        programs: list[Callable[[], object]] = [
            lambda: answer_file(model, table, output, force=True),
            lambda: answerer.answers(questions, phone=True),
            lambda: run_question_answerer(model, questions),
        ]
        seconds = [[seconds_of(program) for program in programs] for _ in range(rounds)]
        start = min(seconds_of(lambda: run_question_answerer(model, questions[:1])) for _ in range(rounds))
        *own, loop = map(min, zip(*seconds, strict=True))
        rates = [*(len(questions) / one for one in own), (len(questions) - 1) / (loop - start)]
        alike = compared_answers(answerer.answers(questions, phone=True), run_question_answerer(model, questions), 0.5)
    shown = " | ".join(f"{rate:.1f}/s ({rate / rates[-1]:.1f})" for rate in rates)
    same = f"{alike.questions - alike.changed_answers} of {alike.questions}"
    return f"| {path.stem}: {len(questions)} | {len(windows)} | {windows.mean():.0f} | {shown} | {same} |"


def write_table(path: Path, questions: Sequence[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("question", "context"), *questions])


def seconds_of(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
