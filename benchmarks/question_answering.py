"""How fast `textclf answer` is beside a loop over the Task Library's BertQuestionAnswerer: one encoder, real questions.

In: SQuAD files. Out: a table of questions a second, and how many answers of the loop are those of textclf's phone mode. The
head has random weights: they do not change the speed. The Task Library lives in another Python: name it with
--task-library-python.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path, help="SQuAD files")
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--questions", type=int, default=300, help="the most questions of each file")
    parser.add_argument("--rounds", type=int, default=2, help="how often the programs take turns")
    parser.add_argument("--task-library-python", type=Path, required=True)
    arguments = parser.parse_args()
    os.environ["TEXTCLF_TASK_LIBRARY_PYTHON"] = str(arguments.task_library_python)
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), arguments.encoder)
        print(f"| questions | windows | tokens of a window | {' | '.join(PROGRAMS)} | answers alike |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for path in arguments.data:
            print(measured(model, path, arguments.questions, arguments.rounds), flush=True)


PROGRAMS = ("`textclf answer`", "textclf as a phone", "loop over BertQuestionAnswerer")


def write_model(folder: Path, encoder: str) -> Path:
    """A model with 8-bit weights of the encoder and a random head."""
    from textclf.encoders.sources.locate import load_checkpoint
    from textclf.exporting.question_answering import export_question_answerer
    from textclf.recipe.reading import load_recipe

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
    """A line of the table: the best of some rounds, in which the programs take turns."""
    from textclf import QuestionAnswerer, answer_file
    from textclf.classify.question_answering.evaluation import read_questions
    from textclf.exporting.apps import run_question_answerer
    from textclf.exporting.verify_answers import compared_answers

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
        rates = [len(questions) / min(times) for times in zip(*seconds, strict=True)]
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


if __name__ == "__main__":
    main()
