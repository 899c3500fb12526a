"""What a person reads: `report.html`, `MODEL_CARD.md` and the tables in the terminal.

Takes the numbers of `metrics.json`, the run folder's `log.jsonl` and the worst mistakes; writes two files and text. No
character of the data can be taken for markup, or hide.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textclf.evaluation import LabelMetrics, Metrics, accuracy_interval, guessing_warning
from textclf.files import write_text
from textclf.terminal import printable, printable_lines

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from textclf.dataset import Split

# Up to here a whole confusion matrix can be read: on a page, and in a terminal of 80 columns.
_GRID_LABELS = 20
_TERMINAL_GRID_LABELS = 12
_CONFUSED_PAIRS = 25
_WEAKEST_LABELS = 20
# Below this many measured rows, one row more or less moves a label's recall by over ten points.
_FEW_ROWS = 10
_WEAK_F1 = 0.5
_LONGEST_TEXT = 600
_POINTS = 400

_WEIGHTS = {
    "none": "32-bit floating point, not quantised",
    "float16": "16-bit floating point",
    "dynamic": "8-bit integers",
    "int4": "4-bit integers",
}

# Stand-ins that matplotlib writes and that become the page's CSS variables, so that charts follow light and dark.
_INK, _MUTED, _RULE, _ACCENT = "#010101", "#020202", "#030303", "#040404"
_PAGE_COLOURS = {_INK: "var(--ink)", _MUTED: "var(--muted)", _RULE: "var(--rule)", _ACCENT: "var(--accent)"}
_CHART_FONT = "DejaVu Sans"  # comes with matplotlib: the same measures on every machine


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


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], left_columns: int = 1) -> str:
    """Columns as wide as the terminal shows their widest cell; all but the first `left_columns` are set right."""
    from rich.cells import cell_len

    lines = [[printable(cell) for cell in line] for line in (header, *rows)]
    widths = [max(cell_len(line[column]) for line in lines) for column in range(len(header))]

    def aligned(line: Sequence[str]) -> str:
        cells = []
        for column, (cell, width) in enumerate(zip(line, widths, strict=True)):
            space = " " * (width - cell_len(cell))
            cells.append(cell + space if column < left_columns else space + cell)
        return "  ".join(cells).rstrip()

    return "\n".join(aligned(line) for line in lines)


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


def _common_values(metrics: Mapping[str, Any]) -> dict[str, Any]:
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


def _template(name: str, *, escape: bool) -> Template:
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
        markdown=_markdown,
    )
    return environment.from_string(resources.files("textclf").joinpath(name).read_text("utf-8"))


def _visible(value: object) -> object:
    """A value that a template prints, without characters that cannot be seen; markup of our own stays as it is."""
    return printable_lines(value) if type(value) is str else value


# --- The report ------------------------------------------------------------------------------------------------------


def write_report(folder: Path, metrics: dict[str, Any], mistakes: Sequence[Mistake]) -> None:
    """Writes `report.html` into the run folder: one page that needs nothing beside it.

    `metrics` is what `metrics.json` holds; the training curves come from the folder's `log.jsonl`.
    """
    import yaml

    values = _common_values(metrics)
    headline: Metrics = values["headline"]
    by_weakness = sorted((label for label in headline.per_label if label.support), key=lambda label: label.f1)
    has_grid = len(headline.per_label) <= _GRID_LABELS
    recipe = yaml.safe_dump(_shown_recipe(values["recipe"]), sort_keys=False, allow_unicode=True, width=100)
    page = _template("report_template.html", escape=True).render(
        values,
        charts=_charts(_training_steps(folder), metrics["history"], metrics["best_epoch"]),
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


def _training_steps(folder: Path) -> list[dict[str, Any]]:
    log = folder / "log.jsonl"
    if not log.exists():
        return []
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    # A training that diverged ends with a loss that is no number, and no chart can show.
    return [entry for entry in entries if entry["event"] == "step" and math.isfinite(entry["loss"])]


# --- Charts ----------------------------------------------------------------------------------------------------------


def _charts(steps: list[dict[str, Any]], history: list[dict[str, Any]], best_epoch: int) -> dict[str, str | None]:
    """Inline SVG by name, each over the epochs; None for what only a log can tell."""
    import matplotlib.style
    from matplotlib.figure import Figure

    style = {
        "svg.hashsalt": "textclf",
        "svg.fonttype": "none",
        "font.family": _CHART_FONT,
        "font.size": 9.5,
        "axes.edgecolor": _RULE,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": _RULE,
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.6,
        "lines.markersize": 4,
        "xtick.color": _RULE,
        "ytick.color": _RULE,
        "xtick.labelcolor": _MUTED,
        "ytick.labelcolor": _MUTED,
        "ytick.left": False,
        "axes.labelcolor": _MUTED,
    }
    # From matplotlib's own defaults, so that nobody's settings file changes the page.
    with matplotlib.style.context(["default", style]):
        return {
            "loss": _svg(_loss_chart(Figure(), steps, history, best_epoch), "Loss over the epochs"),
            "quality": _svg(_quality_chart(Figure(), history, best_epoch), "Accuracy and macro-F1 over the epochs"),
            "learning_rate": _svg(_rate_chart(Figure(), steps, history), "Learning rate over the epochs")
            if steps
            else None,
        }


def _loss_chart(figure: Figure, steps: list[dict[str, Any]], history: list[dict[str, Any]], best_epoch: int) -> Figure:
    axes = _axes(figure, history, steps)
    top = max(entry["validation_loss"] for entry in history)
    if steps:
        epochs, losses = _thinned(_epochs(steps)), _thinned([step["loss"] for step in steps])
        smooth = _moving_average(losses)
        top = max(top, float(smooth.max()))
        axes.plot(epochs, losses, color=_MUTED, alpha=0.3, linewidth=0.7)
        axes.plot(epochs, smooth, color=_MUTED)
    _epoch_line(axes, history, "validation_loss", color=_ACCENT)
    axes.set_ylim(0, top * 1.08 or 1)
    _mark_best(axes, best_epoch)
    return figure


def _quality_chart(figure: Figure, history: list[dict[str, Any]], best_epoch: int) -> Figure:
    from matplotlib.ticker import FuncFormatter

    axes = _axes(figure, history, [])
    _epoch_line(axes, history, "validation_macro_f1", color=_INK, linestyle="--", linewidth=1.1)
    _epoch_line(axes, history, "validation_accuracy", color=_ACCENT)
    low = min(min(entry["validation_macro_f1"], entry["validation_accuracy"]) for entry in history)
    # Some height even where all is flat, and never beyond 100 %.
    axes.set_ylim(max(0, low - max(0.05, (1 - low) * 0.1)), 1.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}%"))
    _mark_best(axes, best_epoch)
    return figure


def _rate_chart(figure: Figure, steps: list[dict[str, Any]], history: list[dict[str, Any]]) -> Figure:
    from matplotlib.ticker import FuncFormatter

    axes = _axes(figure, history, steps)
    axes.plot(_thinned(_epochs(steps)), _thinned([step["learning_rate"] for step in steps]), color=_INK)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:.1e}".replace("e-0", "e-") if rate else "0"))
    return figure


def _axes(figure: Figure, history: list[dict[str, Any]], steps: list[dict[str, Any]]) -> Axes:
    """Axes over all epochs, the last one perhaps begun only; small, so that the page never has to shrink the letters much."""
    from matplotlib.ticker import MaxNLocator

    figure.set_size_inches(4.6, 3.0)
    figure.set_layout_engine("constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    last = max(history[-1]["epoch"], _epochs(steps)[-1] if steps else 0)
    axes.set_xlim(0, last * 1.02)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return axes


def _epoch_line(axes: Axes, history: list[dict[str, Any]], key: str, **style: Any) -> None:
    marker = "o" if len(history) <= 30 else None
    axes.plot([entry["epoch"] for entry in history], [entry[key] for entry in history], marker=marker, **style)


def _mark_best(axes: Axes, best_epoch: int) -> None:
    axes.axvline(best_epoch, color=_ACCENT, linewidth=0.8, linestyle=":")


def _epochs(steps: list[dict[str, Any]]) -> np.ndarray:
    """Steps as epochs done: 1.0 at the last step of the first epoch."""
    numbers = np.array([step["step"] for step in steps], np.float64)
    return numbers / sum(1 for step in steps if step["epoch"] == 1)


def _thinned(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """At most `_POINTS` means of neighbours."""
    return np.array([part.mean() for part in np.array_split(np.asarray(values), min(len(values), _POINTS))])


def _moving_average(values: np.ndarray) -> np.ndarray:
    """Over a twentieth of the values, centred; near the ends over those that exist."""
    window = np.ones(max(1, len(values) // 20))
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def _svg(figure: Figure, description: str) -> str:
    """The figure as an SVG element in the page's own colours and letters, the same bytes for the same numbers."""
    from markupsafe import Markup

    stream = StringIO()
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    # Names of groups would repeat in each chart; the ids of shapes are hashes of the shapes and may.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
    svg = svg.replace(f"'{_CHART_FONT}'", "var(--sans)")
    for stand_in, variable in _PAGE_COLOURS.items():
        svg = svg.replace(stand_in, variable)
    return Markup(svg)


