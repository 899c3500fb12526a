"""The models that a service can have: what a request asks of each, how its rows are computed, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from pydantic import BaseModel

from textclf.classify.classifier import NOT_A_NUMBER, Classifier, are_numbers
from textclf.classify.opening import answers_questions, content_of
from textclf.classify.question_answering.question_answerer import Answer, QuestionAnswerer
from textclf.classify.question_answering.texts import problem_of_texts
from textclf.classify.texts import NO_TEXT, has_text
from textclf.errors import ArgumentError
from textclf.files.model_path import model_path_of
from textclf.serving.batching import Row
from textclf.serving.limits import Limits
from textclf.serving.requests import BodySchema, answering_body, classification_body

_DAMAGED = f"the model's output {NOT_A_NUMBER}"


class ServedModel(Protocol):
    """An open model behind one route."""

    path: str
    """The route of its requests."""
    summary: str
    """What the route does, in one sentence."""
    body: BodySchema

    @property
    def opened(self) -> Classifier | QuestionAnswerer:
        """The open model."""

    def rows(self, content: Any) -> list[Row]:
        """Returns the rows that a body asks about."""

    def compute(self, rows: Sequence[Row]) -> list[Any]:
        """Returns a result for each row; a string is the reason why there is none."""

    def answer(self, content: Any, results: Sequence[Any]) -> dict[str, Any]:
        """Returns the values of the response from the results of a request's rows."""

    def facts(self) -> dict[str, Any]:
        """Returns what `/model` says only about this kind of model."""

    def result_schema(self) -> dict[str, Any]:
        """Returns the JSON Schema of the response."""


def open_model(model: str | Path, num_threads: int | None, limits: Limits) -> ServedModel:
    """Opens a `.tflite`, an ONNX file of textclf or the folder of a run. Raises ModelError as `Classifier` does."""
    if num_threads is not None and num_threads < 1:
        raise ArgumentError(f"num_threads (--threads) is {num_threads}, expected 1 or more")
    path = model_path_of(model)
    content = content_of(path)
    if answers_questions(str(path), content):
        return ServedAnswerer(QuestionAnswerer.of_content(content, str(path), path, num_threads), limits)
    return ServedClassifier(Classifier.of_content(content, str(path), path, num_threads), limits)


class ServedClassifier:
    """A `Classifier` of one label or of several labels per text."""

    path = "/classify"

    def __init__(self, classifier: Classifier, limits: Limits) -> None:
        self.opened = classifier
        self.body = classification_body(classifier.strings_per_text, limits)
        self.several = classifier.thresholds is not None
        self.summary = f"Classify one text or many: {'any number of labels' if self.several else 'one label'} for each"

    def rows(self, content: Any) -> list[Row]:
        texts = content.texts if isinstance(content, self.body.many) else [content.text]  # type: ignore[attr-defined]
        return [(text,) if isinstance(text, str) else tuple(text) for text in texts]

    def compute(self, rows: Sequence[Row]) -> list[np.ndarray | str]:
        """Returns the probabilities of each row, float32 [labels], or the reason why there are none."""
        filled = [position for position, row in enumerate(rows) if has_text(row)]
        results: list[np.ndarray | str] = [NO_TEXT] * len(rows)
        if not filled:
            return results
        probabilities = self.opened.submit([rows[position] for position in filled]).result()
        for position, row, usable in zip(filled, probabilities, are_numbers(probabilities).tolist(), strict=True):
            results[position] = row if usable else _DAMAGED
        return results

    def answer(self, content: Any, results: Sequence[np.ndarray | str]) -> dict[str, Any]:
        return {"predictions": [self._prediction(content, result) for result in results]}

    def _prediction(self, content: Any, result: np.ndarray | str) -> dict[str, Any]:
        if isinstance(result, str):
            nothing: dict[str, Any] = {"labels": []} if self.several else {"label": None, "rejected": False}
            return {**nothing, "score": None, "error": result}
        [choice] = self.opened.choose(result[np.newaxis], content.reject_below)
        score = float(result[choice.best])
        values: dict[str, Any]
        if self.several:
            values = {"labels": list(choice.labels), "score": score}
        else:
            values = {"label": choice.label or None, "score": score, "rejected": choice.rejected}
        if content.scores:
            values["scores"] = dict(zip(self.opened.labels, result.tolist(), strict=True))
        return values

    def facts(self) -> dict[str, Any]:
        opened = self.opened
        values: dict[str, Any] = {"labels": opened.labels, "text_columns": list(opened.text_columns)}
        if opened.thresholds is not None:
            return {**values, "thresholds": dict(zip(opened.labels, opened.thresholds.tolist(), strict=True))}
        return {**values, "reject_below": opened.reject_below, "reject_label": opened.reject_label or None}

    def result_schema(self) -> dict[str, Any]:
        probability = {"type": "number", "minimum": 0, "maximum": 1}
        label = {"type": "string"}
        if self.several:
            own: dict[str, Any] = {
                "labels": {"type": "array", "items": label, "description": "The labels of the text, maybe none"}
            }
        else:
            own = {
                "label": {**_or_null(label), "description": "null if the text is rejected or empty"},
                "rejected": {
                    "type": "boolean",
                    "description": "Whether the highest probability is below reject_below (default: the model's)",
                },
            }
        prediction = _object(
            {**own, "score": {**_or_null(probability), "description": "The highest probability"}},
            scores={
                "type": "object",
                "additionalProperties": probability,
                "description": "The probability of every label, if scores is true",
            },
            error={"type": "string", "description": "Why the text got no result"},
        )
        return _object({"predictions": {"type": "array", "items": prediction}})


