"""A finished run's trained weights: its folder in, the model that was trained out, to be exported again or compared.

`checkpoints/best` holds the encoder in our own format and, beside it, the head and the standardisation of features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.formats import textclf_format
from textclf.errors import RecipeError, RunError
from textclf.evaluation import softmax
from textclf.export.inference_graph import ClassifierWeights
from textclf.export.metadata import read_metadata
from textclf.recipe import Recipe, load_recipe
from textclf.run_folder import load_state
from textclf.tokenizer import Tokenizer, pad

_BATCH = 64


@dataclass(frozen=True)
class TrainedRun:
    """What a run trained: `head` holds head/kernel, head/bias, features/mean and features/scale."""

    folder: Path
    recipe: Recipe
    checkpoint: EncoderCheckpoint
    labels: list[str]
    head: dict[str, np.ndarray]
    reject_below: float | None

    def weights(self) -> ClassifierWeights:
        """The weights from which a graph is written, the standardisation folded into the head."""
        kernel = self.head["head/kernel"].astype(np.float64) * self.head["features/scale"].astype(np.float64)[:, None]
        bias = self.head["head/bias"] - self.head["features/mean"].astype(np.float64) @ kernel
        return ClassifierWeights(
            config=self.checkpoint.config,
            encoder=self.checkpoint.weights,
            mask_convention=self.checkpoint.mask_convention,
            head_kernel=kernel.astype(np.float32),
            head_bias=bias.astype(np.float32),
        )

    def probabilities(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """What the trained model says, float32 [texts, labels]; computed by TensorFlow from the unfolded weights."""
        from textclf.batching import evaluation_batches
        from textclf.classifier import PooledClassifier

        classifier = PooledClassifier(self.checkpoint, len(self.labels), seed=0)
        classifier.load_state({**classifier.state(), **self.head})
        length = self.recipe.encoder.fixed_length
        checkpoint = self.checkpoint
        tokenizer = Tokenizer(checkpoint.vocabulary, self.recipe.encoder.tokenizer, checkpoint.do_lower_case)
        encoded = tokenizer.encode(texts, length, self.recipe.encoder.overflow)
        probabilities = np.zeros((len(texts), len(self.labels)), np.float32)
        for batch in evaluation_batches(encoded.lengths, _BATCH, length):
            arrays = pad(encoded, batch.rows, batch.length)
            probabilities[batch.rows] = softmax(classifier.predict_logits(arrays))
        return probabilities


def load_trained_run(folder: Path, overrides: Sequence[str] = ()) -> TrainedRun:
    """Reads a finished run; `overrides` change its recipe's section export, as `quantization=int4` for example.

    Raises RunError for a folder that is no finished run and RecipeError for overrides of other settings.
    """
    best = folder / "checkpoints" / "best"
    needed = [folder / "recipe.yaml", folder / "labels.txt", folder / "model.tflite", best / "head.safetensors"]
    missing = [path.relative_to(folder).as_posix() for path in needed if not path.is_file()]
    if missing:
        raise RunError(
            f"{folder}: has no {', '.join(missing)}; expected the folder of a finished run, such as runs/NAME"
        )
    recipe = load_recipe(folder / "recipe.yaml", [_export_setting(override) for override in overrides])
    head, _ = load_state(best / "head.safetensors")
    settings = read_metadata(folder / "model.tflite").settings or {}
    return TrainedRun(
        folder=folder,
        recipe=recipe,
        checkpoint=textclf_format.read(best),
        labels=(folder / "labels.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n"),
        head=head,
        reject_below=settings.get("reject_below"),
    )


def _export_setting(override: str) -> str:
    """`quantization=int4` or `export.quantization=int4` as the latter; nothing else can change after training."""
    key = override.partition("=")[0].strip()
    if "." not in key:
        return f"export.{override}"
    if key.startswith("export."):
        return override
    raise RecipeError(
        f"{override}: after training only the settings of export can change, for example quantization=int4"
    )
