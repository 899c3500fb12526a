"""A two-layer question answerer with random weights, and small files of questions, for tests in which size does not matter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny import VOCABULARY, tiny_checkpoint, write_tiny_encoder
from textclf.data.tokens.vocabulary import vocabulary_hash
from textclf.tflite.graph.mobilebert import Quantization
from textclf.tflite.graph.question_answering import SPAN_LOGITS
from textclf.tflite.graph.weights import token_weights
from textclf.tflite.metadata import write_metadata
from textclf.tflite.question_answering import QuestionAnswererMetadata
from textclf.tflite.runtimes import Compatibility
from textclf.tflite.trial.probe import trust

CONTEXT = "you order food by phone. the app is free, and we refund money very fast. please call the bank again."


def tiny_answerer(
    length: int = 64,
    quantization: Quantization = "none",
    *,
    seed: int = 0,
    spread: float = 0.2,
    without_settings: bool = False,
    **settings: Any,
) -> bytes:
    """The bytes of a model that reads `length` tokens. `settings` change its `textclf.json`, which Model Maker's files lack."""
    own = {
        "version": 1,
        "task": "question-answering",
        "tokenizer": "device",
        "question": "question",
        "context": "context",
        "stride": 16,
        "question_length": 16,
        "null_bound": None,
        "temperature": 1.0,
        "quantization": quantization,
        "compatibility": "task-library" if length == 384 else "litert",
        "vocabulary_sha256": vocabulary_hash(VOCABULARY),
    }
    content = write_metadata(
        tiny_graph(length, quantization, seed=seed, spread=spread, compatibility=own["compatibility"]),
        name="tiny-answers",
        vocabulary=VOCABULARY,
        task=QuestionAnswererMetadata(),
        settings=None if without_settings else {**own, **settings},
    )
    trust(content)
    return content


def tiny_graph(
    length: int, quantization: Quantization, *, seed: int, spread: float = 0.2, compatibility: Compatibility = "litert"
) -> bytes:
    """The same without metadata; its encoder is `tiny_checkpoint(seed)`."""
    checkpoint = tiny_checkpoint(seed=seed, max_position_embeddings=max(length, 64))
    width = checkpoint.width
    kernel = np.random.default_rng(seed).standard_normal((width, 2)) * spread
    head = {
        "head/kernel": kernel.astype(np.float32),
        "head/bias": np.zeros(2, np.float32),
        "features/mean": np.zeros((2, width), np.float32),
        "features/scale": np.ones((2, width), np.float32),
    }
    return token_weights(checkpoint, head, SPAN_LOGITS).graph(length, quantization, compatibility, None)


def write_tiny_answerer(path: Path, **settings: Any) -> Path:
    path.write_bytes(tiny_answerer(**settings))
    return path


def write_squad(path: Path, questions: list[tuple[str, str, str | None]]) -> Path:
    """A SQuAD 2.0 file: question, context and answer (None: not answerable) of each."""
    paragraphs = []
    for number, (question, context, answer) in enumerate(questions):
        answers = [] if answer is None else [{"text": answer, "answer_start": context.index(answer)}]
        asked = {"id": f"q{number}", "question": question, "answers": answers, "is_impossible": answer is None}
        paragraphs.append({"context": context, "qas": [asked]})
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    return path


def easy_questions(count: int, seed: int = 0) -> list[tuple[str, str, str | None]]:
    """Questions that are easy to learn: the word after `free` or `fast`; a tenth has no answer."""
    random = np.random.default_rng(seed)
    fillers = "the film was a very app and this food is so my phone works again always".split()
    things = "card bank refund money order call bill ship text prize".split()
    questions: list[tuple[str, str, str | None]] = []
    for number in range(count):
        words = list(random.choice(fillers, 12))
        kind = ("free", "fast")[number % 2]
        thing = str(random.choice(things))
        if number % 10 != 9:
            words[5:5] = [kind, thing]
        context = " ".join([*words, str(number)])
        questions.append((f"what is {kind}?", context, None if number % 10 == 9 else thing))
    return questions


def write_question_recipe(folder: Path, *, questions: int = 120, length: int = 64, **training: object) -> Path:
    """A recipe of question answering, its data and its tiny encoder in one folder."""
    write_squad(folder / "train.json", easy_questions(questions))
    write_squad(folder / "test.json", easy_questions(40, seed=1))
    source = write_tiny_encoder(folder / "encoder", max_position_embeddings=max(length, 64))
    settings = {"epochs": 3, "batch_size": 16, "learning_rate": 3e-3, **training}
    path = folder / "recipe.yaml"
    path.write_text(
        "name: shop-questions\ntask: question-answering\n"
        "dataset:\n  train: train.json\n  test: test.json\n  validation: 0.2\n"
        f"encoder:\n  source: {source}\n  max_length: {length}\n  stride: 16\n  question_length: 16\n"
        "training:\n"
        + "".join(f"  {key}: {value}\n" for key, value in settings.items())
        + ("" if length == 384 else "export:\n  compatibility: litert\n")
    )
    return path