class ServedAnswerer:
    """A `QuestionAnswerer`."""

    path = "/answer"
    summary = "Answer one question or many: the part of the context that answers each"

    def __init__(self, answerer: QuestionAnswerer, limits: Limits) -> None:
        self.opened = answerer
        self.body = answering_body(limits)

    def rows(self, content: Any) -> list[Row]:
        asked = content.questions if isinstance(content, self.body.many) else [content]  # type: ignore[attr-defined]
        return [(one.question, one.context) for one in asked]

    def compute(self, rows: Sequence[Row]) -> list[Answer | str]:
        problems = [problem_of_texts(*row) for row in rows]
        results: list[Answer | str] = [problem or _DAMAGED for problem in problems]
        filled = [position for position, problem in enumerate(problems) if problem is None]
        parts = self.opened.in_parts([rows[position] for position in filled])
        found = (answer for part in parts for answer in part.result())
        for position, answer in zip(filled, found, strict=True):
            if answer is not None:
                results[position] = answer
        return results

    def answer(self, content: BaseModel, results: Sequence[Answer | str]) -> dict[str, Any]:
        return {"answers": [_answer_values(result) for result in results]}

    def facts(self) -> dict[str, Any]:
        return {"question_length": self.opened.question_length, "stride": self.opened.stride}

    def result_schema(self) -> dict[str, Any]:
        position = _or_null({"type": "integer", "minimum": 0})
        answer = _object(
            {
                "answer": {**_or_null({"type": "string"}), "description": "null if the context has no answer"},
                "score": {**_or_null({"type": "number", "minimum": 0, "maximum": 1}), "description": "Its probability"},
                "start": {**position, "description": "Its first character in the context, in Unicode code points"},
                "end": {**position, "description": "The character after its last one"},
            },
            error={"type": "string", "description": "Why the question got no result"},
        )
        return _object({"answers": {"type": "array", "items": answer}})


def _answer_values(result: Answer | str) -> dict[str, Any]:
    if isinstance(result, str):
        return {"answer": None, "score": None, "start": None, "end": None, "error": result}
    if not result.is_answer:
        return {"answer": None, "score": result.score, "start": None, "end": None}
    return {"answer": result.text, "score": result.score, "start": result.start, "end": result.end}


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", {"anyOf": [schema, {"type": "null"}]})
