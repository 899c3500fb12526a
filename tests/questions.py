"""Questions that a tiny encoder learns to answer, their recipe, and a training of it without the export."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny import write_tiny_encoder
from textclf.data.question_answering.dataset import load_questions
from textclf.encoders.kinds import kind_of
from textclf.encoders.prepare import load_recipe_data
from textclf.encoders.prepare_questions import PreparedQuestions, prepare_questions
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.terminal.progress import Progress
from textclf.training.loop import Fitted, fit
from textclf.training.question_answering.task import QuestionAnswering
from textclf.training.saved.run_folder import open_run_folder

_FILLERS = "the film was a very app and this food is so my phone again always help thanks when where".split()
_PRIZES = "card bank bill order money refund ship call text late early fast slow free".split()


def write_questions(path: Path, count: int, seed: int = 0, without_answer: float = 0.2) -> Path:
    """A SQuAD 2.0 file: the answer to `what do i win` is the word after `win`, where there is one."""
    random = np.random.default_rng(seed)
    paragraphs = []
    for number in range(count):
        words = [str(word) for word in random.choice(_FILLERS, random.integers(6, 40))]
        answers = []
        if number % round(1 / without_answer) if without_answer else True:
            place, prize = int(random.integers(len(words))), str(random.choice(_PRIZES))
            words[place:place] = ["win", prize]
            answers = [{"text": prize, "answer_start": len(" ".join(words[: place + 1])) + 1}]
        context = f"{' '.join(words)} {number}"
        question = {
            "id": f"q{seed}-{number}", "question": "what do i win?", "answers": answers, "is_impossible": not answers
        }  # fmt: skip
        paragraphs.append({"context": context, "qas": [question]})
    content = {"version": "v2.0", "data": [{"title": "prizes", "paragraphs": paragraphs}]}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_question_recipe(
    folder: Path, *, questions: int = 120, encoder: Path | None = None, length: int = 40, **training: object
) -> Path:
    """A recipe, its questions and its tiny encoder in one folder. Some contexts need two windows."""
    write_questions(folder / "train.json", questions)
    write_questions(folder / "validation.json", 60, seed=1)
    write_questions(folder / "test.json", 60, seed=2)
    source = encoder or write_tiny_encoder(folder / "encoder")
    settings = {"epochs": 2, "batch_size": 16, "learning_rate": 3e-3, **training}
    path = folder / "recipe.yaml"
    path.write_text(
        "name: prizes\ntask: question-answering\n"
        "dataset:\n  train: train.json\n  validation: validation.json\n  test: test.json\n"
        f"encoder:\n  source: {source}\n  max_length: {length}\n  stride: 12\n  question_length: 8\n"
        "training:\n" + "".join(f"  {key}: {value}\n" for key, value in settings.items()) + "export:\n"
        "  compatibility: litert\n"
    )
    return path


def prepared(recipe: Recipe) -> tuple[Recipe, PreparedQuestions, Any]:
    """The recipe with numbers, its questions as windows, and its encoder."""
    recipe, dataset = load_recipe_data(recipe, read=load_questions)
    checkpoint = kind_of(recipe).load(recipe.encoder, dataset)
    return recipe, prepare_questions(recipe, dataset, checkpoint.tokenizer(recipe.encoder)), checkpoint


def fit_questions(run_dir: Path, recipe: Recipe, *, resume: bool = False, **arguments: Any) -> Fitted:
    """Trains into the unfinished folder of `run_dir`; `arguments` are those of `fit`."""
    with open_run_folder(run_dir, force=False, resume=resume) as folder:
        recipe, data, checkpoint = prepared(recipe)
        arguments = {"task": QuestionAnswering, **arguments}
        return fit(recipe, data, checkpoint, folder, Progress(quiet=True), time.monotonic(), **arguments)


if __name__ == "__main__":
    fit_questions(Path(sys.argv[1]), load_recipe(sys.argv[2]), seconds_between_saves=0.0)
