"""A finished `.tflite` text classifier → labels for texts, on LiteRT alone: no TensorFlow, no training code.

Everything that is needed lies in the file: labels, vocabulary, tokenizer, names of inputs and outputs. Texts of like
length share an interpreter's shape, each core runs an interpreter of its own, and equal texts are classified once.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from textclf.errors import DataError, EncoderError, ModelError
from textclf.export.metadata import ModelMetadata, read_metadata
from textclf.native_log import start_litert
from textclf.tokenizer import Encoded, Overflow, TextTokenizer, Tokenizer, pad
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


@dataclass(frozen=True)
class Prediction:
    """The likeliest label, its probability, and the probability of every label."""

    label: str
    score: float
    scores: Mapping[str, float]


class Classifier:
    """A text classifier read from a `.tflite` file; may be used by several threads at once.

    `num_threads` texts are classified side by side, by default one for each core that this process may use. Raises
    ModelError for a file that is not a text classifier with TFLite metadata and BERT's inputs or a regex tokenizer's.
    """

    def __init__(self, model_path: str | Path, num_threads: int | None = None) -> None:
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"num_threads is {num_threads}, expected 1 or more")
        self.path = Path(model_path)
        self.metadata: ModelMetadata = read_metadata(self.path)
        _check_understood(self.path, self.metadata)
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
            raise ModelError(f"{self.path}: {error}") from error
        # Only a graph of our own is known to mean the same at shorter lengths.
        self._resizable = "tokenizer" in settings and not settings.get("fixed_length", False)
        self.num_threads = num_threads or _usable_cores()
        self._runners = [_Runner(self.path, self.metadata)]
        self._idle: SimpleQueue[_Runner] = SimpleQueue()
        self._idle.put(self._runners[0])
        self.max_length = self._runners[0].max_length
        self._pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="textclf")
        self._known = _Known(_MEMORY_FOR_KNOWN // (_BYTES_AN_ENTRY + 4 * len(self.labels)))
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its path: a task of a distributed engine opens the file where it runs."""
        return Classifier, (self.path, self.num_threads)

    def classify(self, texts: Sequence[str | Sequence[str]]) -> list[Prediction]:
        """A prediction for each text; a text is a string, or two strings for a model of sentence pairs."""
        rows = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
        return [self._prediction(row) for row in self.probabilities(rows)]

    def classify_frame(
        self, frame: pd.DataFrame, text_columns: Sequence[str] = (), *, scores: bool = False
    ) -> pd.DataFrame:
        """A copy of a frame with the columns predicted_label and predicted_score, with `scores` also `score:<label>`.

        The texts stand in `text_columns`, by default the columns that the model was trained on. A row without text gets
        a missing label and score. Raises DataError for columns that are not there or would be replaced.
        """
        columns = tuple(text_columns) or self.text_columns
        added = ["predicted_label", "predicted_score", *(f"score:{label}" for label in self.labels if scores)]
        _check_frame(list(frame.columns), columns, added)
        cells = [frame[column].astype(object).where(frame[column].notna(), "").astype(str) for column in columns]
        rows = list(zip(*cells, strict=True))
        filled = np.array([all(text.strip() for text in row) for row in rows], bool)
        probabilities = np.full((len(rows), len(self.labels)), np.nan, np.float32)
        probabilities[filled] = self.probabilities(
            [row for row, has_text in zip(rows, filled, strict=True) if has_text]
        )
        best = np.where(filled, probabilities.argmax(axis=1), -1)
        values: dict[str, Any] = {
            "predicted_label": [self.labels[index] if index >= 0 else None for index in best],
            "predicted_score": probabilities.max(axis=1),
        }
        if scores:
            values.update({f"score:{label}": probabilities[:, index] for index, label in enumerate(self.labels)})
        return frame.assign(**values)

    def probabilities(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Texts as tuples of one or two strings → probabilities float32 [texts, labels]."""
        results: list[np.ndarray] = [np.zeros((0, len(self.labels)), np.float32)]
        under_way: deque[Pending] = deque()
        try:
            for start in range(0, len(texts), _CALL_TEXTS):
                under_way.append(self.submit(texts[start : start + _CALL_TEXTS]))
                if len(under_way) == _CALLS_UNDER_WAY:
                    results.append(under_way.popleft().result())
            while under_way:
                results.append(under_way.popleft().result())
        except BaseException:
            for pending in under_way:
                pending.cancel()
            raise
        return np.concatenate(results)

    def probabilities_at_full_length(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """As `probabilities`, each text padded to `max_length` as other runtimes do it, which rounds 8 bits otherwise."""
        encoded = self.tokenizer.encode(texts, self.max_length, self.overflow)
        return self._run(encoded, np.arange(len(texts)), self.max_length)

    def submit(self, texts: Sequence[tuple[str, ...]]) -> Pending:
        """Starts to classify texts and returns at once what will hold their probabilities.

        They are tokenised before this returns; the interpreters' threads do the rest. Raises DataError for a row that
        is no pair where the model was trained on pairs, or the other way round.
        """
        expected = len(self.text_columns)
        if expected and any(len(row) != expected for row in texts):
            raise DataError(
                f"{self.path}: the model was trained on {' and '.join(self.text_columns)}; "
                f"give {'one text' if expected == 1 else 'two texts'} for each row"
            )
        encoded = self.tokenizer.encode(texts, self.max_length, self.overflow)
        keys = _keys(encoded)
        places: dict[bytes, _Place | None] = {}
        fresh: list[int] = []
        with self._lock:
            for row, key in enumerate(keys):
                if key not in places:
                    places[key] = self._known.get(key)
                    if places[key] is None:
                        fresh.append(row)
            for rows, length in self._tasks(encoded, fresh):
                future = self._pool.submit(self._run, encoded, rows, length)
                for position, row in enumerate(rows.tolist()):
                    places[keys[row]] = self._known[keys[row]] = future, position
        return Pending(self, encoded, keys, [keys[row] for row in fresh], cast("dict[bytes, _Place]", places))

    def close(self) -> None:
        """Ends the threads without waiting for them; what has not begun is given up."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def seconds_in_interpreters(self) -> float:
        """The time spent inside LiteRT so far, summed over the interpreters."""
        return sum(runner.seconds for runner in self._runners)

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

    def _run(self, encoded: Encoded, rows: np.ndarray, length: int) -> np.ndarray:
        """Rows of an Encoded at one length → probabilities float32 [rows, labels]."""
        arrays = pad(encoded, rows, length)
        with self._runner() as runner:
            return np.concatenate([runner.run(*(array[row : row + 1] for array in arrays)) for row in range(len(rows))])

    def _settle(self, values: Mapping[bytes, np.ndarray | None]) -> None:
        """Puts results into the memory in place of the tasks that brought them; None forgets them."""
        with self._lock:
            for key, value in values.items():
                if value is None:
                    self._known.pop(key, None)
                elif key in self._known:
                    self._known[key] = value.tobytes()

    def _prediction(self, row: np.ndarray) -> Prediction:
        best = int(row.argmax())
        return Prediction(self.labels[best], float(row[best]), dict(zip(self.labels, row.tolist(), strict=True)))

    @contextmanager
    def _runner(self) -> Iterator[_Runner]:
        """A runner that nobody else uses meanwhile."""
        try:
            runner = self._idle.get_nowait()
        except Empty:
            runner = _Runner(self.path, self.metadata)
            self._runners.append(runner)
        try:
            yield runner
        finally:
            self._idle.put(runner)


# Where the probabilities of a text are: as bytes of float32, or still in row i of what a task will return.
_Place = bytes | tuple[Future[np.ndarray], int]


class Pending:
    """Texts on their way through the interpreters."""

    def __init__(
        self,
        classifier: Classifier,
        encoded: Encoded,
        keys: Sequence[bytes],
        own: Sequence[bytes],
        places: Mapping[bytes, _Place],
    ) -> None:
        self._classifier = classifier
        self._encoded = encoded
        self._keys = keys
        self._own = own
        self._places = places
        self.truncated: np.ndarray = encoded.truncated
        """bool [texts]: of which texts only the first pieces were read."""
        self.distinct = len(own)
        """How many of the texts had to be classified; the others are equal to these or to texts before them."""

    def result(self) -> np.ndarray:
        """Waits for the probabilities, float32 [texts, labels]."""
        try:
            values = {key: self._value(key, place) for key, place in self._places.items()}
        except BaseException:
            self.cancel()
            raise
        self._classifier._settle({key: values[key] for key in self._own})
        result = np.empty((len(self._keys), len(self._classifier.labels)), np.float32)
        for row, key in enumerate(self._keys):
            result[row] = values[key]
        return result

    def cancel(self) -> None:
        """Gives up what has not begun."""
        for key in self._own:
            place = self._places[key]
            if isinstance(place, tuple):
                place[0].cancel()
        self._classifier._settle(dict.fromkeys(self._own))

    def _value(self, key: bytes, place: _Place) -> np.ndarray:
        if isinstance(place, bytes):
            return np.frombuffer(place, np.float32)
        future, position = place
        try:
            return future.result()[position]
        except CancelledError:
            if key in self._own:
                raise
            # Another caller had begun this text and gave up.
            row = np.array([self._keys.index(key)])
            length = int(self._classifier._padded(self._encoded.lengths[row])[0])
            return self._classifier._run(self._encoded, row, length)[0]


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


class _Runner:
    """One interpreter on one core, resized to the length of what it is given."""

    def __init__(self, path: Path, metadata: ModelMetadata) -> None:
        start_litert()
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=1)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{path}: LiteRT cannot run this model: {str(error).strip()}") from error
        inputs = self._interpreter.get_input_details()
        output = self._interpreter.get_output_details()[_output_position(metadata)]
        _check_tensors(path, metadata, inputs, output)
        # Of a regex tokenizer's model, the one input takes the ids.
        names = metadata.input_names if metadata.tokenizer == "regex" else _INPUTS
        self._inputs = [inputs[metadata.input_names.index(name)]["index"] for name in names]
        self._output = output["index"]
        self.max_length = self._length = int(inputs[0]["shape"][1])
        self.seconds = 0.0

    def run(self, input_ids: np.ndarray, input_mask: np.ndarray, segment_ids: np.ndarray) -> np.ndarray:
        """int32 [1, length] three times → probabilities float32 [1, labels]."""
        begun = time.perf_counter()
        length = input_ids.shape[1]
        if length != self._length:
            for tensor in self._inputs:
                self._interpreter.resize_tensor_input(tensor, [1, length], strict=False)
            self._interpreter.allocate_tensors()
            self._length = length
        for tensor, values in zip(self._inputs, (input_ids, input_mask, segment_ids), strict=False):
            self._interpreter.set_tensor(tensor, values)
        self._interpreter.invoke()
        probabilities = self._interpreter.get_tensor(self._output)
        self.seconds += time.perf_counter() - begun
        return probabilities


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


