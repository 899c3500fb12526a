"""`MODEL_CARD.md`: what the users of a model need to know, with the front matter that model hubs read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textclf.files.writing import write_text
from textclf.runs.pages.page_template import PageValues, render
from textclf.runs.tasks.classification.record import ClassificationMetrics


def write_model_card(folder: Path, metrics: ClassificationMetrics) -> None:
    """Writes `MODEL_CARD.md` into the run folder.

    Front matter: https://huggingface.co/docs/hub/model-cards#model-card-metadata.
    """
    import yaml

    values = PageValues.of(metrics)
    recipe = values.recipe or {"training": {}, "encoder": {}, "export": {}}
    page = render(
        "model_card.md",
        values,
        escape=False,
        front_matter=yaml.safe_dump(_front_matter(values), sort_keys=False),
        training=flat(recipe["training"]),
        encoder_settings=recipe["encoder"],
        export_settings=recipe["export"],
    )
    write_text(folder / "MODEL_CARD.md", page)


def _front_matter(values: PageValues) -> dict[str, Any]:
    name, headline = values.metrics.name, values.headline
    results = [
        {"type": "accuracy", "name": "Accuracy", "value": round(headline.accuracy, 4)},
        {"type": "f1", "name": "Macro-F1", "value": round(headline.macro_f1, 4)},
    ]
    task = {"type": "text-classification", "name": "Text classification"}
    dataset = {"type": "csv", "name": name, "split": values.split}
    architecture = ["mobilebert"] if values.layers is not None else []
    base = re.match(r"hf:([\w.-]+/[\w.-]+)", values.metrics.encoder.source)
    return {
        # Without `language`: that of the encoder is known, but not that of the texts.
        **({"base_model": base[1]} if base is not None else {}),
        "pipeline_tag": "text-classification",
        "library_name": "tflite",
        "tags": ["text-classification", *architecture, "tflite", "litert", "mediapipe", "textclf"],
        "metrics": ["accuracy", "f1"],
        "model-index": [{"name": name, "results": [{"task": task, "dataset": dataset, "metrics": results}]}],
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
