"""Draws the charts of the report as SVG in the colours of the page."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from textclf.runs.record.metrics_file import Epoch
from textclf.runs.record.training_log import Step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_POINTS = 400

# Colours that matplotlib writes. They are replaced by the page's CSS variables, so that charts follow light and dark mode.
_INK, _MUTED, _RULE, _ACCENT = "#010101", "#020202", "#030303", "#040404"

_PAGE_COLOURS = {_INK: "var(--ink)", _MUTED: "var(--muted)", _RULE: "var(--rule)", _ACCENT: "var(--accent)"}

_CHART_FONT = "DejaVu Sans"  # part of matplotlib, so texts have the same size on every machine


class Quality(NamedTuple):
    """The scores of an epoch in the chart of quality: the names of two keys, and what they are."""

    main: str
    other: str
    title: str


ACCURACY_AND_F1 = Quality("validation_accuracy", "validation_macro_f1", "Accuracy and macro-F1")


# --- Charts ----------------------------------------------------------------------------------------------------------
def draw_charts(
    steps: Sequence[Step], history: Sequence[Epoch], best_epoch: int, quality: Quality = ACCURACY_AND_F1
) -> dict[str, str | None]:
    """Returns inline SVG by name, each over the epochs. Without steps there is no `learning_rate`."""
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
    # The loss of the last step is not a number if the training diverged.
    steps = [step for step in steps if math.isfinite(step.loss)]
    # Based on matplotlib's defaults, so that the user's settings file does not change the page.
    with matplotlib.style.context(["default", style]):
        return {
            "loss": _svg(_loss_chart(Figure(), steps, history, best_epoch), "Loss over the epochs"),
            "quality": _svg(_quality_chart(Figure(), history, best_epoch, quality), f"{quality.title} over the epochs"),
            "learning_rate": _svg(_rate_chart(Figure(), steps, history), "Learning rate over the epochs")
            if steps
            else None,
        }


def _loss_chart(figure: Figure, steps: Sequence[Step], history: Sequence[Epoch], best_epoch: int) -> Figure:
    axes = _axes(figure, history, steps)
    top = max(entry.validation_loss for entry in history)
    if steps:
        epochs, losses = _thinned(_epochs(steps)), _thinned([step.loss for step in steps])
        smooth = _moving_average(losses)
        top = max(top, float(smooth.max()))
        axes.plot(epochs, losses, color=_MUTED, alpha=0.3, linewidth=0.7)
        axes.plot(epochs, smooth, color=_MUTED)
    _epoch_line(axes, history, "validation_loss", color=_ACCENT)
    axes.set_ylim(0, top * 1.08 or 1)
    _mark_best(axes, best_epoch)
    return figure


def _quality_chart(figure: Figure, history: Sequence[Epoch], best_epoch: int, quality: Quality) -> Figure:
    from matplotlib.ticker import FuncFormatter

    axes = _axes(figure, history, [])
    _epoch_line(axes, history, quality.other, color=_INK, linestyle="--", linewidth=1.1)
    _epoch_line(axes, history, quality.main, color=_ACCENT)
    low = min(min(getattr(entry, quality.other), getattr(entry, quality.main)) for entry in history)
    # At least 5 points high, even if the line is flat, and never above 100 %.
    axes.set_ylim(max(0, low - max(0.05, (1 - low) * 0.1)), 1.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}%"))
    _mark_best(axes, best_epoch)
    return figure


def _rate_chart(figure: Figure, steps: Sequence[Step], history: Sequence[Epoch]) -> Figure:
    from matplotlib.ticker import FuncFormatter

    axes = _axes(figure, history, steps)
    axes.plot(_thinned(_epochs(steps)), _thinned([step.learning_rate for step in steps]), color=_INK)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:.1e}".replace("e-0", "e-") if rate else "0"))
    return figure


def _axes(figure: Figure, history: Sequence[Epoch], steps: Sequence[Step]) -> Axes:
    """Axes over all epochs, also an incomplete last one. They are small, so that the page hardly shrinks their text."""
    from matplotlib.ticker import MaxNLocator

    figure.set_size_inches(4.6, 3.0)
    figure.set_layout_engine("constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    # Of the first head alone there is only epoch 0.
    last = max(history[-1].epoch, _epochs(steps)[-1] if steps else 0) or 1
    axes.set_xlim(0, last * 1.02)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return axes


def _epoch_line(axes: Axes, history: Sequence[Epoch], key: str, **style: Any) -> None:
    marker = "o" if len(history) <= 30 else None
    axes.plot([entry.epoch for entry in history], [getattr(entry, key) for entry in history], marker=marker, **style)


def _mark_best(axes: Axes, best_epoch: int) -> None:
    axes.axvline(best_epoch, color=_ACCENT, linewidth=0.8, linestyle=":")


def _epochs(steps: Sequence[Step]) -> np.ndarray:
    """Each step as a number of epochs: 1.0 for the last step of the first epoch."""
    numbers = np.array([step.step for step in steps], np.float64)
    return numbers / sum(1 for step in steps if step.epoch == 1)


def _thinned(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Means of neighbouring values, at most `_POINTS`."""
    return np.array([part.mean() for part in np.array_split(np.asarray(values), min(len(values), _POINTS))])


def _moving_average(values: np.ndarray) -> np.ndarray:
    """Means over a twentieth of the values around each one; near the ends over fewer."""
    window = np.ones(max(1, len(values) // 20))
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def _svg(figure: Figure, description: str) -> str:
    """The figure as an SVG element in the colours and the font of the page; equal numbers give equal bytes."""
    from markupsafe import Markup

    stream = StringIO()
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    # The ids of groups would occur in every chart. The ids of shapes are hashes of the shapes, so they may repeat.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
    svg = svg.replace(f"'{_CHART_FONT}'", "var(--sans)")
    for stand_in, variable in _PAGE_COLOURS.items():
        svg = svg.replace(stand_in, variable)
    return Markup(svg)
