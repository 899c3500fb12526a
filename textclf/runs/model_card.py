"""`MODEL_CARD.md`: the numbers of a run in, a page for whoever uses the model out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textclf.classify.metrics import Metrics
from textclf.files.writing import write_text

if TYPE_CHECKING:
    pass
from textclf.runs.report import common_values, template


# --- The model card --------------------------------------------------------------------------------------------------
def write_model_card(folder: Path, metrics: dict[str, Any]) -> None:
    """Writes `MODEL_CARD.md` into the run folder, with the front matter that model hubs read.

    Front matter: https://huggingface.co/docs/hub/model-cards#model-card-metadata.
    """
    import yaml

    values = common_values(metrics)
    front = yaml.safe_dump(_front_matter(metrics, values), sort_keys=False)
    recipe = values["recipe"] or {"training": {}, "encoder": {}, "export": {}}
    page = template("model_card.md", escape=False).render(
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