def _check_understood(path: Path, metadata: ModelMetadata) -> None:
    """Raises ModelError unless the metadata describe a BERT text classifier, or one of words."""
    found = [f"the inputs {', '.join(map(repr, metadata.input_names)) or '(none)'}"]
    found.append(f"the tokenizer {metadata.tokenizer}" if metadata.tokenizer else "no tokenizer")
    found.append(f"{len(metadata.labels)} labels" if metadata.labels else "no labels")
    of_bert = sorted(metadata.input_names) == sorted(_INPUTS) and metadata.tokenizer == "bert"
    of_words = len(metadata.input_names) == 1 and metadata.tokenizer == "regex"
    if not ((of_bert or of_words) and metadata.labels):
        raise ModelError(
            f"{path}: its metadata name {', '.join(found)}; expected a BERT text classifier: the inputs "
            f"{', '.join(map(repr, _INPUTS))}, the tokenizer bert and a list of labels, or one input and the tokenizer regex"
        )


def _output_position(metadata: ModelMetadata) -> int:
    names = metadata.output_names
    return names.index("probability") if "probability" in names else 0


def _check_tensors(
    path: Path, metadata: ModelMetadata, inputs: Sequence[Mapping[str, Any]], output: Mapping[str, Any]
) -> None:
    """Raises ModelError unless the graph takes one text of a fixed length and gives a float for each label."""
    shapes = {tuple(tensor["shape"].tolist()) for tensor in inputs}
    [shape, *others] = sorted(shapes)
    fixed = all(tensor["shape_signature"][-1] > 0 for tensor in inputs)
    if others or len(shape) != 2 or shape[0] != 1 or not fixed or any(t["dtype"] is not np.int32 for t in inputs):
        described = ", ".join(
            f"{name} {np.dtype(tensor['dtype']).name} {tensor['shape_signature'].tolist()}"
            for name, tensor in zip(metadata.input_names, inputs, strict=True)
        )
        raise ModelError(f"{path}: its inputs are {described}; expected int32 [1, length] with one fixed length")
    if output["dtype"] is not np.float32 or output["shape"].tolist() != [1, len(metadata.labels)]:
        raise ModelError(
            f"{path}: has {len(metadata.labels)} labels, but its output is {np.dtype(output['dtype']).name} "
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
        raise DataError(f"the frame has a column `{taken[0]}` already; rename or drop it")
