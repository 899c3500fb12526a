"""`MODEL_CARD.md`: what the users of a model need to know, with the front matter that model hubs read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from textclf.files.writing import write_text
from textclf.runs.pages.page_template import PageValues, render
from textclf.runs.record.metrics_file import RunMetrics
from textclf.runs.tasks.classification.record import ClassificationMetrics


def write_model_card(folder: Path, metrics: ClassificationMetrics) -> None:
    """Writes `MODEL_CARD.md` into the run folder.

    Front matter: https://huggingface.co/docs/hub/model-cards#model-card-metadata.
    """
    values = PageValues.of(metrics)
    headline = values.headline
    results = [
        {"type": "accuracy", "name": "Accuracy", "value": round(headline.accuracy, 4)},
        {"type": "f1", "name": "Macro-F1", "value": round(headline.macro_f1, 4)},
    ]
    task = ("text-classification", "Text classification")
    tags = ["text-classification", *architecture_of(values), "tflite", "litert", "mediapipe", "textclf"]
    facts = front_matter(values, task, "csv", results, tags, ["accuracy", "f1"])
    write_card(folder, "model_card.md", values, facts)


class CardValues(Protocol):
    """What the cards of all tasks need of the values of a page."""

    @property
    def metrics(self) -> RunMetrics: ...

    @property
    def split(self) -> str:
        """The split of the results."""

    @property
    def recipe(self) -> Mapping[str, Any] | None: ...

    @property
    def layers(self) -> int | None:
        """None if the encoder averages words."""


def architecture_of(values: CardValues) -> list[str]:
    """Returns the tag of the encoder's architecture, if it has one."""
    return ["mobilebert"] if values.layers is not None else []


def write_card(folder: Path, template: str, values: CardValues, facts: Mapping[str, Any]) -> None:
    """Writes `MODEL_CARD.md` from a template, with these facts as front matter."""
    import yaml

    recipe = values.recipe or {"training": {}, "encoder": {}, "export": {}}
    page = render(
        template,
        values,
        escape=False,
        front_matter=yaml.safe_dump(facts, sort_keys=False),
        training=flat(recipe["training"]),
        encoder_settings=recipe["encoder"],
        export_settings=recipe["export"],
    )
    write_text(folder / "MODEL_CARD.md", page)


def front_matter(
    values: CardValues,
    task: tuple[str, str],
    dataset_kind: str,
    results: Sequence[Mapping[str, Any]],
    tags: Sequence[str],
    metrics: Sequence[str],
) -> dict[str, Any]:
    """Returns what model hubs read. `task` is its type, as hubs call it, and its name; `metrics` are the types of the
    `results`."""
    kind, task_name = task
    name = values.metrics.name
    base = re.match(r"hf:([\w.-]+/[\w.-]+)", values.metrics.encoder.source)
    index = {
        "task": {"type": kind, "name": task_name},
        "dataset": {"type": dataset_kind, "name": name, "split": values.split},
        "metrics": list(results),
    }
    return {
        # Without `language`: that of the encoder is known, but not that of the texts.
        **({"base_model": base[1]} if base is not None else {}),
        "pipeline_tag": kind,
        "library_name": "tflite",
        "tags": list(tags),
        "metrics": list(metrics),
        "model-index": [{"name": name, "results": [index]}],
    }


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under the dotted names that overrides use."""
    settings_by_name: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            settings_by_name |= flat(value, f"{prefix}{name}.")
        else:
            settings_by_name[prefix + name] = value
    return settings_by_name
