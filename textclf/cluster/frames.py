"""Labels for a Dask DataFrame, as a lazy step of a person's own program, on any of Dask's schedulers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textclf import extras
from textclf.classify.classifier import Classifier
from textclf.cluster.workers import ModelBytes, Once, interpreter_threads
from textclf.errors import ArgumentError

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd

# Open models of this process, the last used ones.
_MOST_OPEN = 4

_OPEN: OrderedDict[tuple[str, int], Once] = OrderedDict()

_LOCK = threading.Lock()


def classify(
    ddf: dd.DataFrame,
    model: str | Path | Classifier,
    text_columns: str | Sequence[str] = (),
    *,
    scores: bool = False,
    reject_below: float | None = None,
    column_prefix: str = "",
    num_threads: int | None = None,
) -> dd.DataFrame:
    """Returns a Dask DataFrame with the columns predicted_label and predicted_score, with `scores` also `score:<label>`.

    Nothing is computed before the result is. Index, order, divisions and the other columns are kept. The arguments are those
    of `Classifier.classify_frame`, which computes each partition. The model travels to each worker once, as bytes whose hash
    is checked, and each worker process opens it once; with Dask's scheduler of processes on one machine, the bytes go to a
    process with each partition. `num_threads` is the number of interpreters in each process (default: the threads of a Dask
    worker; all cores where everything runs in this process).

    Raises ArgumentError for what is no Dask DataFrame, DataError for columns that are missing or would be replaced, and
    ModelError for what is no classifier.
    """
    extras.require("dask", "to classify a Dask DataFrame")
    import dask
    import dask.dataframe as dd

    if not isinstance(ddf, dd.DataFrame):
        raise ArgumentError(
            f"ddf is a {type(ddf).__name__}, expected a Dask DataFrame; make one with dask.dataframe.from_pandas, or use "
            "Classifier.classify_frame"
        )
    opened = model if isinstance(model, Classifier) else Classifier(model, num_threads=1)
    columns = [text_columns] if isinstance(text_columns, str) else list(text_columns)
    sent = ModelBytes(opened.content, opened.sha256, opened.name, opened.path)
    options = _Options(tuple(columns), scores, reject_below, column_prefix)
    meta = options.classified(opened, ddf._meta)
    # As a value of its own in the graph, the model is sent once to a worker and not with each task.
    content = dask.delayed(sent, name=f"textclf-model-{sent.sha256[:16]}", traverse=False)
    return ddf.map_partitions(_classified, content, options, num_threads, meta=meta)


@dataclass(frozen=True)
class _Options:
    """Arguments of `classify_frame`."""

    text_columns: tuple[str, ...]
    scores: bool
    reject_below: float | None
    column_prefix: str

    def classified(self, classifier: Classifier, frame: pd.DataFrame) -> pd.DataFrame:
        """Returns the frame with labels of the type that its texts have, also where no row has one."""
        import pandas as pd

        labelled = classifier.classify_frame(
            frame,
            self.text_columns,
            scores=self.scores,
            reject_below=self.reject_below,
            column_prefix=self.column_prefix,
        )
        [text, *_] = self.text_columns or classifier.text_columns
        dtype = frame[text].dtype
        if not isinstance(dtype, pd.StringDtype):
            dtype = pd.Series(["a"]).dtype
        typed: pd.DataFrame = labelled.astype({f"{self.column_prefix}predicted_label": dtype})
        return typed


def _classified(frame: pd.DataFrame, model: ModelBytes, options: _Options, num_threads: int | None) -> pd.DataFrame:
    return options.classified(_opened(model, num_threads or interpreter_threads()), frame)


def _opened(model: ModelBytes, num_threads: int) -> Classifier:
    key = (model.sha256, num_threads)
    with _LOCK:
        once = _OPEN.setdefault(
            key, Once(lambda: Classifier.of_content(model.checked_content(), model.name, model.path, num_threads))
        )
        _OPEN.move_to_end(key)
        while len(_OPEN) > _MOST_OPEN:
            _OPEN.popitem(last=False)
    classifier: Classifier = once()
    return classifier
