"""Reads the trained weights of a finished run from its folder, to export them again or to compare with them.

`checkpoints/best` contains the encoder in textclf's format, and the head and the standardisation of features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textclf.classify.combining import combine_windows
from textclf.classify.metrics import softmax
from textclf.data.dataset import load_dataset
from textclf.data.examples import Dataset
from textclf.data.tokens.encoded import Encoded, pad
from textclf.data.tokens.text_windows import EncodedTexts, encode_texts
from textclf.encoders.interface import AnyEncoder
from textclf.encoders.kinds import kind_of
from textclf.encoders.long_texts import long_texts_of
from textclf.encoders.prepare import ReadDataset, load_recipe_data
from textclf.errors import RecipeError, RunError
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import ExportSettings, Recipe
from textclf.terminal.native_log import load_tensorflow
from textclf.tflite.graph.weights import InferenceWeights, inference_weights
from textclf.tflite.metadata import read_metadata
from textclf.training.saved.run_folder import METRICS, load_state, read_metrics

_BATCH = 64


@dataclass(frozen=True)
class TrainedRun:
    """The trained weights of a run. `head` has head/kernel, head/bias, features/mean and features/scale."""

    folder: Path
    recipe: Recipe
    checkpoint: AnyEncoder
    labels: list[str]
    head: dict[str, np.ndarray]
    reject_below: float | None

    def weights(self) -> InferenceWeights:
        """Returns the weights from which a graph is written."""
        return inference_weights(self.checkpoint, self.head)

    def dataset(self, read: ReadDataset = load_dataset) -> Dataset:
        """Returns the rows that it was trained and measured on, in the same splits; `read` is the reader of its task."""
        _, dataset = load_recipe_data(self.recipe, self.checkpoint.tokenizer(self.recipe.encoder), read=read)
        return dataset

    def encode(self, texts: Sequence[tuple[str, ...]]) -> Encoded:
        """Returns texts as token ids, as the model reads them: if it reads windows, one row for each window."""
        return self._read(texts).encoded

    def _read(self, texts: Sequence[tuple[str, ...]]) -> EncodedTexts:
        encoder = self.recipe.encoder
        long_texts = long_texts_of(encoder, encoder.fixed_length)
        return encode_texts(self.checkpoint.tokenizer(encoder), texts, encoder.fixed_length, long_texts)

    def probabilities(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Returns the trained model's probabilities float32 [texts, labels], computed by TensorFlow from the unfolded weights."""
        return softmax(self.logits(texts))

    def logits(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Returns the logits of these probabilities."""
        return combine_windows(*self.window_logits(texts))

    def window_logits(self, texts: Sequence[tuple[str, ...]]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the trained model's logits float32 [windows, labels], and the index of each window's text, int64 [windows].

        A model that does not read windows has one for each text.
        """
        load_tensorflow()
        from textclf.data.tokens.batching import evaluation_batches
        from textclf.training.classification.task import PooledClassifier
        from textclf.training.machine.hardware import use_tensorflow

        use_tensorflow("compute the trained model's probabilities")
        classifier = PooledClassifier(self.checkpoint, len(self.labels), seed=0)
        classifier.load_state({**classifier.state(), **self.head})
        length = self.recipe.encoder.fixed_length
        read = self._read(texts)
        logits = np.zeros((len(read.encoded), len(self.labels)), np.float32)
        for batch in evaluation_batches(read.encoded.lengths, _BATCH, length):
            tokens = pad(read.encoded, batch.rows, batch.length)
            logits[batch.rows] = classifier.predict_logits(tokens)
        return logits, read.texts


def load_trained_run(folder: Path, overrides: Sequence[str] = ()) -> TrainedRun:
    """Reads a finished run. `overrides` such as `quantization=int4` change the section export of its recipe.

    Raises RunError for a folder that is not a finished run, and RecipeError for overrides of other settings.
    """
    best = folder / "checkpoints" / "best"
    needed = [folder / "recipe.yaml", folder / "labels.txt", best / "head.safetensors"]
    check_run_files(folder, needed)
    labels = _labels(folder)
    recipe = load_recipe(folder / "recipe.yaml", [export_setting(override) for override in overrides])
    head, _ = load_state(best / "head.safetensors")
    checkpoint = kind_of(recipe).read(best)
    _check_head(best / "head.safetensors", head, checkpoint, len(labels))
    return TrainedRun(folder, recipe, checkpoint, labels, head, _reject_below(folder))


def check_run_files(folder: Path, needed: Sequence[Path]) -> None:
    """Raises RunError if the folder lacks files of a finished run, the last of which is the trained head."""
    with _run_errors(folder):
        missing = [path.relative_to(folder).as_posix() for path in needed if not path.exists()]
        if missing == [needed[-1].relative_to(folder).as_posix()] and _trained_elsewhere(folder):
            raise RunError(
                f"{folder}: Model Maker trained this run and returned only its .tflite, not the word vectors, so it cannot be "
                "exported again or compared with them; `textclf verify MODEL` without --run checks the file"
            )
        if missing:
            raise RunError(
                f"{folder}: has no {', '.join(missing)}; expected the folder of a finished run, such as runs/NAME"
            )


def _labels(folder: Path) -> list[str]:
    with _run_errors(folder):
        return (folder / "labels.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")


@contextmanager
def _run_errors(folder: Path) -> Iterator[None]:
    """Turns failures to read the files of a run into messages."""
    try:
        yield
    except PermissionError as error:
        raise RunError(
            f"{error.filename or folder}: cannot be read (permission denied); ask its owner for permission"
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder}: cannot be read ({getattr(error, 'strerror', None) or error}); check the path"
        ) from error


def _reject_below(folder: Path) -> float | None:
    """Returns the threshold that the training chose, from the model if the folder has no metrics."""
    if (folder / METRICS).exists():
        rejection = read_metrics(folder).get("rejection")
        try:
            return float(rejection["validation"]["threshold"]) if rejection else None
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{folder / METRICS}: its section rejection is damaged; train again") from error
    return (read_metadata(folder / "model.tflite").settings or {}).get("reject_below")


def _check_head(path: Path, head: dict[str, np.ndarray], checkpoint: AnyEncoder, labels: int) -> None:
    """Raises RunError if the head's arrays do not match the encoder and the labels, or contain NaN."""
    width = checkpoint.width
    shapes = {
        "head/kernel": (width, labels), "head/bias": (labels,), "features/mean": (width,), "features/scale": (width,)
    }  # fmt: skip
    for name, shape in shapes.items():
        array = head.get(name)
        if array is None or array.shape != shape or not np.isfinite(array).all():
            found = "missing" if array is None else f"{list(array.shape)}" if array.shape != shape else "not finite"
            raise RunError(f"{path}: `{name}` is {found}, expected {list(shape)} finite numbers; train again")


def _trained_elsewhere(folder: Path) -> bool:
    recipe = load_recipe(folder / "recipe.yaml")
    return recipe.training.engine == "model-maker" and recipe.averages_words


def export_setting(override: str) -> str:
    """Returns `export.quantization=int4` for `quantization=int4`. No other setting can change after training."""
    key = override.partition("=")[0].strip()
    if "." not in key and key not in ExportSettings.model_fields:
        known = ", ".join(ExportSettings.model_fields)
        raise RecipeError(
            f"{override}: the section export has no setting {key}; after training, only these can change: {known}"
        )
    if "." not in key:
        return f"export.{override}"
    if key.startswith("export."):
        return override
    raise RecipeError(
        f"{override}: after training, only the settings in the section export can change; write for example quantization=int4"
    )
