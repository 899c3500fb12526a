"""A finished `.tflite` text classifier → labels for texts, on LiteRT alone: no TensorFlow, no training code.

Everything that is needed lies in the file: labels, vocabulary, tokenizer, names of inputs and outputs. It is read once.
Texts of similar length share an interpreter's shape, each core runs its own interpreter, and equal texts are classified
once.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakSet

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from textclf.errors import ArgumentError, DataError, EncoderError, ModelError
from textclf.export.metadata import ModelMetadata, load_model, read_metadata
from textclf.export.packed_files import EXPORT_AGAIN
from textclf.model_path import model_path_of
from textclf.native_log import start_litert
from textclf.tflite.model_file import TfliteModel
from textclf.tflite.probe import check_runnable
from textclf.tokenizer import Encoded, Overflow, TextTokenizer, Tokenizer, pad
from textclf.values import quoted
from textclf.word_tokenizer import WordTokenizer

if TYPE_CHECKING:
    import pandas as pd

_INPUTS = ("ids", "mask", "segment_ids")

# Of the full-size model with eight-bit weights a resize costs 1.7 ms and a token 0.13 ms (2-core AVX-512 server, one
# thread). With the time of every length that was measured there, steps of 1, 2, 4 and 8 tokens come to 3.31, 3.35, 3.50
# and 3.81 ms a text of sms_spam and banking77, resizes included, in calls of 4096 texts, and to 4.00, 3.83, 3.82 and
# 4.01 ms in calls of 64.
_LENGTH_STEP = 2
# Few enough that cores which share a length end together, enough that handing them out costs nothing.
_ROWS_A_TASK = 32
# Texts under way at once: enough that no core waits for the tokenizer, few enough that memory stays flat.
_CALL_TEXTS = 4096
_CALLS_UNDER_WAY = 3
# Bytes of results that are remembered for texts that come again, and what one costs besides its probabilities.
_MEMORY_FOR_KNOWN = 32 << 20
_BYTES_AN_ENTRY = 300

NO_TEXT = "has no text"
"""Why a row whose texts are all empty or white space gets no label."""


@dataclass(frozen=True)
class Prediction:
    """The most probable label, its probability, and the probability of every label.

    Where that probability is below the bound, the text is `rejected` and `label` is the model's label for "none of
    these", or "". A text that gets no label at all has the reason in `error`, the score 0 and no `scores`.
    """

    label: str
    score: float
    scores: Mapping[str, float]
    rejected: bool = False
    error: str = ""


class Choice(NamedTuple):
    """What a row of probabilities comes to: the label that is given, the most probable label's index, and whether its
    probability was too low."""

    label: str
    best: int
    rejected: bool


class Classifier:
    """A text classifier read from a `.tflite` file, or from the folder of a run; several threads may use it at once.

    The file is read once, here: later changes of the file or of the current directory do not matter. A forked process
    may use its copy, and a pickled classifier carries the model. `num_threads` texts are classified in parallel, by
    default one for each core that this process may use. Raises ModelError for a file that is not a text classifier with
    TFLite metadata and BERT's inputs or a regex tokenizer's.
    """

    def __init__(self, model_path: str | Path, num_threads: int | None = None) -> None:
        if num_threads is not None and num_threads < 1:
            raise ArgumentError(f"num_threads is {num_threads}, expected 1 or more")
        path = model_path_of(model_path)
        self._open(str(path), Path(os.path.abspath(path)), load_model(path)[1], num_threads or _usable_cores())

    def _open(self, name: str, path: Path, content: bytes, num_threads: int) -> None:
        self.name = name
        """The path as it was given, for messages."""
        self.path = path
        self._content = content
        self.metadata: ModelMetadata = read_metadata(content, name)
        _check_understood(name, self.metadata)
        _check_runnable(name, content, self.metadata)
        self.labels = list(self.metadata.labels)
        settings = self.metadata.settings or {}
        self.text_columns = tuple(settings.get("text", ()))
        self.label_column: str | None = settings.get("label")
        self.overflow: Overflow = settings.get("overflow", "head")
        self.reject_below: float = settings.get("reject_below", 0.0)
        self.reject_label: str = settings.get("reject_label", "")
        try:
            self.tokenizer = _tokenizer(self.metadata)
        except EncoderError as error:
            raise ModelError(f"{name}: {error}") from error
        self._resizable = self.metadata.resizable
        self.num_threads = num_threads
        self._closed = False
        self._workers = _Workers(num_threads, self._new_runner, len(self.labels))
        # The first interpreter is made now, so that a model that cannot run is refused here.
        with self._workers.runner() as runner:
            self.max_length = runner.max_length
        _CLASSIFIERS.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with the model's bytes: a copy is the same model wherever, and whenever, it is opened."""
        return _reopened, (type(self), self.name, self.path, self._content, self.num_threads)

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def sha256(self) -> str:
        """The hash of the model's file, as it was read."""
        return hashlib.sha256(self._content).hexdigest()

    def classify(self, texts: Iterable[str | Sequence[str]], *, reject_below: float | None = None) -> list[Prediction]:
        """A prediction for each text; a text is a string, or two strings for a model of sentence pairs.

        `texts` is any iterable of them. A text that is empty or white space gets no label, as in `classify_file`.
        `reject_below` (0 to 1) is the bound below which a label is withheld, by default the model's. Raises DataError
        for what is no text, with its position, and ModelError where the model's output is not a number.
        """
        bound = self._bound(reject_below)
        rows = self._checked(texts)
        filled = [position for position, row in enumerate(rows) if has_text(row)]
        probabilities = self._all_probabilities([rows[position] for position in filled], filled)
        predictions = [Prediction("", 0.0, {}, error=f"empty: {NO_TEXT}")] * len(rows)
        for position, choice, row in zip(filled, self.choose(probabilities, bound), probabilities, strict=True):
            scores = dict(zip(self.labels, row.tolist(), strict=True))
            predictions[position] = Prediction(choice.label, float(row[choice.best]), scores, choice.rejected)
        return predictions

    def classify_frame(
        self,
        frame: pd.DataFrame,
        text_columns: str | Sequence[str] = (),
        *,
        scores: bool = False,
        reject_below: float | None = None,
        column_prefix: str = "",
    ) -> pd.DataFrame:
        """A copy of a frame with the columns predicted_label and predicted_score, with `scores` also `score:<label>`.

        The texts are in `text_columns`, by default the columns that the model was trained on. A row without text gets
        a missing label and score, a row below the bound (`reject_below`, by default the model's) the model's label for
        "none of these", or a missing one. `column_prefix` is put before the names of the new columns. Raises DataError
        for columns that are not there or would be replaced, and for cells that are neither text nor missing.
        """
        bound = self._bound(reject_below)
        _check_is_frame(frame)
        columns = column_names(text_columns) or self.text_columns
        if self.text_columns and len(columns) != len(self.text_columns):
            raise DataError(
                f"text_columns names {' and '.join(columns)}, but the model was trained on "
                f"{' and '.join(self.text_columns)}; name {'one column' if len(self.text_columns) == 1 else 'two'}"
            )
        added = ["predicted_label", "predicted_score", *(f"score:{label}" for label in self.labels if scores)]
        _check_frame(list(frame.columns), columns, [column_prefix + name for name in added])
        rows = self._checked(zip(*(_cells(frame, column) for column in columns), strict=True))
        filled = [position for position, row in enumerate(rows) if has_text(row)]
        probabilities = np.full((len(rows), len(self.labels)), np.nan, np.float32)
        probabilities[filled] = self._all_probabilities([rows[position] for position in filled], filled)
        labels: list[str | None] = [None] * len(rows)
        for position, choice in zip(filled, self.choose(probabilities[filled], bound), strict=True):
            labels[position] = choice.label or None
        values: dict[str, Any] = {"predicted_label": labels, "predicted_score": probabilities.max(axis=1)}
        if scores:
            values.update({f"score:{label}": probabilities[:, index] for index, label in enumerate(self.labels)})
        return frame.assign(**{column_prefix + name: value for name, value in values.items()})

    def probabilities(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Texts as tuples of one or two strings → probabilities float32 [texts, labels].

        Raises DataError as `classify`, and ModelError where the model's output is not a number.
        """
        rows = self._checked(texts)
        return self._all_probabilities(rows, range(len(rows)))

    def probabilities_at_full_length(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """As `probabilities`, each text padded to `max_length` as other runtimes do it, which rounds 8 bits otherwise."""
        rows = self._checked(texts)
        encoded = self.tokenizer.encode(rows, self.max_length, self.overflow)
        result = self._run(self._open_workers(), encoded, np.arange(len(rows)), self.max_length)
        return self._checked_numbers(result, range(len(rows)))

    def choose(self, probabilities: np.ndarray, reject_below: float | None = None) -> list[Choice]:
        """What each row of probabilities comes to: the one place where the bound is applied."""
        bound = self.reject_below if reject_below is None else reject_below
        best = probabilities.argmax(axis=1)
        # Written so that no comparison with a value that is not a number lets a label pass.
        rejected = ~(probabilities[np.arange(len(best)), best] >= bound)
        return [
            Choice(self.reject_label if is_rejected else self.labels[index], index, is_rejected)
            for index, is_rejected in zip(best.tolist(), rejected.tolist(), strict=True)
        ]

    def submit(self, texts: Sequence[tuple[str, ...]]) -> Pending:
        """Starts to classify texts and returns at once what will hold their probabilities.

        They are tokenised before this returns; the interpreters' threads do the rest. Raises DataError as `classify`.
        """
        return self._submit(self._checked(texts))

    def close(self) -> None:
        """Ends the threads without waiting for them and gives up what has not begun; later calls raise RuntimeError."""
        workers = self._workers
        with workers.lock:
            self._closed = True
            workers.close()

    @property
    def seconds_in_interpreters(self) -> float:
        """The time spent inside LiteRT so far, summed over the interpreters of this process."""
        return sum(runner.seconds for runner in self._workers.runners)

    def _checked(self, texts: Iterable[str | Sequence[str]]) -> list[tuple[str, ...]]:
        self._open_workers()
        widths = {len(self.text_columns)} if self.text_columns else {1} if self.tokenizer.kind == "regex" else {1, 2}
        return checked_rows(texts, widths, " and ".join(self.text_columns))

    def _bound(self, reject_below: float | None) -> float:
        if reject_below is None:
            return self.reject_below
        if not 0.0 <= reject_below <= 1.0:
            raise ArgumentError(f"reject_below is {reject_below}; give a probability from 0 to 1")
        return reject_below

    def _all_probabilities(self, rows: Sequence[tuple[str, ...]], positions: Sequence[int]) -> np.ndarray:
        """`positions` are the rows' positions among the texts that were given, for messages."""
        results: list[np.ndarray] = [np.zeros((0, len(self.labels)), np.float32)]
        under_way: deque[Pending] = deque()
        try:
            for start in range(0, len(rows), _CALL_TEXTS):
                under_way.append(self._submit(rows[start : start + _CALL_TEXTS]))
                if len(under_way) == _CALLS_UNDER_WAY:
                    results.append(under_way.popleft().result())
            while under_way:
                results.append(under_way.popleft().result())
        except BaseException:
            for pending in under_way:
                pending.cancel()
            raise
        return self._checked_numbers(np.concatenate(results), positions)

    def _checked_numbers(self, probabilities: np.ndarray, positions: Sequence[int]) -> np.ndarray:
        bad = np.flatnonzero(~are_numbers(probabilities))
        if len(bad):
            raise ModelError(
                f"{self.name}: the model's output for texts[{positions[bad[0]]}] {NOT_A_NUMBER} "
                f"({len(bad):,} of {len(probabilities):,} texts); the model is damaged or its training diverged: "
                "train or export it again"
            )
        return probabilities

    def _submit(self, rows: Sequence[tuple[str, ...]]) -> Pending:
        encoded = self.tokenizer.encode(rows, self.max_length, self.overflow)
        keys = _keys(encoded)
        places: dict[bytes, _Place | None] = {}
        fresh: list[int] = []
        workers = self._workers
        with workers.lock:
            self._open_workers()
            for row, key in enumerate(keys):
                if key not in places:
                    places[key] = workers.known.get(key)
                    if places[key] is None:
                        fresh.append(row)
            for numbers, length in self._tasks(encoded, fresh):
                future = workers.pool.submit(self._run, workers, encoded, numbers, length)
                for position, row in enumerate(numbers.tolist()):
                    places[keys[row]] = workers.known[keys[row]] = future, position
        own = [keys[row] for row in fresh]
        return Pending(self, workers, encoded, keys, own, cast("dict[bytes, _Place]", places))

    def _open_workers(self) -> _Workers:
        if self._closed:
            raise RuntimeError(f"{self.name}: this Classifier is closed; open the model again with Classifier(…)")
        return self._workers

    def _start_anew(self) -> None:
        """In a forked process: the threads stayed behind, and locks may be held by them for ever."""
        # Kept, not freed: interpreters that ran at the moment of the fork are in no state to be taken apart.
        _LEFT_BEHIND.append(self._workers)
        self._workers = _Workers(self.num_threads, self._new_runner, len(self.labels))
        if isinstance(self.tokenizer, WordTokenizer):  # its regular expressions hold locks, too
            self.tokenizer = _tokenizer(self.metadata)

    def _new_runner(self) -> _Runner:
        return _Runner(self.name, self._content, self.metadata)

    def _tasks(self, encoded: Encoded, rows: Sequence[int]) -> Iterator[tuple[np.ndarray, int]]:
        """The rows in groups of one padded length, the longest first, so that the cores end together."""
        numbers = np.asarray(rows, np.int64)
        lengths = self._padded(encoded.lengths[numbers])
        for length in np.unique(lengths)[::-1].tolist():
            group = numbers[lengths == length]
            for begin in range(0, len(group), _ROWS_A_TASK):
                yield group[begin : begin + _ROWS_A_TASK], length

    def _padded(self, lengths: np.ndarray) -> np.ndarray:
        """The lengths to which rows of so many ids are padded. It depends on the row alone, and so do its results.

        One [PAD] at least follows the last token, whose trigram reads it, as it does at `max_length`.
        """
        if not self._resizable:
            return np.full_like(lengths, self.max_length)
        return np.minimum(self.max_length, -(-(lengths + 1) // _LENGTH_STEP) * _LENGTH_STEP)

    def _run(self, workers: _Workers, encoded: Encoded, rows: np.ndarray, length: int) -> np.ndarray:
        """Rows of an Encoded at one length → probabilities float32 [rows, labels]."""
        arrays = pad(encoded, rows, length)
        results = [np.zeros((0, len(self.labels)), np.float32)]
        with workers.runner() as runner:
            results += [runner.run(*(array[row : row + 1] for array in arrays)) for row in range(len(rows))]
        return np.concatenate(results)


def _reopened(kind: type[Classifier], name: str, path: Path, content: bytes, num_threads: int) -> Classifier:
    classifier = kind.__new__(kind)
    classifier._open(name, path, content, num_threads)
    return classifier


# Where the probabilities of a text are: as bytes of float32, or still in row i of what a task will return.
_Place = bytes | tuple[Future[np.ndarray], int]


class Pending:
    """Texts on their way through the interpreters."""

    def __init__(
        self,
        classifier: Classifier,
        workers: _Workers,
        encoded: Encoded,
        keys: Sequence[bytes],
        own: Sequence[bytes],
        places: Mapping[bytes, _Place],
    ) -> None:
        self._classifier = classifier
        self._workers = workers
        self._encoded = encoded
        self._keys = keys
        self._own = own
        self._places = places
        self.truncated: np.ndarray = encoded.truncated
        """bool [texts]: of which texts only the first pieces were read."""

    def result(self) -> np.ndarray:
        """Waits for the probabilities, float32 [texts, labels]. Raises RuntimeError when the classifier was closed."""
        try:
            values = {key: self._value(key, place) for key, place in self._places.items()}
        except BaseException:
            self.cancel()
            raise
        self._workers.settle({key: values[key] for key in self._own})
        result = np.empty((len(self._keys), len(self._classifier.labels)), np.float32)
        for row, key in enumerate(self._keys):
            result[row] = values[key]
        return result

    def cancel(self) -> None:
        """Gives up what has not begun."""
        if not self._is_here():
            return
        for key in self._own:
            place = self._places[key]
            if isinstance(place, tuple):
                place[0].cancel()
        self._workers.settle(dict.fromkeys(self._own))

    def _is_here(self) -> bool:
        """False in a process that was forked after this was begun: what it waits for will never come there."""
        return self._workers is self._classifier._workers

    def _value(self, key: bytes, place: _Place) -> np.ndarray:
        if isinstance(place, bytes):
            return np.frombuffer(place, np.float32)
        future, position = place
        if self._is_here():
            try:
                return future.result()[position]
            except CancelledError:
                self._classifier._open_workers()
                if key in self._own:
                    raise
        # Another caller had begun this text and gave up, or another process has it.
        row = np.array([self._keys.index(key)])
        length = int(self._classifier._padded(self._encoded.lengths[row])[0])
        return self._classifier._run(self._classifier._open_workers(), self._encoded, row, length)[0]


class _Known(OrderedDict[bytes, _Place]):
    """Results of texts seen before, at most `capacity`; the one unused for longest goes first."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._capacity = capacity

    def get(self, key: bytes, default: Any = None) -> Any:
        if key not in self:
            return default
        self.move_to_end(key)
        return self[key]

    def __setitem__(self, key: bytes, place: _Place) -> None:
        super().__setitem__(key, place)
        if len(self) > self._capacity:
            self.popitem(last=False)


class _Workers:
    """What belongs to one process alone: threads, interpreters, a lock, and the results that are remembered."""

    def __init__(self, num_threads: int, new_runner: Callable[[], _Runner], label_count: int) -> None:
        self.lock = threading.Lock()
        self.pool = ThreadPoolExecutor(num_threads, thread_name_prefix="textclf")
        self.known = _Known(_MEMORY_FOR_KNOWN // (_BYTES_AN_ENTRY + 4 * label_count))
        self.runners: list[_Runner] = []
        self._idle: SimpleQueue[_Runner] = SimpleQueue()
        self._new_runner = new_runner

    @contextmanager
    def runner(self) -> Iterator[_Runner]:
        """A runner that nobody else uses meanwhile."""
        try:
            runner = self._idle.get_nowait()
        except Empty:
            with _MAKING_AN_INTERPRETER:
                runner = self._new_runner()
            self.runners.append(runner)
        try:
            yield runner
        finally:
            self._idle.put(runner)

    def settle(self, values: Mapping[bytes, np.ndarray | None]) -> None:
        """Puts results into the memory in place of the tasks that brought them; None forgets them."""
        with self.lock:
            for key, value in values.items():
                if value is None:
                    self.known.pop(key, None)
                elif key in self.known:
                    self.known[key] = value.tobytes()

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.known.clear()


class _Runner:
    """One interpreter on one core, resized to the length of what it is given."""

    def __init__(self, name: str, content: bytes, metadata: ModelMetadata) -> None:
        start_litert()
        try:
            # The interpreter reads the weights from these bytes, which all interpreters share.
            self._interpreter = Interpreter(model_content=content, num_threads=1)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{name}: LiteRT cannot run this model: {str(error).strip()}; {EXPORT_AGAIN}") from error
        inputs = self._interpreter.get_input_details()
        output = self._interpreter.get_output_details()[_output_position(metadata)]
        _check_tensors(name, metadata, inputs, output)
        # Of a regex tokenizer's model, the one input takes the ids.
        names = metadata.input_names if metadata.tokenizer == "regex" else _INPUTS
        self._inputs = [inputs[metadata.input_names.index(name)]["index"] for name in names]
        self._output = output["index"]
        self._name = name
        self.max_length = self._length = int(inputs[0]["shape"][1])
        self.seconds = 0.0

    def run(self, input_ids: np.ndarray, input_mask: np.ndarray, segment_ids: np.ndarray) -> np.ndarray:
        """int32 [1, length] three times → probabilities float32 [1, labels]."""
        begun = time.perf_counter()
        length = input_ids.shape[1]
        try:
            if length != self._length:
                for tensor in self._inputs:
                    self._interpreter.resize_tensor_input(tensor, [1, length], strict=False)
                self._interpreter.allocate_tensors()
                self._length = length
            for tensor, values in zip(self._inputs, (input_ids, input_mask, segment_ids), strict=False):
                self._interpreter.set_tensor(tensor, values)
            self._interpreter.invoke()
            probabilities = self._interpreter.get_tensor(self._output)
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"{self._name}: LiteRT cannot run this model: {str(error).strip()}; {EXPORT_AGAIN}"
            ) from error
        self.seconds += time.perf_counter() - begun
        return probabilities


# --- Forked processes ------------------------------------------------------------------------------------------------

_CLASSIFIERS: WeakSet[Classifier] = WeakSet()
_LEFT_BEHIND: list[_Workers] = []
# Held while the process is forked: LiteRT takes locks of its own where it makes an interpreter.
_MAKING_AN_INTERPRETER = threading.RLock()


def _start_anew_after_fork() -> None:
    _MAKING_AN_INTERPRETER.release()
    if "re2" in sys.modules:  # compiled patterns are shared by all that ask for the same one
        sys.modules["re2"].purge()
    for classifier in list(_CLASSIFIERS):
        classifier._start_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_MAKING_AN_INTERPRETER.acquire,
        after_in_parent=_MAKING_AN_INTERPRETER.release,
        after_in_child=_start_anew_after_fork,
    )


# --- What is given ---------------------------------------------------------------------------------------------------

NOT_A_NUMBER = "is not a number (NaN or infinity)"


def has_text(row: Iterable[str]) -> bool:
    """Whether a row has a text to classify; of a pair one side may be empty."""
    return any(text.strip() for text in row)


def are_numbers(probabilities: np.ndarray) -> np.ndarray:
    """bool [rows]: which rows hold numbers only."""
    return np.isfinite(probabilities).all(axis=1)


def column_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Names of columns as a tuple; one name may be given alone."""
    return (names,) if isinstance(names, str) else tuple(names)


def checked_rows(texts: Iterable[str | Sequence[str]], widths: Set[int], columns: str) -> list[tuple[str, ...]]:
    """Texts as tuples of strings. Raises DataError with the position of what is no text, or not as many as `widths`.

    `columns` are the names of those that the model was trained on, "" where they are not known.
    """
    if isinstance(texts, str):
        raise DataError(f"texts is one string, expected a list of texts; write [{_shown(texts)}]")
    if hasattr(texts, "columns"):
        raise DataError(
            f"texts is a {type(texts).__name__}, expected a list of texts; use classify_frame for a frame, or pass one "
            "column of it"
        )
    if isinstance(texts, bytes | bytearray | Mapping | Set) or not hasattr(texts, "__iter__"):
        raise DataError(f'texts is {_described(texts)}, expected a list of texts such as ["where is my parcel"]')
    try:
        given = list(texts)
    except TypeError:  # an array without dimensions
        raise DataError(f"texts is {_described(texts)}, expected a list of texts") from None
    rows: list[tuple[str, ...]] = []
    for position, row in enumerate(given):
        is_plain = (
            type(row) is tuple and len(row) in widths and all(type(text) is str and text.isascii() for text in row)
        )
        rows.append(cast("tuple[str, ...]", row) if is_plain else _checked_row(row, position, widths, columns))
    return rows


def _checked_row(given: object, position: int, widths: Set[int], columns: str) -> tuple[str, ...]:
    row = (given,) if isinstance(given, str) else given
    if not isinstance(row, tuple | list):
        wanted = "a string" if widths == {1} else "two strings" if widths == {2} else "a string or two"
        missing = "; leave it out, or pass an empty string" if _is_missing(given) else ""
        raise DataError(f"texts[{position}] is {_described(given)}, expected {wanted}{missing}")
    for cell, text in enumerate(row):
        where = f"texts[{position}]" if isinstance(given, str) else f"texts[{position}][{cell}]"
        if not isinstance(text, str):
            raise DataError(f"{where} is {_described(text)}, expected a string")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                half = ord(text[error.start])
                raise DataError(
                    f"{where} holds half of a character (U+{half:04X} at index {error.start}); decode the text again, "
                    'or replace it with text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")'
                ) from None
    if len(row) not in widths:
        count = {1: "one text", 2: "two texts"}.get(len(row), f"{len(row)} texts")
        wanted = {1: "one text", 2: "two texts"}[min(widths)] if len(widths) == 1 else "one text or two"
        trained = f"the model was trained on {columns}" if columns else f"the model reads {wanted}"
        raise DataError(f"texts[{position}] has {count}, but {trained}; give {wanted} for each row")
    return tuple(row)


def _described(value: object) -> str:
    """A value and its type, as messages show them."""
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"a {kind}" if hasattr(value, "__len__") or callable(value) else f"{value!r:.60} ({kind})"


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and value != value) or type(value).__name__ == "NAType"


def _shown(text: str) -> str:
    return f'"{text if len(text) <= 40 else text[:39] + "…"}"'


def _check_is_frame(frame: object) -> None:
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(frame, pandas.DataFrame):
        raise DataError(f"frame is {_described(frame)}, expected a pandas DataFrame; use classify for a list of texts")


def _cells(frame: pd.DataFrame, column: str) -> list[str]:
    """The texts of one column, "" for missing ones."""
    values, missing = frame[column].tolist(), frame[column].isna().tolist()
    for position, (value, is_missing) in enumerate(zip(values, missing, strict=True)):
        if not is_missing and not isinstance(value, str):
            raise DataError(
                f"row {position} (index {frame.index[position]}) of column {quoted(column)} is {_described(value)}, "
                "expected text; convert the column with astype(str) if its values are meant as texts"
            )
    return ["" if is_missing else value for value, is_missing in zip(values, missing, strict=True)]


def _keys(encoded: Encoded) -> list[bytes]:
    """Something short for each row that is equal where ids and segments are."""
    content = encoded.flat_ids.tobytes()
    ends = (encoded.offsets * encoded.flat_ids.itemsize).tolist()
    firsts = encoded.first_lengths.tolist()
    return [
        hashlib.blake2b(content[begin:end] + first.to_bytes(4, "little"), digest_size=16).digest()
        for begin, end, first in zip(ends, ends[1:], firsts, strict=False)
    ]


def _usable_cores() -> int:
    """Cores that this process may use, which in a container can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- What can be understood ------------------------------------------------------------------------------------------


def _tokenizer(metadata: ModelMetadata) -> TextTokenizer:
    if metadata.tokenizer == "regex":
        return WordTokenizer(metadata.vocabulary, metadata.delimiter_pattern or "")
    return Tokenizer(metadata.vocabulary, (metadata.settings or {}).get("tokenizer", "device"))


def _check_understood(name: str, metadata: ModelMetadata) -> None:
    """Raises ModelError unless the metadata describe a BERT text classifier, or one of words."""
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
            f"could not be told apart; {EXPORT_AGAIN}"
        )
    empty = [number for number, label in enumerate(metadata.labels, 1) if not label.strip()]
    if empty:
        raise ModelError(
            f"{name}: label {empty[0]} of {len(metadata.labels)} is empty, so an answer could not be told from none; "
            f"{EXPORT_AGAIN}"
        )


def _check_runnable(name: str, content: bytes, metadata: ModelMetadata) -> None:
    """Raises ModelError for a model that would harm this process: nobody vouches for a file, whatever it says."""
    largest_ids = [
        len(metadata.vocabulary) - 1 if given in ("ids", "input_text") else 1 for given in metadata.input_names
    ]
    if metadata.tokenizer == "regex":
        largest_ids = [len(metadata.vocabulary) - 1]
    check_runnable(TfliteModel(content, name), largest_ids, resizable=metadata.resizable)


def _output_position(metadata: ModelMetadata) -> int:
    names = metadata.output_names
    return names.index("probability") if "probability" in names else 0


def _check_tensors(
    name: str, metadata: ModelMetadata, inputs: Sequence[Mapping[str, Any]], output: Mapping[str, Any]
) -> None:
    """Raises ModelError unless the graph takes one text of a fixed length and gives a float for each label."""
    shapes = {tuple(tensor["shape"].tolist()) for tensor in inputs}
    [shape, *others] = sorted(shapes)
    fixed = all(tensor["shape_signature"][-1] > 0 for tensor in inputs)
    if others or len(shape) != 2 or shape[0] != 1 or not fixed or any(t["dtype"] is not np.int32 for t in inputs):
        described = ", ".join(
            f"{input_name} {np.dtype(tensor['dtype']).name} {tensor['shape_signature'].tolist()}"
            for input_name, tensor in zip(metadata.input_names, inputs, strict=True)
        )
        raise ModelError(f"{name}: its inputs are {described}; expected int32 [1, length] with one fixed length")
    if output["dtype"] is not np.float32 or output["shape"].tolist() != [1, len(metadata.labels)]:
        raise ModelError(
            f"{name}: has {len(metadata.labels)} labels, but its output is {np.dtype(output['dtype']).name} "
            f"{output['shape'].tolist()}; expected float32 [1, {len(metadata.labels)}]"
        )


def _check_frame(existing: Sequence[object], columns: Sequence[str], added: Sequence[str]) -> None:
    names = ", ".join(f"`{column}`" for column in existing)
    if not columns:
        raise DataError(
            f"the model does not say which column holds its text; name it in text_columns, there are {names}"
        )
    for column in columns:
        if existing.count(column) != 1:
            raise DataError(
                f"the frame has {existing.count(column)} columns `{column}`, expected one; there are {names}"
            )
    taken = [column for column in added if column in existing]
    if taken:
        raise DataError(
            f"the frame has a column `{taken[0]}` already; rename or drop it, or give the new columns a column_prefix"
        )
