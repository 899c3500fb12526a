"""What a person reads: `report.html`, `MODEL_CARD.md` and the tables in the terminal.

Takes the numbers of `metrics.json`, the run folder's `log.jsonl` and the worst mistakes; writes two files and text. No
character of the data can be taken for markup, or hide.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textclf.classify.metrics import LabelMetrics, Metrics, accuracy_interval, guessing_warning
from textclf.files.writing import write_text
from textclf.terminal.door import printable, printable_lines

if TYPE_CHECKING:
    from jinja2 import Template

    from textclf.data.examples import Split
from textclf.runs.charts import draw_charts, training_steps
from textclf.terminal.tables import text_table

# Up to here a whole confusion matrix can be read: on a page, and in a terminal of 80 columns.
_GRID_LABELS = 20

_TERMINAL_GRID_LABELS = 12

_CONFUSED_PAIRS = 25

_WEAKEST_LABELS = 20

# Below this many measured rows, one row more or less moves a label's recall by over ten points.
_FEW_ROWS = 10

_WEAK_F1 = 0.5

_LONGEST_TEXT = 600

_WEIGHTS = {
    "none": "32-bit floating point, not quantised",
    "float16": "16-bit floating point",
    "dynamic": "8-bit integers",
    "int4": "4-bit integers",
}


@dataclass(frozen=True)
class Mistake:
    """A row that got a wrong label: `row` as a spreadsheet numbers it, `score` the wrong label's probability."""

    split: str
    row: int
    text: str
    label: str
    predicted: str
    score: float


@dataclass(frozen=True)
class ConfusedPair:
    """`rows` rows of `label` were given `predicted`; `share` is their part of the label's rows, in 0..1."""

    label: str
    predicted: str
    rows: int
    share: float


def worst_mistakes(split: Split, probabilities: np.ndarray, labels: Sequence[str], limit: int = 30) -> list[Mistake]:
    """Probabilities float [rows, labels] in the order of the split → its wrong rows, the most confident first."""
    predicted = probabilities.argmax(axis=1)
    scores = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != split.labels)
    worst = wrong[np.argsort(-scores[wrong], kind="stable")][:limit]
    return [
        Mistake(
            split=split.name,
            row=split.rows[index],
            text="\n".join(split.texts[index]),
            label=labels[split.labels[index]],
            predicted=labels[predicted[index]],
            score=float(scores[index]),
        )
        for index in worst
    ]


def most_confused(metrics: Metrics, limit: int = _CONFUSED_PAIRS) -> list[ConfusedPair]:
    """The pairs of true and given label that stand for most wrong rows, the largest first."""
    names = [label.label for label in metrics.per_label]
    wrong = sorted((cell for cell in metrics.confusion_cells if cell[0] != cell[1]), key=lambda cell: -cell[2])
    return [
        ConfusedPair(names[true], names[given], rows, rows / metrics.per_label[true].support)
        for true, given, rows in wrong[:limit]
    ]


# --- The terminal ----------------------------------------------------------------------------------------------------
def metrics_text(metrics: Metrics) -> str:
    """The numbers as aligned plain text, with the confusion matrix or, for many labels, the most confused pairs."""
    low, high = accuracy_interval(metrics)
    right = metrics.right_rows
    parts = [
        f"accuracy  {_percent(metrics.accuracy)}   {right:,} of {metrics.rows:,} rows; "
        f"95% confidence interval: {_percent(low)} to {_percent(high)}\n"
        f"macro-F1  {_percent(metrics.macro_f1)}   the mean of the labels' F1\n"
        f"loss      {metrics.loss:.4f}",
        text_table(
            ("label", "precision", "recall", "F1", "rows"),
            [
                (label.label, *(_percent(value) for value in _shares(label)), f"{label.support:,}")
                for label in metrics.per_label
            ],
        ),
    ]
    if len(metrics.per_label) <= _TERMINAL_GRID_LABELS:
        parts.append("Confusion matrix: true labels down, given labels across\n" + _text_grid(metrics))
    elif right < metrics.rows:
        pairs = [
            (pair.label, pair.predicted, f"{pair.rows:,}", _percent(pair.share)) for pair in most_confused(metrics)
        ]
        parts.append("Most confused labels\n" + text_table(("true label", "given label", "rows", "share"), pairs, 2))
    if (warning := guessing_warning(metrics, "measured")) is not None:
        parts.append(f"Warning: {warning}")
    return "\n\n".join(parts)


def _text_grid(metrics: Metrics) -> str:
    numbers = [str(number) for number in range(1, len(metrics.per_label) + 1)]
    rows = [
        (f"{number:>{len(numbers[-1])}} {label.label}", *(f"{count:,}" for count in counts))
        for number, label, counts in zip(numbers, metrics.per_label, metrics.confusion_matrix().tolist(), strict=True)
    ]
    return text_table(("", *numbers), rows)


# --- Numbers for people ----------------------------------------------------------------------------------------------
def _percent(share: float) -> str:
    """Never "100.0%" for what is not all, nor "0.0%" for what is not nothing."""
    if 0.9995 <= share < 1:
        return ">99.9%"
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _shares(label: LabelMetrics) -> tuple[float, float, float]:
    return label.precision, label.recall, label.f1


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


# --- What both files say ---------------------------------------------------------------------------------------------
def _measured(metrics: Mapping[str, Any]) -> dict[str, Metrics]:
    """The measured splits; the first is the one that the headline speaks of."""
    return {name: Metrics.from_dict(metrics[name]) for name in ("test", "validation") if metrics.get(name)}


