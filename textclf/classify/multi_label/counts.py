"""Predicted sets of labels compared with the true ones of a table, as counts that can be added from chunk to chunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_COUNTERS = ("right", "wrong", "missed")


@dataclass
class LabelSetCounts:
    """`rows` were compared, of which `exact` have exactly the right labels. By label: `right` predictions, `wrong` ones, and
    true labels that were `missed`."""

    rows: int = 0
    exact: int = 0
    right: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)

    def count(self, predicted: Iterable[str], truth: Iterable[str]) -> None:
        """Counts a row."""
        ours, theirs = set(predicted), set(truth)
        self.rows += 1
        self.exact += ours == theirs
        self.right.update(ours & theirs)
        self.wrong.update(ours - theirs)
        self.missed.update(theirs - ours)

    def update(self, other: LabelSetCounts) -> None:
        self.rows += other.rows
        self.exact += other.exact
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))

    @property
    def exact_match(self) -> float | None:
        """The share of rows with exactly the right labels, in 0..1; None without rows."""
        return self.exact / self.rows if self.rows else None

    @property
    def micro_f1(self) -> float | None:
        """The F1 of all decisions about a label of a row, in 0..1."""
        return _f1(self.right.total(), self.wrong.total(), self.missed.total()) if self.rows else None

    @property
    def macro_f1(self) -> float | None:
        """The mean F1 of the labels that occur or are predicted, in 0..1."""
        if not self.rows:
            return None
        labels = sorted({*self.right, *self.wrong, *self.missed})
        scores = [_f1(self.right[label], self.wrong[label], self.missed[label]) for label in labels]
        return sum(scores) / len(scores) if scores else 1.0

    def by_label(self, labels: Sequence[str]) -> dict[str, dict[str, int]]:
        """Returns the counts of each label."""
        return {label: {name: getattr(self, name)[label] for name in _COUNTERS} for label in labels}

    def as_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "exact": self.exact, **{name: dict(getattr(self, name)) for name in _COUNTERS}}

    @classmethod
    def from_dict(cls, values: Any) -> LabelSetCounts:
        """Raises ValueError for what `as_dict` has not written."""
        if not isinstance(values, Mapping):
            raise ValueError("no counts of labels")
        counters = {name: values.get(name) for name in _COUNTERS}
        for one in counters.values():
            if not isinstance(one, Mapping) or not all(map(_is_count, one.values())):
                raise ValueError("no counts of labels")
        rows, exact = values.get("rows"), values.get("exact")
        if not _is_count(rows) or not _is_count(exact):
            raise ValueError("no counts of rows")
        return cls(int(rows or 0), int(exact or 0), **{name: Counter(one) for name, one in counters.items() if one})


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _f1(right: int, wrong: int, missed: int) -> float:
    total = 2 * right + wrong + missed
    return 2 * right / total if total else 1.0