# --- The model card --------------------------------------------------------------------------------------------------


def write_model_card(folder: Path, metrics: dict[str, Any]) -> None:
    """Writes `MODEL_CARD.md` into the run folder, with the front matter that model hubs read.

    Front matter: https://huggingface.co/docs/hub/model-cards#model-card-metadata.
    """
    import yaml

    values = _common_values(metrics)
    front = yaml.safe_dump(_front_matter(metrics, values), sort_keys=False)
    recipe = values["recipe"] or {"training": {}, "encoder": {}, "export": {}}
    page = _template("model_card_template.md", escape=False).render(
        values,
        front_matter=front,
        training=_flat(recipe["training"]),
        encoder_settings=recipe["encoder"],
        export_settings=recipe["export"],
    )
    write_text(folder / "MODEL_CARD.md", page)


def _front_matter(metrics: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    headline: Metrics = values["headline"]
    results = [
        {"type": "accuracy", "name": "Accuracy", "value": round(headline.accuracy, 4)},
        {"type": "f1", "name": "Macro-F1", "value": round(headline.macro_f1, 4)},
    ]
    task = {"type": "text-classification", "name": "Text classification"}
    dataset = {"type": "csv", "name": metrics["name"], "split": values["split"]}
    source = metrics["encoder"]["source"]
    architecture = ["mobilebert"] if "num_hidden_layers" in metrics["encoder"] else []
    return {
        # No `language`: the encoder's is known, that of the texts is not.
        **({"base_model": base[1]} if (base := re.match(r"hf:([\w.-]+/[\w.-]+)", source)) else {}),
        "pipeline_tag": "text-classification",
        "library_name": "tflite",
        "tags": ["text-classification", *architecture, "tflite", "litert", "mediapipe", "textclf"],
        "metrics": ["accuracy", "f1"],
        "model-index": [{"name": metrics["name"], "results": [{"task": task, "dataset": dataset, "metrics": results}]}],
    }


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by the dotted names that overrides use."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _markdown(text: object) -> str:
    """Text of the user's as Markdown that shows it as it is, also within a table or at the start of a line."""
    visible = printable(" ".join(str(text).split()))
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~&!$@])", r"\\\1", visible)
    return re.sub(r"^([-+=]|\d+(?=[.)]))", lambda start: _at_line_start(start[1]), escaped)


def _at_line_start(start: str) -> str:
    """What would begin a list or underline a heading there."""
    return start + "\\" if start.isdigit() else "\\" + start
