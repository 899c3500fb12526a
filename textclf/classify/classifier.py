"""Classifies texts with a finished `.tflite`. It needs only LiteRT, not TensorFlow or the training code.

The file contains everything: labels, vocabulary, tokenizer, names of inputs and outputs. It is read once. Texts of
similar length share an interpreter's shape, each core runs a separate interpreter, and equal texts are classified once.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, cast, overload

import numpy as np

from textclf.data.tables.arrow_frames import is_arrow, with_columns
from textclf.data.tables.frames import ArrowTable, as_frame, frame_columns
from textclf.data.tokens.encoded import Encoded, Overflow, TextTokenizer, pad
from textclf.data.tokens.text_windows import EncodedTexts, LongTexts, WindowPlan, encode_texts
from textclf.data.tokens.wordpiece import Tokenizer
from textclf.data.tokens.words import WordTokenizer
from textclf.errors import ArgumentError, DataError, EncoderError, ModelError
from textclf.files.model_path import model_path_of
from textclf.recipe.values import USUAL_SEPARATOR
from textclf.tflite.metadata import ModelMetadata

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Self

from textclf.classify.combining import combine_probabilities
from textclf.classify.interpreters import check_understood, usable_cores
from textclf.classify.long_texts import calls_of, long_texts_of
from textclf.classify.multi_label.metrics import predicted_sets
from textclf.classify.multi_label.thresholds import thresholds_of
from textclf.classify.opening import AnyRunner, content_of, metadata_of_content, new_runner
from textclf.classify.texts import (
    NO_TEXT,
    check_frame,
    check_is_frame,
    checked_rows,
    column_names,
    has_text,
    text_cells,
)
from textclf.classify.workers import Place, Workers, after_fork, padded_lengths, tasks_of

# Texts in progress: enough that no core waits for the tokenizer, few enough that the memory is bounded.
CALL_TEXTS = 4096

_CALLS_UNDER_WAY = 3

# The size in bytes of the cache of results for repeated texts, and the size of an entry without its probabilities.
CACHE_BYTES = 32 << 20

_BYTES_AN_ENTRY = 300


@dataclass(frozen=True)
class Prediction:
    """The most probable label, its probability, and the probability of every label.

    If that probability is below the threshold, the text is `rejected` and `label` is the model's label for "none of
    these", or "". If a text gets no label at all, `error` is the reason, the score is 0 and `scores` is empty.

    `labels` are the labels of the text: the one label, or, of a model of several labels, any number of them, in the order
    of the model's outputs. Then `label` is all of them as one text, with the model's separator, and `score` the highest
    probability.
    """

    label: str
    score: float
    scores: Mapping[str, float]
    rejected: bool = False
    error: str = ""
    labels: tuple[str, ...] = ()


class Choice(NamedTuple):
    """The result of a row of probabilities: the returned label, the index of the most probable label, and whether its
    probability was too low. `labels` are all labels of the row; then `label` is their text."""

    label: str
    best: int
    rejected: bool
    labels: tuple[str, ...]


class Classifier:
    """A text classifier read from a `.tflite` file, from the folder of a run, or from an ONNX file of textclf.

    Several threads may use it at once. The file is read once, when the classifier is made: later changes of the file or of
    the current directory have no effect. If the model reads windows (`encoder.overflow`), a text of any length gets one
    result, that of all its windows. A forked process may use its copy, and a pickled classifier includes the model.
    `num_threads` texts are classified in parallel, by default one for each core that this process may use. Results of
    repeated texts are kept in a cache of `cache_bytes`. Raises ModelError for a file that is not a text classifier with
    TFLite metadata and BERT's inputs or a regex tokenizer's, or such an ONNX file of textclf.
    """

    def __init__(
        self, model_path: str | Path, num_threads: int | None = None, *, cache_bytes: int = CACHE_BYTES
    ) -> None:
        if num_threads is not None and num_threads < 1:
            raise ArgumentError(f"num_threads is {num_threads}, expected 1 or more")
        path = model_path_of(model_path)
        self._open(str(path), Path(os.path.abspath(path)), content_of(path), num_threads or usable_cores(), cache_bytes)

    @classmethod
    def of_content(
        cls, content: bytes, name: str, path: Path, num_threads: int | None = None, *, cache_bytes: int = CACHE_BYTES
    ) -> Self:
        """Opens a model that was read elsewhere. `name` and `path` say in messages where it comes from."""
        classifier = cls.__new__(cls)
        classifier._open(name, path, content, num_threads or usable_cores(), cache_bytes)
        return classifier

    def _open(self, name: str, path: Path, content: bytes, num_threads: int, cache_bytes: int) -> None:
        self.name = name
        """The path that was passed, for messages."""
        self.path = path
        self._content = content
        self.metadata: ModelMetadata = metadata_of_content(name, content, check_understood)
        self.labels = list(self.metadata.labels)
        settings = self.metadata.settings or {}
        self.text_columns = tuple(settings.get("text", ()))
        self.label_column: str | None = settings.get("label")
        self.reject_below: float = settings.get("reject_below", 0.0)
        self.reject_label: str = settings.get("reject_label", "")
        self.thresholds = thresholds_of(name, self.metadata)
        """For a model of several labels per text, the probability from which each is predicted, [labels]; else None."""
        self.label_separator: str = settings.get("label_separator", USUAL_SEPARATOR)
        try:
            self.tokenizer = _tokenizer(self.metadata)
        except EncoderError as error:
            raise ModelError(f"{name}: {error}") from error
        self._resizable = self.metadata.resizable
        self.num_threads = num_threads
        self._cache_bytes = cache_bytes
        self._closed = False
        self._workers = self._new_workers()
        # The first interpreter is made now, so that a model that cannot run raises an error here.
        with self._workers.runner() as runner:
            self.max_length = runner.max_length
        self.long_texts = long_texts_of(name, self.metadata, self.max_length)
        """How a text of more than `max_length` tokens is read."""
        after_fork(self, Classifier._start_anew)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the classifier with the model's bytes, so that a copy is the same model everywhere."""
        return _reopened, (type(self), self.name, self.path, self._content, self.num_threads, self._cache_bytes)

    def __enter__(self) -> Classifier:
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

    def classify(self, texts: Iterable[str | Sequence[str]], *, reject_below: float | None = None) -> list[Prediction]:
        """Returns a prediction for each text. A text is a string, or two strings for a model of sentence pairs.

        `texts` is any iterable of texts. An empty text, or one of white space only, gets no label, as in
        `classify_file`. `reject_below` (0 to 1) is the threshold below which a label is withheld (default: the
        model's; of a model of several labels, each has its own). Raises DataError, with the position, for a value that is not
        a text, and ModelError if the model's output is not a number.
        """
        bound = self._bound(reject_below)
        rows = self._checked(texts)
        filled = [position for position, row in enumerate(rows) if has_text(row)]
        probabilities = self._all_probabilities([rows[position] for position in filled], filled)
        predictions = [Prediction("", 0.0, {}, error=f"empty: {NO_TEXT}")] * len(rows)
        for position, choice, row in zip(filled, self.choose(probabilities, bound), probabilities, strict=True):
            scores = dict(zip(self.labels, row.tolist(), strict=True))
            predictions[position] = Prediction(
                choice.label, float(row[choice.best]), scores, choice.rejected, labels=choice.labels
            )
        return predictions

    @overload
    def classify_frame(
        self,
        frame: pd.DataFrame,
        text_columns: str | Sequence[str] = (),
        *,
        scores: bool = False,
        reject_below: float | None = None,
        column_prefix: str = "",
    ) -> pd.DataFrame: ...

    @overload
    def classify_frame(
        self,
        frame: Sequence[Mapping[str, Any]],
        text_columns: str | Sequence[str] = (),
        *,
        scores: bool = False,
        reject_below: float | None = None,
        column_prefix: str = "",
    ) -> list[dict[str, Any]]: ...

    @overload
    def classify_frame(
        self,
        frame: ArrowTable,
        text_columns: str | Sequence[str] = (),
        *,
        scores: bool = False,
        reject_below: float | None = None,
        column_prefix: str = "",
    ) -> Any: ...

    def classify_frame(
        self,
        frame: pd.DataFrame | ArrowTable | Sequence[Mapping[str, Any]],
        text_columns: str | Sequence[str] = (),
        *,
        scores: bool = False,
        reject_below: float | None = None,
        column_prefix: str = "",
    ) -> Any:
        """Returns a copy of a frame with the columns predicted_label and predicted_score, with `scores` also
        `score:<label>`. A model of several labels adds predicted_labels in their place, all labels of a row with the model's
        separator between them; it is "" where none applies.

        The result has the kind of the frame: a pandas DataFrame, a pyarrow Table or RecordBatch, a polars DataFrame, or
        a list of copies of the dicts with these keys. Types, order and metadata of the other columns are kept. Missing
        values are null, and None in dicts. Of other objects with Arrow data (`__arrow_c_stream__`) the result is a pyarrow
        Table, and of objects that only have `to_pandas` a DataFrame.

        The texts are in `text_columns`, by default the columns that the model was trained on. A row without text gets a
        missing label and score. A row below the threshold (`reject_below`, default: the model's) gets the model's label
        for "none of these", or a missing label. `column_prefix` is put before the names of the new columns. Raises
        DataError for columns that are missing or would be replaced, and for cells that are neither text nor missing.
        """
        bound = self._bound(reject_below)
        given, frame = frame, as_frame(frame, "frame")
        check_is_frame(frame)
        columns = column_names(text_columns) or self.text_columns
        if self.text_columns and len(columns) != len(self.text_columns):
            raise DataError(
                f"text_columns names {' and '.join(columns)}, but the model was trained on "
                f"{' and '.join(self.text_columns)}; name {'one column' if len(self.text_columns) == 1 else 'two'}"
            )
        results = ["predicted_label", "predicted_score"] if self.thresholds is None else ["predicted_labels"]
        added = [*results, *(f"score:{label}" for label in self.labels if scores)]
        if not isinstance(frame, Sequence) or frame:  # an empty list has no columns that could be missing
            check_frame(frame_columns(frame), columns, [column_prefix + name for name in added])
        rows = self._checked(zip(*(text_cells(frame, column) for column in columns), strict=True))
        filled = [position for position, row in enumerate(rows) if has_text(row)]
        probabilities = np.full((len(rows), len(self.labels)), np.nan, np.float32)
        probabilities[filled] = self._all_probabilities([rows[position] for position in filled], filled)
        labels: list[str | None] = [None] * len(rows)
        for position, choice in zip(filled, self.choose(probabilities[filled], bound), strict=True):
            labels[position] = choice.label or (None if self.thresholds is None else "")
        values: dict[str, Any] = dict(zip(results, (labels, probabilities.max(axis=1)), strict=False))
        if scores:
            values.update({f"score:{label}": probabilities[:, index] for index, label in enumerate(self.labels)})
        named = {column_prefix + name: value for name, value in values.items()}
        if isinstance(frame, Sequence):
            return [
                {**row, **{name: _json_value(value[position]) for name, value in named.items()}}
                for position, row in enumerate(frame)
            ]
        return with_columns(given, frame, named) if is_arrow(frame) else cast("pd.DataFrame", frame).assign(**named)

    def probabilities(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Takes texts as tuples of one or two strings and returns probabilities float32 [texts, labels].

        Raises DataError as `classify` does, and ModelError if the model's output is not a number.
        """
        rows = self._checked(texts)
        return self._all_probabilities(rows, range(len(rows)))

    def first_window_probabilities(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Does the same as `probabilities` with only the first window of each text, which is what other runtimes read.

        For models that do not read windows, the result is that of `probabilities`.
        """
        rows = self._checked(texts)
        return self._all_probabilities(rows, range(len(rows)), self._part_of_other_runtimes)

    def probabilities_at_full_length(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Does the same as `first_window_probabilities` with each text padded to `max_length`, as in other runtimes; 8-bit
        rounding differs."""
        rows = self._checked(texts)
        encoded = self.tokenizer.encode(rows, self.max_length, self._part_of_other_runtimes)
        result = self._run(self._open_workers(), encoded, np.arange(len(rows)), self.max_length)
        return self._checked_numbers(result, range(len(rows)))

    def choose(self, probabilities: np.ndarray, reject_below: float | None = None) -> list[Choice]:
        """Returns the result of each row of probabilities. Only this function applies the threshold.

        Of a model of several labels, `reject_below` takes the place of the threshold of each label.
        """
        if self.thresholds is not None:
            return self._choose_several(probabilities, reject_below)
        bound = self.reject_below if reject_below is None else reject_below
        best = probabilities.argmax(axis=1)
        # This form also rejects labels whose probability is not a number.
        rejected = ~(probabilities[np.arange(len(best)), best] >= bound)
        chosen = [
            (self.reject_label if is_rejected else self.labels[index], index, is_rejected)
            for index, is_rejected in zip(best.tolist(), rejected.tolist(), strict=True)
        ]
        return [Choice(label, index, is_rejected, (label,) if label else ()) for label, index, is_rejected in chosen]

    def _choose_several(self, probabilities: np.ndarray, bound: float | None) -> list[Choice]:
        thresholds = self.thresholds if bound is None else np.full(len(self.labels), bound)
        assert thresholds is not None
        choices = []
        for row, best in zip(
            predicted_sets(probabilities, thresholds), probabilities.argmax(axis=1).tolist(), strict=True
        ):
            labels = tuple(self.labels[index] for index in np.flatnonzero(row).tolist())
            choices.append(Choice(self.label_separator.join(labels), best, False, labels))
        return choices

    def submit(self, texts: Sequence[tuple[str, ...]]) -> Pending:
        """Starts to classify texts and returns at once an object that will have their probabilities.

        The texts are tokenized before this returns; the interpreters' threads do the rest. Raises DataError as
        `classify` does.
        """
        return self._submit(self._checked(texts))

    def close(self) -> None:
        """Ends the threads without waiting for them and cancels tasks that have not started.

        Later calls raise RuntimeError.
        """
        workers = self._workers
        with workers.lock:
            self._closed = True
            workers.close()

    @property
    def seconds_in_interpreters(self) -> float:
        """The time spent inside LiteRT so far, summed over the interpreters of this process."""
        return self._workers.seconds

    @property
    def strings_per_text(self) -> set[int]:
        """How many strings a text may have: 1, 2 for sentence pairs, or either if the model does not say."""
        only_single = self.tokenizer.kind == "regex" or isinstance(self.long_texts, WindowPlan)
        return {len(self.text_columns)} if self.text_columns else {1} if only_single else {1, 2}

    def _checked(self, texts: Iterable[str | Sequence[str]]) -> list[tuple[str, ...]]:
        self._open_workers()
        return checked_rows(texts, self.strings_per_text, " and ".join(self.text_columns))

    def _bound(self, reject_below: float | None) -> float | None:
        if reject_below is None:
            return None
        if not isinstance(reject_below, int | float | np.number) or not 0.0 <= reject_below <= 1.0:
            raise ArgumentError(f"reject_below is {reject_below!r}; give a probability from 0 to 1")
        return reject_below

    @property
    def _part_of_other_runtimes(self) -> Overflow:
        return "head" if isinstance(self.long_texts, WindowPlan) else self.long_texts

    def _all_probabilities(
        self, rows: Sequence[tuple[str, ...]], positions: Sequence[int], long_texts: LongTexts | None = None
    ) -> np.ndarray:
        """`positions` are the positions of the rows in the caller's texts, for messages; `long_texts` as in `_submit`."""
        results: list[np.ndarray] = [np.zeros((0, len(self.labels)), np.float32)]
        under_way: deque[Pending] = deque()
        try:
            for call in calls_of(rows, CALL_TEXTS):
                under_way.append(self._submit(call, long_texts))
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

    def _submit(self, rows: Sequence[tuple[str, ...]], long_texts: LongTexts | None = None) -> Pending:
        """`long_texts` is how a long text is read (default: as the model's settings say)."""
        read = encode_texts(self.tokenizer, rows, self.max_length, long_texts or self.long_texts)
        encoded = read.encoded
        keys = _keys(encoded)
        places: dict[bytes, Place | None] = {}
        fresh: list[int] = []
        workers = self._workers
        with workers.lock:
            self._open_workers()
            for row, key in enumerate(keys):
                if key not in places:
                    places[key] = workers.known.get(key)
                    if places[key] is None:
                        fresh.append(row)
            numbers = np.asarray(fresh, np.int64)
            for rows_of_task, length in tasks_of(numbers, self._padded(encoded.lengths[numbers])):
                future = workers.pool.submit(self._run, workers, encoded, rows_of_task, length)
                for position, row in enumerate(rows_of_task.tolist()):
                    places[keys[row]] = workers.known[keys[row]] = future, position
        own = [keys[row] for row in fresh]
        return Pending(self, workers, read, keys, own, cast("dict[bytes, Place]", places))

    def _open_workers(self) -> Workers:
        if self._closed:
            raise RuntimeError(f"{self.name}: this Classifier is closed; open the model again with Classifier(…)")
        return self._workers

    def _start_anew(self) -> None:
        """Makes new workers in a forked process: the threads do not exist there, and their locks may be held forever."""
        self._workers.leave_behind()
        self._workers = self._new_workers()
        if isinstance(self.tokenizer, WordTokenizer):  # its regular expressions have locks too
            self.tokenizer = _tokenizer(self.metadata)

    def _new_workers(self) -> Workers:
        entries = self._cache_bytes // (_BYTES_AN_ENTRY + 4 * len(self.labels))
        return Workers(self.num_threads, self._new_runner, entries)

    def _new_runner(self) -> AnyRunner:
        return new_runner(self.name, self._content, self.metadata)

    def _padded(self, lengths: np.ndarray) -> np.ndarray:
        return padded_lengths(lengths, self.max_length, resizable=self._resizable)

    def _run(self, workers: Workers, encoded: Encoded, rows: np.ndarray, length: int) -> np.ndarray:
        """Runs rows of an Encoded at one length and returns probabilities float32 [rows, labels]."""
        tokens = pad(encoded, rows, length)
        results = [np.zeros((0, len(self.labels)), np.float32)]
        with workers.runner() as runner:
            results += [runner.run(tokens.row(row)) for row in range(len(rows))]
        return np.concatenate(results)


def _reopened(
    kind: type[Classifier], name: str, path: Path, content: bytes, num_threads: int, cache_bytes: int
) -> Classifier:
    return kind.of_content(content, name, path, num_threads, cache_bytes=cache_bytes)


class Pending:
    """Texts that are being classified."""

    def __init__(
        self,
        classifier: Classifier,
        workers: Workers,
        read: EncodedTexts,
        keys: Sequence[bytes],
        own: Sequence[bytes],
        places: Mapping[bytes, Place],
    ) -> None:
        self._classifier = classifier
        self._workers = workers
        self._encoded = read.encoded
        self._texts = read.texts
        self._keys = keys
        self._own = own
        self._places = places
        self.truncated: np.ndarray = read.truncated
        """bool [texts]: which texts were truncated."""

    def result(self) -> np.ndarray:
        """Waits for the probabilities, float32 [texts, labels]. Raises RuntimeError if the classifier was closed."""
        try:
            values = {key: self._value(key, place) for key, place in self._places.items()}
        except BaseException:
            self.cancel()
            raise
        self._workers.settle({key: values[key] for key in self._own})
        result = np.empty((len(self._keys), len(self._classifier.labels)), np.float32)
        for row, key in enumerate(self._keys):
            result[row] = values[key]
        return combine_probabilities(result, self._texts, several_labels=self._classifier.thresholds is not None)

    def cancel(self) -> None:
        """Cancels tasks that have not started."""
        if not self._is_here():
            return
        for key in self._own:
            place = self._places[key]
            if isinstance(place, tuple):
                place[0].cancel()
        self._workers.settle(dict.fromkeys(self._own))

    def _is_here(self) -> bool:
        """False in a process that was forked after this was started: the results will never arrive there."""
        return self._workers is self._classifier._workers

    def _value(self, key: bytes, place: Place) -> np.ndarray:
        if isinstance(place, bytes):
            return np.frombuffer(place, np.float32)
        future, position = place
        if self._is_here():
            try:
                value: np.ndarray = future.result()[position]
                return value
            except CancelledError:
                self._classifier._open_workers()
                if key in self._own:
                    raise
        # Another caller started this text and cancelled it, or another process has it.
        row = np.array([self._keys.index(key)])
        length = int(self._classifier._padded(self._encoded.lengths[row])[0])
        computed: np.ndarray = self._classifier._run(self._classifier._open_workers(), self._encoded, row, length)[0]
        return computed


# --- Numbers and keys ------------------------------------------------------------------------------------------------
NOT_A_NUMBER = "is not a number (NaN or infinity)"


def are_numbers(probabilities: np.ndarray) -> np.ndarray:
    """Returns bool [rows]: which rows contain only numbers."""
    finite: np.ndarray = np.isfinite(probabilities).all(axis=1)
    return finite


def _json_value(value: str | np.floating | None) -> str | float | None:
    """Returns a value of a table as Python's own type, None for NaN."""
    return value if value is None or isinstance(value, str) else None if np.isnan(value) else float(value)


def _keys(encoded: Encoded) -> list[bytes]:
    """Returns a short key for each row. Keys are equal if ids and segments are equal."""
    content = encoded.flat_ids.tobytes()
    ends = (encoded.offsets * encoded.flat_ids.itemsize).tolist()
    firsts = encoded.first_lengths.tolist()
    return [
        hashlib.blake2b(content[begin:end] + first.to_bytes(4, "little"), digest_size=16).digest()
        for begin, end, first in zip(ends, ends[1:], firsts, strict=False)
    ]


# --- What can be understood ------------------------------------------------------------------------------------------
def _tokenizer(metadata: ModelMetadata) -> TextTokenizer:
    if metadata.tokenizer == "regex":
        return WordTokenizer(metadata.vocabulary, metadata.delimiter_pattern or "")
    return Tokenizer(metadata.vocabulary, (metadata.settings or {}).get("tokenizer", "device"))
