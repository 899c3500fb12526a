"""Writes the folder for the worker: `job.json`, the training questions as a SQuAD file, the windows of the other splits as
token ids, and the encoder.

Model Maker makes the training windows itself. Those of the other splits are textclf's own, so that the trained model is
measured on what its exported file will read.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from textclf.data.question_answering.questions import QuestionSplit
from textclf.data.tokens.encoded import pad
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.prepare_questions import PreparedQuestions
from textclf.recipe.settings import Recipe


def prepare_job(
    folder: Path, recipe: Recipe, data: PreparedQuestions, checkpoint: EncoderCheckpoint, seed: int
) -> None:
    """Writes the folder, which must be empty."""
    # TensorFlow takes seconds to load.
    from textclf.model_maker.hub_module import write_hub_module

    text = json.dumps(squad_of(data.split("train"), seed))
    (folder / "train.json").write_text(text, encoding="utf-8")
    for split in data.dataset.held_out:
        _write_windows(folder / f"{split.name}.npz", data, split.name)
    for name in ("cache", "model", "temporary"):
        (folder / name).mkdir()
    write_hub_module(folder / "encoder", checkpoint)
    encoder, training = recipe.encoder, recipe.training
    job = {
        "task": "question-answering",
        "parent": os.getpid(),
        "splits": [split.name for split in data.dataset.splits],
        "seed": seed,
        "quantization": recipe.export.quantization,
        "epochs": training.epoch_count,
        "batch_size": training.batch_size,
        "max_length": encoder.fixed_length,
        "question_length": encoder.question_length,
        "stride": encoder.stride,
        "encoder": "mobilebert",
        "learning_rate": training.learning_rate,
        "lower_case": checkpoint.do_lower_case,
        "started": time.time(),
    }
    (folder / "job.json").write_text(json.dumps(job, indent=1), encoding="utf-8")


def squad_of(split: QuestionSplit, seed: int) -> dict[str, Any]:
    """Returns the questions in the form of SQuAD 2.0, in an order that the seed decides, as Model Maker can read them.

    Model Maker does not shuffle, accepts one answer to a training question only, and silently skips an answer with white
    space that it does not split at. So each question has its first answer, and every white space is a blank; offsets stay.
    """
    paragraphs = []
    for row in np.random.default_rng(seed).permutation(len(split.rows)).tolist():
        question, context = map(_readable, split.texts[row])
        answers = [
            {"text": context[answer.start : answer.end], "answer_start": answer.start}
            for answer in split.answers[row][:1]
        ]
        asked = {"id": str(row), "question": question, "answers": answers, "is_impossible": not answers}
        paragraphs.append({"context": context, "qas": [asked]})
    return {"version": "v2.0", "data": [{"title": split.name, "paragraphs": paragraphs}]}


def _readable(text: str) -> str:
    """Replaces white space, and halves of characters, which UTF-8 cannot encode. The length stays."""
    blanks = "".join(" " if character.isspace() else character for character in text)
    return blanks.encode("utf-8", "replace").decode("utf-8")


def _write_windows(path: Path, data: PreparedQuestions, split: str) -> None:
    encoded = data.encoded[split]
    tokens = pad(encoded, np.arange(len(encoded)), data.max_length)
    np.savez(path, input_word_ids=tokens.ids, input_mask=tokens.mask, input_type_ids=tokens.segments)
