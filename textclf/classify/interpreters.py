"""LiteRT interpreters of a model. A runner is made from the model's bytes and resizes to the length of each row."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from textclf.data.tokens.encoded import Tokens
from textclf.errors import ModelError
from textclf.recipe.values import QUESTION_ANSWERING, Task, quoted
from textclf.terminal.native_log import start_litert
from textclf.tflite.format.packed_files import EXPORT_AGAIN
from textclf.tflite.metadata import ModelMetadata
from textclf.tflite.model_file import TfliteModel
from textclf.tflite.trial.probe import check_runnable

_TASKS: tuple[Task, ...] = ("text-classification", "multi-label-classification")

# How a model of each task is used, for messages.
_USE: dict[str, str] = {
    "text-classification": "classify with it: `textclf classify`, or Classifier in Python",
    "multi-label-classification": "classify with it: `textclf classify`, or Classifier in Python",
    "question-answering": "answer questions with it: `textclf answer`, or QuestionAnswerer and evaluate_answers in Python",
}

_INPUTS = ("ids", "mask", "segment_ids")


class Outputs(Protocol):
    """Which outputs of a model a task needs. `_Probabilities` are those of text classification."""

    def positions(self, metadata: ModelMetadata) -> list[int]:
        """Returns where the outputs are among those of the graph."""

    def check(self, name: str, metadata: ModelMetadata, outputs: Sequence[Mapping[str, Any]], length: int) -> None:
        """Raises ModelError for outputs of another type or shape, as LiteRT describes them; `length` is the inputs'."""

    def joined(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the outputs of one row, [1, …] each, as one array [1, …]."""


class _Probabilities:
    """The `Outputs` of text classification: float32 [1, labels]."""

    def positions(self, metadata: ModelMetadata) -> list[int]:
        names = metadata.output_names
        return [names.index("probability") if "probability" in names else 0]

    def check(self, name: str, metadata: ModelMetadata, outputs: Sequence[Mapping[str, Any]], length: int) -> None:
        [output] = outputs
        if output["dtype"] is not np.float32 or output["shape"].tolist() != [1, len(metadata.labels)]:
            raise ModelError(
                f"{name}: has {len(metadata.labels)} labels, but its output is {np.dtype(output['dtype']).name} "
                f"{output['shape'].tolist()}; expected float32 [1, {len(metadata.labels)}]"
            )

    def joined(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return arrays[0]


PROBABILITIES = _Probabilities()


class Runner:
    """An interpreter on one core, which is resized to the length of its input."""

    def __init__(self, name: str, content: bytes, metadata: ModelMetadata, outputs: Outputs = PROBABILITIES) -> None:
        start_litert()
        try:
            # The interpreter reads the weights from these bytes, which all interpreters share.
            self._interpreter = Interpreter(model_content=content, num_threads=1)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{name}: LiteRT cannot run this model: {str(error).strip()}; {EXPORT_AGAIN}") from error
        inputs = self._interpreter.get_input_details()
        described = self._interpreter.get_output_details()
        chosen = [described[position] for position in outputs.positions(metadata)]
        _check_inputs(name, metadata, inputs)
        outputs.check(name, metadata, chosen, int(inputs[0]["shape"][1]))
        # The only input of a model with a regex tokenizer takes the ids.
        names = metadata.input_names if metadata.tokenizer == "regex" else _INPUTS
        self._inputs = [inputs[metadata.input_names.index(name)]["index"] for name in names]
        self._outputs = outputs
        self._output_tensors = [output["index"] for output in chosen]
        self._name = name
        self.max_length = self._length = int(inputs[0]["shape"][1])
        self.seconds = 0.0

    def run(self, tokens: Tokens) -> np.ndarray:
        """Takes one row and returns its outputs: probabilities float32 [1, labels] of a text classifier."""
        begun = time.perf_counter()
        length = tokens.ids.shape[1]
        try:
            if length != self._length:
                for tensor in self._inputs:
                    self._interpreter.resize_tensor_input(tensor, [1, length], strict=False)
                self._interpreter.allocate_tensors()
                self._length = length
            for tensor, values in zip(self._inputs, tokens, strict=False):
                self._interpreter.set_tensor(tensor, values)
            self._interpreter.invoke()
            results = self._outputs.joined([self._interpreter.get_tensor(tensor) for tensor in self._output_tensors])
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"{self._name}: LiteRT cannot run this model: {str(error).strip()}; {EXPORT_AGAIN}"
            ) from error
        self.seconds += time.perf_counter() - begun
        return results


# Held during a fork, because LiteRT holds internal locks while it makes an interpreter.
MAKING_AN_INTERPRETER = threading.RLock()


def usable_cores() -> int:
    """Returns the number of cores that this process may use. In a container this can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_task(name: str, metadata: ModelMetadata, *tasks: Task) -> None:
    """Raises ModelError for a model of another task than these."""
    if metadata.task not in tasks:
        use = f"; {_USE[metadata.task]}" if metadata.task in _USE else ""
        raise ModelError(
            f"{name}: the model's task is {metadata.task}, but this command needs a model of {tasks[0]}{use}"
        )


def is_question_answerer(metadata: ModelMetadata) -> bool:
    return metadata.task == QUESTION_ANSWERING


def check_understood(name: str, metadata: ModelMetadata) -> None:
    """Raises ModelError unless the metadata describe a BERT text classifier, or one of words, and no other task."""
    check_task(name, metadata, *_TASKS)
    found = [f"the inputs {', '.join(map(repr, metadata.input_names)) or '(none)'}"]
    found.append(f"the tokenizer {metadata.tokenizer}" if metadata.tokenizer else "no tokenizer")
    found.append(f"{len(metadata.labels)} labels" if metadata.labels else "no labels")
    of_bert = sorted(metadata.input_names) == sorted(_INPUTS) and metadata.tokenizer == "bert"
    of_words = len(metadata.input_names) == 1 and metadata.tokenizer == "regex"
    if not ((of_bert or of_words) and metadata.labels):
        raise ModelError(
            f"{name}: its metadata name {', '.join(found)}; expected a BERT text classifier: the inputs "
            f"{', '.join(map(repr, _INPUTS))}, the tokenizer bert and a list of labels, or one input and the tokenizer regex"
        )
    repeated = [label for label, count in Counter(metadata.labels).items() if count > 1]
    if repeated:
        raise ModelError(
            f"{name}: {len(metadata.labels)} labels, of which {quoted(repeated[0])} occurs more than once, so the answers "
            f"could not be distinguished; {EXPORT_AGAIN}"
        )
    empty = [number for number, label in enumerate(metadata.labels, 1) if not label.strip()]
    if empty:
        raise ModelError(
            f"{name}: label {empty[0]} of {len(metadata.labels)} is empty, so an answer could not be told from none; "
            f"{EXPORT_AGAIN}"
        )


def check_model_runs(name: str, content: bytes, metadata: ModelMetadata) -> None:
    """Raises ModelError for a model that would harm this process. No file is trusted."""
    largest_ids = [
        len(metadata.vocabulary) - 1 if given in ("ids", "input_text") else 1 for given in metadata.input_names
    ]
    if metadata.tokenizer == "regex":
        largest_ids = [len(metadata.vocabulary) - 1]
    check_runnable(TfliteModel(content, name), largest_ids, resizable=metadata.resizable)


def _check_inputs(name: str, metadata: ModelMetadata, inputs: Sequence[Mapping[str, Any]]) -> None:
    """Raises ModelError unless the graph takes one row of a fixed length."""
    shapes = {tuple(tensor["shape"].tolist()) for tensor in inputs}
    [shape, *others] = sorted(shapes)
    fixed = all(tensor["shape_signature"][-1] > 0 for tensor in inputs)
    if others or len(shape) != 2 or shape[0] != 1 or not fixed or any(t["dtype"] is not np.int32 for t in inputs):
        described = ", ".join(
            f"{input_name} {np.dtype(tensor['dtype']).name} {tensor['shape_signature'].tolist()}"
            for input_name, tensor in zip(metadata.input_names, inputs, strict=True)
        )
        raise ModelError(f"{name}: its inputs are {described}; expected int32 [1, length] with one fixed length")
