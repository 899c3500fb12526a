"""Our engine beside the real TFLite Model Maker, at full size: the same rows, the same random weights, one epoch.

    textclf model-maker setup
    python benchmarks/model_maker.py --train TRAIN.csv --test TEST.csv [--encoder SOURCE] [--seeds 1] [--out FOLDER]

The tables have the columns text and label. Random weights learn little, and neither time nor memory depends on them; with
a pretrained encoder, accuracies can be compared too. It is `textclf compare` with a recipe for this purpose.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from textclf.encoders.checkpoint import EncoderCheckpoint, MobileBertConfig, expected_shapes
from textclf.encoders.formats.textclf_format import write_encoder
from textclf.encoders.sources.locate import load_vocabulary
from textclf.recipe.settings import Recipe
from textclf.recipe.values import ENGINES
from textclf.runs.comparison.engines import compare_engines


def write_random_encoder(folder: Path, layers: int) -> Path:
    """A MobileBERT of the published size, or of fewer layers, with BERT's vocabulary: texts have their real lengths."""
    config = MobileBertConfig(num_hidden_layers=layers)
    vocabulary = list(load_vocabulary("builtin").pieces)
    random = np.random.default_rng(0)
    weights = {}
    for name, shape in expected_shapes(config).items():
        spread = 0.5 / np.sqrt(shape[0]) if name.endswith("kernel") else 0.02
        weights[name] = (random.standard_normal(shape) * spread + name.endswith("gamma")).astype(np.float32)
    write_encoder(folder, EncoderCheckpoint(config, weights, vocabulary, True, "additive", "random", folder))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--encoder", help="as encoder.source in a recipe; random weights if not given")
    parser.add_argument("--layers", type=int, default=24, help="of the random encoder")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs") / "model-maker-benchmark")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        source = arguments.encoder or str(write_random_encoder(Path(folder) / "encoder", arguments.layers))
        recipes = {
            engine: Recipe.model_validate(
                {
                    "name": "model-maker-benchmark",
                    "dataset": {"train": arguments.train, "test": arguments.test},
                    "encoder": {"source": source},
                    "training": {"engine": engine, "epochs": 1},
                }
            )
            for engine in ENGINES
        }
        comparison = compare_engines(recipes, list(range(1, arguments.seeds + 1)), arguments.out, force=True)
    print(comparison.as_markdown())


if __name__ == "__main__":
    main()
