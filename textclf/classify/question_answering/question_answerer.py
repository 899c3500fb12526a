"""Answers questions about contexts with a finished `.tflite`. It needs only LiteRT, not TensorFlow or the training code.

A context that is longer than the model reads is read in overlapping windows. Windows of similar length share an
interpreter's shape, and each core runs a separate interpreter. The same file answers as the Task Library's
BertQuestionAnswerer does on a phone, if that is asked for.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from textclf.classify.interpreters import check_task, usable_cores
from textclf.classify.opening import AnyRunner, content_of, metadata_of_content, new_runner
from textclf.classify.question_answering.frames import answered_frame
from textclf.classify.question_answering.probability import answer_probabilities
from textclf.classify.question_answering.selection import (
    Candidate,
    PhoneWindows,
    Selected,
    phone_answer,
    phone_windows,
    select_answers,
)
from textclf.classify.question_answering.texts import NO_QUESTION, checked_questions, problem_of_texts
from textclf.classify.workers import Workers, after_fork, padded_lengths, tasks_of
from textclf.data.tokens.encoded import Encoded, pad
from textclf.data.tokens.spans import QUESTION_LENGTH, SEPARATORS, STRIDE, Windows, make_windows
from textclf.data.tokens.wordpiece import Tokenizer
from textclf.errors import ArgumentError, DataError, EncoderError, ModelError
from textclf.files.model_path import model_path_of
from textclf.recipe.values import QUESTION_ANSWERING
from textclf.tflite.format.packed_files import EXPORT_AGAIN
from textclf.tflite.metadata import ModelMetadata
from textclf.tflite.question_answering import OUTPUTS, TASK_LIBRARY_LENGTH

if TYPE_CHECKING:
    from typing_extensions import Self

# The logit of a position beyond a window.
_NEVER = -1e9

# Questions in progress: enough that no core waits, few enough that the memory is bounded. Contexts count by characters.
_CALL_QUESTIONS = 256

_CALL_CHARACTERS = 1 << 20

_CALLS_UNDER_WAY = 3


@dataclass(frozen=True)
class Answer:
    """The answer to a question: `text`, the characters `start` to `end` (exclusive) of the context.

    `score` is its probability (0 to 1), and `logit` the sum of the logits of its first and last token, which phones
    return. If the context does not answer the question, `text` is "", `start` and `end` are -1, and `score` is the
    probability of this. If a question gets no result at all, `error` is the reason. `question_truncated`: the question
    has more tokens than the model reads. `context_truncated`: so has the context, as a phone reads it.
    """

    text: str
    score: float
    start: int = -1
    end: int = -1
    logit: float = math.nan
    question_truncated: bool = False
    context_truncated: bool = False
    error: str = ""

    @property
    def is_answer(self) -> bool:
        """Whether there is an answer."""
        return self.start >= 0


class QuestionAnswerer:
    """A question answering model read from a `.tflite` file, from the folder of a run, or from an ONNX file of textclf.

    Several threads may use it. The file is read once, when the object is made. `num_threads` windows are computed in
    parallel, by default one for each core that this process may use. A forked process may use its copy, and a pickled one
    includes the model. Raises ModelError for a file that is not a question answering model with TFLite metadata and BERT's
    inputs, or such an ONNX file of textclf.
    """

    def __init__(self, model_path: str | Path, num_threads: int | None = None) -> None:
        if num_threads is not None and num_threads < 1:
            raise ArgumentError(f"num_threads is {num_threads}, expected 1 or more")
        path = model_path_of(model_path)
        self._open(str(path), Path(os.path.abspath(path)), content_of(path), num_threads or usable_cores())

    @classmethod
    def of_content(cls, content: bytes, name: str, path: Path, num_threads: int | None = None) -> Self:
        """Opens a model that was read elsewhere. `name` and `path` say in messages where it comes from."""
        answerer = cls.__new__(cls)
        answerer._open(name, path, content, num_threads or usable_cores())
        return answerer

    def _open(self, name: str, path: Path, content: bytes, num_threads: int) -> None:
        self.name = name
        """The path that was passed, for messages."""
        self.path = path
        self._content = content
        self.metadata: ModelMetadata = metadata_of_content(name, content, _check_understood)
        settings = self.metadata.settings or {}
        self.question_column: str = settings.get("question", "question")
        self.context_column: str = settings.get("context", "context")
        self.stride: int = settings.get("stride", STRIDE)
        self.question_length: int = settings.get("question_length", QUESTION_LENGTH)
        self.null_bound: float | None = settings.get("null_bound")
        """A question gets no answer if the score of "no answer" is higher than that of the best answer by more than this.
        None: every question gets an answer."""
        self.temperature: float = settings.get("temperature", 1.0)
        try:
            self.tokenizer = Tokenizer(self.metadata.vocabulary, settings.get("tokenizer", "device"))
        except EncoderError as error:
            raise ModelError(f"{name}: {error}") from error
        self.num_threads = num_threads
        self._closed = False
        self._workers = self._new_workers()
        # The first interpreter is made now, so that a model that cannot run raises an error here.
        with self._workers.runner() as runner:
            self.max_length = runner.max_length
        if self.max_length <= self.question_length + SEPARATORS:
            raise ModelError(
                f"{name}: reads {self.max_length} tokens, of which a question may take {self.question_length}, so there is "
                f"no room for a context; {EXPORT_AGAIN}"
            )
        after_fork(self, QuestionAnswerer._start_anew)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the object with the model's bytes, so that a copy is the same model everywhere."""
        return _reopened, (type(self), self.name, self.path, self._content, self.num_threads)

    def __enter__(self) -> QuestionAnswerer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def content(self) -> bytes:
        """The model's file, as it was read."""
        return self._content

    @property
    def sha256(self) -> str:
        """The hash of the model's file, as it was read."""
        return hashlib.sha256(self._content).hexdigest()

    @property
    def seconds_in_interpreters(self) -> float:
        """The time spent inside LiteRT so far, summed over the interpreters of this process."""
        return self._workers.seconds

    @property
    def fits_phones(self) -> bool:
        """Whether the Task Library's BertQuestionAnswerer can use the file: its tokenizer, and a length of 384."""
        return self.tokenizer.kind == "device" and self.max_length == TASK_LIBRARY_LENGTH

    def answer(self, question: str, context: str, *, phone: bool = False) -> Answer:
        """Returns the answer to a question about a context. Errors and `phone` are those of `answers`.

        Raises DataError for an empty question or context.
        """
        [answer] = self.answers([(question, context)], phone=phone)
        if answer.error:
            what = "question" if answer.error.endswith(NO_QUESTION) else "context"
            raise DataError(f"{what} is empty; pass a text")
        return answer

    def answers(self, questions: Iterable[Sequence[str]], *, phone: bool = False) -> list[Answer]:
        """Returns the answer to each question. A question is a pair of strings: the question and its context.

        `questions` is any iterable of pairs. An empty question or context, or one of white space only, gets no answer and
        the reason in `error`. With `phone`, the answers are those of BertQuestionAnswerer in the Task Library, which
        reads one window, returns whole words, and does not weigh answers against "no answer". Raises DataError, with the
        position, for a value that is not a pair of texts, and ModelError if the model's output is not a number.
        """
        rows = self._checked(questions)
        problems = [problem_of_texts(*row) for row in rows]
        filled = [position for position, problem in enumerate(problems) if problem is None]
        answers = [Answer("", 0.0, error=f"empty: {problem}") for problem in problems]
        parts = self.in_parts([rows[position] for position in filled], phone=phone)
        found = (answer for part in parts for answer in part.result())
        for position, answer in zip(filled, found, strict=True):
            if answer is None:
                raise ModelError(
                    f"{self.name}: the model's output for questions[{position}] is not a number (NaN or infinity); the model "
                    "is damaged or its training diverged: train or export it again"
                )
            answers[position] = answer
        return answers

    def answer_frame(
        self,
        frame: Any,
        question_column: str | None = None,
        context_column: str | None = None,
        *,
        phone: bool = False,
        column_prefix: str = "",
    ) -> Any:
        """Returns a copy of a frame with the columns answer, score, start, end and error, each after `column_prefix`.

        The result has the kind of the frame, as that of `Classifier.classify_frame`. The columns with the question and its
        context are by default those that the model was trained on. `score` is a probability; `start` and `end` (exclusive)
        are characters of the context. Without an answer, `answer`, `start` and `end` are missing. A row without a question
        or a context also has no score, and the reason in `error`. Raises DataError for columns that are missing or would
        be replaced, and for cells that are neither text nor missing.
        """
        question, context = question_column or self.question_column, context_column or self.context_column
        return answered_frame(self, frame, question, context, phone=phone, column_prefix=column_prefix)

    def submit(self, questions: Sequence[tuple[str, ...]], *, phone: bool = False) -> PendingAnswers:
        """Starts to answer questions, (question, context) each, and returns at once an object that will have the answers.

        The texts are tokenized before this returns; the interpreters' threads do the rest.
        """
        contexts = [context for _, context in questions]
        if phone:
            asked = [question for question, _ in questions]
            one_window = self._phone_windows(asked, contexts)
            is_cut = [len(ids) > QUESTION_LENGTH for ids in self.tokenizer.pieces(asked)]
            # As on a phone, at full length.
            return PendingAnswers(self, contexts, one_window, is_cut, self._started(one_window.encoded, full=True))
        windows = self._windows(questions)
        firsts = np.searchsorted(windows.rows, np.arange(len(contexts)))
        is_cut = windows.encoded.truncated[firsts].tolist()
        return PendingAnswers(self, contexts, windows, is_cut, self._started(windows.encoded, full=False))

    def logits_at_full_length(self, questions: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Returns the logits of all windows, float32 [windows, max_length, 2], each padded to `max_length` as in other
        runtimes; 8-bit rounding differs."""
        return self._logits(self._started(self._windows(questions).encoded, full=True))

    def in_parts(self, questions: Sequence[tuple[str, ...]], *, phone: bool = False) -> Iterator[PendingAnswers]:
        """Submits questions, (question, context) each, in parts of a bounded size, some parts ahead, and yields the parts
        in their order."""
        under_way: deque[PendingAnswers] = deque()
        try:
            for part in _parts(questions):
                under_way.append(self.submit(part, phone=phone))
                if len(under_way) == _CALLS_UNDER_WAY:
                    yield under_way.popleft()
            while under_way:
                yield under_way.popleft()
        finally:
            for pending in under_way:
                pending.cancel()

    def check_phone(self) -> None:
        """Raises ModelError if the model cannot answer as a phone does."""
        if self.tokenizer.kind != "device":
            raise ModelError(
                f"{self.name}: was trained with BERT's tokenizer, which phones do not have, so it cannot answer as a phone "
                "does; train with encoder.tokenizer: device"
            )
        if self.max_length != TASK_LIBRARY_LENGTH:
            raise ModelError(
                f"{self.name}: reads {self.max_length} tokens, but the runtime of phones reads {TASK_LIBRARY_LENGTH}, so it "
                f"cannot answer as a phone does; train with encoder.max_length: {TASK_LIBRARY_LENGTH}"
            )

    def close(self) -> None:
        """Ends the threads without waiting for them and cancels tasks that have not started.

        Later calls raise RuntimeError.
        """
        workers = self._workers
        with workers.lock:
            self._closed = True
            workers.close()

    def as_answer(self, selected: Selected) -> Answer:
        """Returns the answer that the model gives: the best one, or none where "no answer" is better by its bound."""
        return answer_of(selected, self.temperature, self.null_bound)

    def _checked(self, questions: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
        self._open_workers()
        return checked_questions(questions)

    def _windows(self, questions: Sequence[tuple[str, ...]]) -> Windows:
        return make_windows(
            self.tokenizer,
            [question for question, _ in questions],
            [context for _, context in questions],
            max_length=self.max_length,
            stride=self.stride,
            question_length=self.question_length,
        )

    def _phone_windows(self, questions: Sequence[str], contexts: Sequence[str]) -> PhoneWindows:
        self.check_phone()
        return phone_windows(self.tokenizer, questions, contexts, max_length=self.max_length)

    def _started(self, encoded: Encoded, *, full: bool) -> _Started:
        workers = self._workers
        resizable = self.metadata.resizable and not full
        rows = np.arange(len(encoded))
        lengths = padded_lengths(encoded.lengths, self.max_length, resizable=resizable)
        tasks = list(tasks_of(rows, lengths))
        with workers.lock:
            self._open_workers()
            futures = [workers.pool.submit(self._run, workers, encoded, *task) for task in tasks]
        return _Started(workers, encoded, tasks, futures)

    def _run(self, workers: Workers, encoded: Encoded, rows: np.ndarray, length: int) -> np.ndarray:
        """Runs rows of an Encoded at one length and returns logits float32 [rows, length, 2]."""
        tokens = pad(encoded, rows, length)
        with workers.runner() as runner:
            return np.concatenate([runner.run(tokens.row(row)) for row in range(len(rows))])

    def _logits(self, started: _Started) -> np.ndarray:
        """Waits for the logits, float32 [rows, max_length, 2]."""
        logits = np.full((len(started.encoded), self.max_length, 2), _NEVER, np.float32)
        for (rows, length), future in zip(started.tasks, started.futures, strict=True):
            if started.workers is self._workers:
                try:
                    logits[rows, :length] = future.result()
                except CancelledError:
                    self._open_workers()
                    raise
            else:  # In a process that was forked after the start, the results will never arrive.
                logits[rows, :length] = self._run(self._open_workers(), started.encoded, rows, length)
        return logits

    def _open_workers(self) -> Workers:
        if self._closed:
            raise RuntimeError(
                f"{self.name}: this QuestionAnswerer is closed; open the model again with QuestionAnswerer(…)"
            )
        return self._workers

    def _start_anew(self) -> None:
        """Makes new workers in a forked process: the threads do not exist there, and their locks may be held forever."""
        self._workers.leave_behind()
        self._workers = self._new_workers()

    def _new_workers(self) -> Workers:
        return Workers(self.num_threads, self._new_runner)

    def _new_runner(self) -> AnyRunner:
        return new_runner(self.name, self._content, self.metadata, SPAN_LOGITS)


def answer_of(selected: Selected, temperature: float, null_bound: float | None) -> Answer:
    """Returns the best answer, or none where "no answer" is better by more than `null_bound` (None: never)."""
    [probability] = answer_probabilities([selected], temperature=temperature, null_bound=null_bound).tolist()
    best = selected.answer(math.inf if null_bound is None else null_bound)
    if best is None:
        return Answer("", probability, logit=selected.null_score)
    return Answer(best.text, probability, best.start, best.end, best.score)


def _reopened(
    kind: type[QuestionAnswerer], name: str, path: Path, content: bytes, num_threads: int
) -> QuestionAnswerer:
    return kind.of_content(content, name, path, num_threads)


def _parts(rows: Sequence[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    """Yields the rows in parts of a bounded size, in their order."""
    part: list[tuple[str, ...]] = []
    characters = 0
    for row in rows:
        part.append(row)
        characters += len(row[1])
        if len(part) == _CALL_QUESTIONS or characters >= _CALL_CHARACTERS:
            yield part
            part, characters = [], 0
    if part:
        yield part


class _Started(NamedTuple):
    """Rows that the interpreters compute: each task has rows of one length, and its future logits."""

    workers: Workers
    encoded: Encoded
    tasks: list[tuple[np.ndarray, int]]
    futures: list[Future[np.ndarray]]


class PendingAnswers:
    """Questions that are being answered."""

    def __init__(
        self,
        answerer: QuestionAnswerer,
        contexts: Sequence[str],
        windows: Windows | PhoneWindows,
        question_truncated: list[bool],
        started: _Started,
    ) -> None:
        self.question_truncated = question_truncated
        """Which questions have more tokens than the model reads."""
        self._answerer = answerer
        self._contexts = contexts
        self._windows = windows
        self._started = started

    def logits(self) -> np.ndarray:
        """Waits for the logits of all windows, float32 [windows, max_length, 2]: starts and ends.

        Those of positions beyond a window's tokens are -1e9, but as the model computes them on a phone, which ranks them
        with the others.
        """
        logits, encoded = self._answerer._logits(self._started), self._windows.encoded
        if not isinstance(self._windows, PhoneWindows):
            logits[np.arange(logits.shape[1]) >= encoded.lengths[:, None]] = _NEVER
        return logits

    def selected(self) -> list[Selected]:
        """Waits for the candidates of each question. Raises ValueError for answers as a phone gives them."""
        if isinstance(self._windows, PhoneWindows):
            raise ValueError("a phone has no candidates over windows")
        return select_answers(self._windows, self.logits(), self._contexts)

    def result(self) -> list[Answer | None]:
        """Waits for the answers; None for one whose logits are not numbers. Raises RuntimeError if the model was closed."""
        windows, logits = self._windows, self.logits()
        usable = np.isfinite(logits).all(axis=(1, 2))
        if isinstance(windows, PhoneWindows):
            return [self._on_phone(windows, row, logits[row]) if usable[row] else None for row in range(len(usable))]
        logits[~usable] = _NEVER
        good = np.ones(len(self._contexts), bool)
        good[windows.rows[~usable]] = False
        selected = select_answers(windows, logits, self._contexts)
        return [
            replace(self._answerer.as_answer(one), question_truncated=is_cut) if is_good else None
            for one, is_cut, is_good in zip(selected, self.question_truncated, good.tolist(), strict=True)
        ]

    def cancel(self) -> None:
        """Cancels tasks that have not started."""
        for future in self._started.futures:
            future.cancel()

    def _on_phone(self, windows: PhoneWindows, row: int, logits: np.ndarray) -> Answer:
        candidates = phone_answer(windows, row, logits, self._contexts[row])
        answer = Answer("", 0.0)
        if candidates:
            best = candidates[0]
            answer = Answer(best.text, _share(candidates, self._answerer.temperature), best.start, best.end, best.score)
        return replace(
            answer,
            question_truncated=self.question_truncated[row],
            context_truncated=bool(windows.encoded.truncated[row]),
        )


def _share(candidates: Sequence[Candidate], temperature: float) -> float:
    """Returns the probability of the first of a phone's candidates, as if one of them were right."""
    best = candidates[0].score
    return 1 / math.fsum(math.exp((candidate.score - best) / temperature) for candidate in candidates)


# --- What can be understood ------------------------------------------------------------------------------------------
class _SpanLogits:
    """The `Outputs` of question answering: start and end logits, float32 [1, length] each."""

    def positions(self, metadata: ModelMetadata) -> list[int]:
        return [metadata.output_names.index(name) for name in ("start_logits", "end_logits")]

    def check(self, name: str, metadata: ModelMetadata, outputs: Sequence[Mapping[str, Any]], length: int) -> None:
        for output in outputs:
            if output["dtype"] is not np.float32 or output["shape"].tolist() != [1, length]:
                raise ModelError(
                    f"{name}: an output is {np.dtype(output['dtype']).name} {output['shape'].tolist()}; expected float32 "
                    f"[1, {length}], a logit for each token; {EXPORT_AGAIN}"
                )

    def joined(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Returns float32 [1, length, 2]: starts and ends."""
        return np.stack(arrays, axis=-1)


SPAN_LOGITS = _SpanLogits()


def _check_understood(name: str, metadata: ModelMetadata) -> None:
    """Raises ModelError unless the metadata describe a BERT model that answers questions."""
    check_task(name, metadata, QUESTION_ANSWERING)
    inputs = ("ids", "mask", "segment_ids")
    outputs_fit = sorted(metadata.output_names) == sorted(OUTPUTS)
    if sorted(metadata.input_names) != sorted(inputs) or metadata.tokenizer != "bert" or not outputs_fit:
        raise ModelError(
            f"{name}: its metadata name the inputs {_listed(metadata.input_names)}, the tokenizer "
            f"{metadata.tokenizer or '(none)'} and the outputs {_listed(metadata.output_names)}; expected the inputs "
            f"{_listed(inputs)}, the tokenizer bert and the outputs {_listed(OUTPUTS)}"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "(none)"
