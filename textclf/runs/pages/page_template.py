"""The templates of the report and the model card, and the values that both of them show.

No character of the data can be taken for markup, and none is invisible.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textclf.classify.metrics import LabelMetrics, Metrics, accuracy_interval
from textclf.data.findings.finding import counted
from textclf.runs.pages.formats import duration, markdown_text, percent, points, signed_points, size
from textclf.runs.record.metrics_file import Engine, Seeds
from textclf.runs.record.private_paths import short_names, without_folders
from textclf.runs.tasks.classification.long_texts import LongTexts, SplitWindows
from textclf.runs.tasks.classification.record import Calibration, ClassificationMetrics, Estimate
from textclf.terminal.door import printable_lines
from textclf.training.classification.calibration import Rejection

if TYPE_CHECKING:
    from jinja2 import Template

# With fewer measured rows, one row more or less changes a label's recall by more than ten points.
FEW_ROWS = 10

WEAK_F1 = 0.5

WEIGHTS = {
    "none": "32-bit floating point, not quantised",
    "float16": "16-bit floating point",
    "dynamic": "8-bit integers",
    "int4": "4-bit integers",
}


@dataclass(frozen=True)
class PageValues:
    """The values of a page. `headline` holds the metrics of `split`, which the page reports first."""

    metrics: ClassificationMetrics
    warnings: list[str]
    findings: list[str]
    stopped: str | None
    model_maker: Engine | None
    """None if textclf trained the model itself."""

    layers: int | None
    """None if the encoder averages words."""

    calibration: Calibration | None
    rejection: Mapping[str, Rejection] | None
    seeds: Seeds | None
    weights: str | None
    withheld: str | None
    measured: dict[str, Metrics]
    split: str
    headline: Metrics
    estimate: Estimate | None
    right_rows: int
    interval: tuple[float, float]
    most_frequent: LabelMetrics
    files: list[tuple[str, str]]
    source: str
    is_builtin: bool
    recipe: Mapping[str, Any] | None
    rows_file: str | None
    long_texts: LongTexts | None
    first_window: SplitWindows | None
    """What an app sees of the reported split; None unless the model reads windows."""

    is_pair: bool
    rare: list[str]
    weak: list[LabelMetrics]
    few_rows: int

    @classmethod
    def of(cls, metrics: ClassificationMetrics) -> PageValues:
        measured = metrics.measured
        split, headline = next(iter(measured.items()))
        names = short_names([Path(name) for name in metrics.files])
        recipe = without_folders(metrics.recipe)
        return cls(
            metrics=metrics,
            warnings=list(metrics.warnings),
            findings=[finding for finding in metrics.findings if finding not in metrics.warnings],
            stopped=metrics.stopped,
            model_maker=metrics.engine if metrics.engine.name == "model-maker" else None,
            layers=metrics.encoder.configured("num_hidden_layers"),
            calibration=metrics.calibration,
            rejection=metrics.rejection,
            seeds=metrics.seeds,
            weights=WEIGHTS.get(metrics.export.quantization or ""),
            withheld=metrics.export.withheld,
            measured=measured,
            split=split,
            headline=headline,
            estimate=metrics.estimate,
            right_rows=headline.right_rows,
            interval=accuracy_interval(headline),
            most_frequent=max(headline.per_label, key=lambda label: label.support),
            files=[(names[Path(name)], digest) for name, digest in metrics.files.items()],
            source=without_folders(metrics.encoder.source),
            is_builtin=metrics.encoder.source.split(":")[0] == "builtin",
            recipe=recipe,
            rows_file=file_of(split, recipe),
            long_texts=metrics.long_texts,
            first_window=metrics.long_texts.splits.get(split) if metrics.long_texts is not None else None,
            is_pair=recipe is not None and len(recipe["dataset"]["text"]) == 2,
            rare=[label.label for label in headline.per_label if label.support < FEW_ROWS],
            weak=[label for label in headline.per_label if label.support >= FEW_ROWS and label.f1 < WEAK_F1],
            few_rows=FEW_ROWS,
        )


def file_of(split: str, recipe: Mapping[str, Any] | None) -> str | None:
    """The name of the file with the rows of a split: its own, or the training file if the split is a fraction of it."""
    if not recipe:
        return None
    own = recipe["dataset"][split]
    named = own if isinstance(own, str | list) else recipe["dataset"]["train"]
    first, *more = [named] if isinstance(named, str) else named
    return os.path.basename(first) + (f" and {len(more)} more" if more else "")


def render(name: str, values: Any, *, escape: bool, **more: Any) -> str:
    """The page that the template `name` makes of the attributes of `values`; `escape` for HTML."""
    return _template(name, escape=escape).render(vars(values), **more)


@cache
def _template(name: str, *, escape: bool) -> Template:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(template_file),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_visible,
    )
    environment.filters.update(
        percent=percent,
        points=points,
        signed_points=signed_points,
        size=size,
        duration=duration,
        number=lambda count: f"{count:,}",
        counted=counted,
        interval=accuracy_interval,
        markdown=markdown_text,
    )
    return environment.get_template(name)


def template_file(name: str) -> str:
    """Returns the text of a file of the pages."""
    return resources.files("textclf.runs.pages").joinpath("templates").joinpath(name).read_text("utf-8")


def _visible(value: object) -> object:
    """A value that a template prints, with invisible characters written out; markup of the template is unchanged."""
    return printable_lines(value) if type(value) is str else value
