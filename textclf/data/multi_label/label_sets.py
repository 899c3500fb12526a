"""The labels of a row: as a cell of text, as a set of names, and as an array.

Between reading and splitting, `Examples.labels` holds the set of each row as one text, `set_text`, so that rows with equal
sets are equal. In a `Split`, `labels` is bool [rows, labels].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from textclf.data.tables.formats.records import ListCell

# No label contains a line break, because a model's label file has one label on each line.
_BETWEEN = "\n"

_FLAGS = {"1": True, "1.0": True, "true": True, "yes": True, "0": False, "0.0": False, "false": False, "no": False}

# A set of labels with fewer rows is split together with others of its rarest label.
_LEAST_ROWS_OF_SET = 10


def set_text(labels: Iterable[str]) -> str:
    """Returns a set of labels as one text: equal for equal sets, "" for none."""
    return _BETWEEN.join(sorted(set(labels)))


def labels_of(text: str) -> tuple[str, ...]:
    """Returns the labels of a text that `set_text` made, in alphabetical order."""
    return tuple(text.split(_BETWEEN)) if text else ()


def parts_of(cell: str, separator: str | None) -> list[str]:
    """Returns the labels that are written in a cell, without the blanks around them; empty parts are left out.

    The elements of a list are labels, whatever the separator. Without a separator, a text is one label.
    """
    if isinstance(cell, ListCell):
        written = [str(value) for value in cell.values]
    else:
        written = [cell] if separator is None else cell.split(separator)
    return [part for part in (part.strip() for part in written) if part]


def kind_of_element(value: object) -> str | None:
    """Returns what an element of a list is; None for one that can be a label: a text, or a whole number, which is the text of
    its digits."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str | int):
        return None
    if isinstance(value, float):
        return "a number that is not whole"
    return "another list" if isinstance(value, list | tuple) else "an object"


def flag_of(cell: str) -> bool | None:
    """Returns whether a cell says that a label applies: 0 or 1, no or yes, false or true; None for anything else."""
    return _FLAGS.get(cell.strip().casefold())


def as_arrays(texts: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Returns which of the `labels` each text of `set_text` has: bool [rows, labels]."""
    index_of = {label: index for index, label in enumerate(labels)}
    arrays = np.zeros((len(texts), len(labels)), bool)
    for row, text in enumerate(texts):
        for label in labels_of(text):
            arrays[row, index_of[label]] = True
    return arrays


def rarest_labels(texts: Sequence[str]) -> list[str]:
    """Returns the rarest label of each row, "" for a row without labels; of equally rare ones the first in the alphabet."""
    counts = Counter(label for text in texts for label in labels_of(text))
    return [min(labels_of(text), key=lambda label: (counts[label], label), default="") for text in texts]


def strata_of(texts: Sequence[str]) -> list[int]:
    """Returns the stratum of each row for a stratified split.

    Rows of a frequent set of labels are a stratum. Rows of rare sets, which could not be divided, are one with the others
    of their rarest label: so every label keeps about its share in each split.
    """
    rows_of_set = Counter(texts)
    rarest = rarest_labels(texts)
    names = [
        ("set", text) if rows_of_set[text] >= _LEAST_ROWS_OF_SET else ("label", label)
        for text, label in zip(texts, rarest, strict=True)
    ]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return [numbers[name] for name in names]