def _short_names(paths: Iterable[str]) -> dict[str, str]:
    """Absolute paths → file names, with the folder where two would be the same: what may leave the machine."""
    paths = list(paths)
    shared = Counter(os.path.basename(path) for path in paths)
    return {
        path: os.path.join(*Path(path).parts[-2:]) if shared[os.path.basename(path)] > 1 else os.path.basename(path)
        for path in paths
    }


def _shown_recipe(recipe: Any) -> Any:
    """The recipe without the folders of the machine it ran on."""
    if isinstance(recipe, Mapping):
        return {key: _shown_recipe(value) for key, value in recipe.items()}
    if isinstance(recipe, list | tuple):
        return [_shown_recipe(value) for value in recipe]
    if isinstance(recipe, os.PathLike) or (isinstance(recipe, str) and os.path.isabs(recipe)):
        return os.path.basename(os.fspath(recipe))
    return recipe


def _file_of(split: str, recipe: Mapping[str, Any] | None) -> str | None:
    """The name of the file whose rows a split has: its own, or the training file where it is a share of that."""
    if not recipe:
        return None
    own = recipe["dataset"][split]
    return os.path.basename(own if isinstance(own, str) else recipe["dataset"]["train"])


def common_values(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the report and the model card both tell."""
    measured = _measured(metrics)
    split, headline = next(iter(measured.items()))
    commonest = max(headline.per_label, key=lambda label: label.support)
    names = _short_names(metrics["files"])
    recipe = metrics.get("recipe")
    warnings = metrics.get("warnings", [])
    return {
        "metrics": metrics,
        "warnings": warnings,
        "stopped": metrics.get("stopped"),
        # What the other engine tells of itself; None for a training of our own.
        "model_maker": engine if (engine := metrics.get("engine") or {}).get("name") == "model-maker" else None,
        "findings": [finding for finding in metrics["findings"] if finding not in warnings],
        "calibration": metrics.get("calibration"),
        "rejection": metrics.get("rejection"),
        "seeds": metrics.get("seeds"),
        "weights": _WEIGHTS.get(metrics["export"]["quantization"]),
        # Why there is no model.tflite, in runs that are complete without it.
        "withheld": metrics["export"].get("withheld"),
        "measured": measured,
        "split": split,
        "headline": headline,
        "right_rows": headline.right_rows,
        "interval": accuracy_interval(headline),
        "commonest": commonest,
        "files": [(names[path], digest) for path, digest in metrics["files"].items()],
        "source": _shown_recipe(metrics["encoder"]["source"]),
        "builtin": metrics["encoder"]["source"].split(":")[0] == "builtin",
        "recipe": recipe,
        "rows_file": _file_of(split, recipe),
        "is_pair": recipe is not None
        and isinstance(recipe["dataset"]["text"], list | tuple)
        and len(recipe["dataset"]["text"]) == 2,
        "seldom": [label.label for label in headline.per_label if label.support < _FEW_ROWS],
        "weak": [label for label in headline.per_label if label.support >= _FEW_ROWS and label.f1 < _WEAK_F1],
        "few_rows": _FEW_ROWS,
    }


def template(name: str, *, escape: bool) -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_visible,
    )
    environment.filters.update(
        percent=_percent,
        points=_points,
        size=_size,
        duration=_duration,
        rows=lambda count: f"{count:,}",
        markdown=markdown_text,
    )
    return environment.from_string(
        resources.files("textclf.runs").joinpath("templates").joinpath(name).read_text("utf-8")
    )


def _visible(value: object) -> object:
    """A value that a template prints, without characters that cannot be seen; markup of our own stays as it is."""
    return printable_lines(value) if type(value) is str else value


# --- The report ------------------------------------------------------------------------------------------------------
def write_report(folder: Path, metrics: dict[str, Any], mistakes: Sequence[Mistake]) -> None:
    """Writes `report.html` into the run folder: one page that needs nothing beside it.

    `metrics` is what `metrics.json` holds; the training curves come from the folder's `log.jsonl`.
    """
    import yaml

    values = common_values(metrics)
    headline: Metrics = values["headline"]
    by_weakness = sorted((label for label in headline.per_label if label.support), key=lambda label: label.f1)
    has_grid = len(headline.per_label) <= _GRID_LABELS
    recipe = yaml.safe_dump(_shown_recipe(values["recipe"]), sort_keys=False, allow_unicode=True, width=100)
    page = template("report.html", escape=True).render(
        values,
        charts=draw_charts(training_steps(folder), metrics["history"], metrics["best_epoch"]),
        grid=_grid(headline) if has_grid else None,
        pairs=most_confused(headline),
        has_training_loss="training_loss" in metrics["history"][0],
        weakest=None if has_grid else by_weakness[:_WEAKEST_LABELS],
        mistakes=mistakes,
        shortened=_shortened,
        recipe_text=recipe if values["recipe"] else None,
    )
    write_text(folder / "report.html", page)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT].rstrip() + " …"


def _grid(metrics: Metrics) -> list[tuple[LabelMetrics, list[tuple[int, float]]]]:
    """Each true label with its cells: rows, and their share of the label's rows."""
    return [
        (label, [(count, count / max(label.support, 1)) for count in counts])
        for label, counts in zip(metrics.per_label, metrics.confusion_matrix().tolist(), strict=True)
    ]


def markdown_text(text: object) -> str:
    """Text of the user's as Markdown that shows it as it is, also within a table or at the start of a line."""
    visible = printable(" ".join(str(text).split()))
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~&!$@])", r"\\\1", visible)
    return re.sub(r"^([-+=]|\d+(?=[.)]))", lambda start: _at_line_start(start[1]), escaped)


def _at_line_start(start: str) -> str:
    """What would begin a list or underline a heading there."""
    return start + "\\" if start.isdigit() else "\\" + start
