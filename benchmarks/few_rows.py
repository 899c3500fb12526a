"""Few rows: how good is the fitted last layer with 8, 16 and 32 rows a label, and what do its details add?

Each encoder's outputs for each set are computed once and kept in a folder; the rest takes seconds a set. Printed for each
encoder, set and number of rows, as means over several draws of training rows:

- `fixed`: accuracy on test rows with the first token's output and the penalty 0.1
- `chosen`: the same with the penalty and the temperature that cross-validation chooses, which is what textclf fits
- `mean`: as `chosen`, with the mean of the tokens' outputs in place of the first token's
- `estimate`: the accuracy that cross-validation on the training rows estimates for `chosen`
- `held`: in how many draws the estimate's 95 % confidence interval holds the accuracy on the test rows
- `loss`: the cross-entropy on test rows of `fixed` and of `chosen`

    python benchmarks/few_rows.py --keep FOLDER [--shared ../shared] [--encoder SOURCE]... [--draws 5]
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textclf.classify.metrics import share_interval, softmax
from textclf.data.tokens.batching import evaluation_batches
from textclf.data.tokens.encoded import pad
from textclf.encoders.sources.locate import load_checkpoint
from textclf.recipe.settings import EncoderSettings
from textclf.training.classification.head import FittedHead, fit_best_head, fit_head

DATASETS = Path(__file__).parent.parent / "datasets"

ROWS_A_LABEL = (8, 16, 32)

MAX_LENGTH, BATCH = 128, 64

# Rows of a file whose outputs are computed: enough to draw from and to measure on.
MOST_TRAINING_ROWS, MOST_TEST_ROWS = 3000, 1000


@dataclass(frozen=True)
class Source:
    """The files of a set, its columns of text and its column of labels."""

    name: str
    train: Path
    test: Path
    text: tuple[str, ...]
    label: str


@dataclass(frozen=True)
class Outputs:
    """The encoder's outputs for rows, float32 [rows, width]: of the first token and the mean over the tokens; and label
    indices int64 [rows]."""

    first: np.ndarray
    mean: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Draw:
    """What one draw of training rows gives."""

    fixed: float
    chosen: float
    mean: float
    estimate: float
    is_held: bool
    fixed_loss: float
    chosen_loss: float


def sources(shared: Path) -> list[Source]:
    found = [
        Source(name, DATASETS / f"{name}.csv", DATASETS / f"{name}_test.csv", text, label)
        for name, text, label in (
            ("support_tickets", ("message",), "queue"),
            ("app_reviews", ("review",), "sentiment"),
            ("faq_match", ("question", "faq"), "match"),
        )
    ]
    for name in ("sst2", "sms_spam"):
        folder = shared / "data" / name
        if folder.is_dir():
            found.append(Source(name, folder / "train.csv", folder / "test.csv", ("text",), "label"))
    return found


# --- Outputs ---------------------------------------------------------------------------------------------------------
def outputs(encoder: str, source: Source, keep: Path) -> tuple[Outputs, Outputs]:
    """The outputs for the training and the test rows; from the kept file, if there is one."""
    file = keep / f"{Path(encoder).name}-{source.name}.npz"
    if not file.exists():
        np.savez(file, **computed(encoder, source))
    kept = np.load(file)
    train, test = (
        Outputs(*(kept[f"{split}_{part}"] for part in ("first", "mean", "y"))) for split in ("train", "test")
    )
    return train, test


def computed(encoder: str, source: Source) -> dict[str, np.ndarray]:
    # Loads TensorFlow, which kept outputs do not need.
    from textclf.encoders.mobilebert import Encoder

    checkpoint = load_checkpoint(encoder)
    network, tokenizer = Encoder(checkpoint), checkpoint.tokenizer(EncoderSettings())
    arrays: dict[str, np.ndarray] = {}
    names: list[str] = []
    for split, path, most in (("train", source.train, MOST_TRAINING_ROWS), ("test", source.test, MOST_TEST_ROWS)):
        texts, labels = read(path, source, most)
        names = names or sorted(set(labels))
        encoded = tokenizer.encode(texts, MAX_LENGTH)
        first: np.ndarray = np.zeros((len(texts), checkpoint.width), np.float32)
        mean = first.copy()
        for batch in evaluation_batches(encoded.lengths, BATCH, MAX_LENGTH):
            tokens = pad(encoded, batch.rows, batch.length)
            found = network.encode(tokens.ids, tokens.mask, tokens.segments)
            mask = tokens.mask[:, :, None]
            first[batch.rows] = found.pooled_output
            mean[batch.rows] = (found.sequence_output * mask).sum(axis=1) / mask.sum(axis=1)
        arrays |= {f"{split}_first": first, f"{split}_mean": mean}
        arrays[f"{split}_y"] = np.array([names.index(label) for label in labels])
    return arrays


def read(path: Path, source: Source, most: int) -> tuple[list[tuple[str, ...]], list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row[name].strip() for name in source.text)]
    chosen = np.random.default_rng(0).permutation(len(rows))[:most]
    return [tuple(rows[i][name] for name in source.text) for i in chosen], [rows[i][source.label] for i in chosen]


# --- Heads -----------------------------------------------------------------------------------------------------------
def draws(train: Outputs, test: Outputs, rows_a_label: int, count: int) -> Iterator[Draw]:
    labels = int(train.labels.max()) + 1
    for number in range(count):
        random = np.random.default_rng([number, rows_a_label])
        rows = np.concatenate(
            [random.permutation(np.flatnonzero(train.labels == label))[:rows_a_label] for label in range(labels)]
        )
        truth, weights = train.labels[rows], np.ones(len(rows))
        features, unseen = standardized(train.first[rows], test.first)
        fixed = FittedHead(*fit_head(features, truth, weights, labels), 0.1)
        chosen = fit_best_head(features, truth, weights, labels)
        means, unseen_means = standardized(train.mean[rows], test.mean)
        of_means = fit_best_head(means, truth, weights, labels)
        accuracy, loss = measured(chosen, unseen, test.labels)
        estimate = accuracy if chosen.cross_validated is None else share(chosen.cross_validated, truth)
        low, high = share_interval(estimate, len(rows))
        fixed_accuracy, fixed_loss = measured(fixed, unseen, test.labels)
        mean_accuracy, _ = measured(of_means, unseen_means, test.labels)
        yield Draw(fixed_accuracy, accuracy, mean_accuracy, estimate, low <= accuracy <= high, fixed_loss, loss)


def standardized(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    scale = np.where(deviation > 1e-6 * np.abs(train).max(), 1 / np.maximum(deviation, 1e-30), 1).astype(np.float32)
    return (train - mean) * scale, (test - mean) * scale


def measured(head: FittedHead, features: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Accuracy and cross-entropy in nats."""
    logits = features @ head.kernel + head.bias
    chosen = np.maximum(softmax(logits)[np.arange(len(truth)), truth], 1e-30)
    return share(logits, truth), float(-np.log(chosen).mean())


def share(logits: np.ndarray, truth: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == truth).mean())


def line(encoder: str, source: Source, rows_a_label: int, found: Sequence[Draw]) -> str:
    def mean(name: str) -> float:
        return float(np.mean([getattr(draw, name) for draw in found]))

    shares = " | ".join(f"{100 * mean(name):.1f}" for name in ("fixed", "chosen", "mean", "estimate"))
    held = sum(draw.is_held for draw in found)
    losses = f"{mean('fixed_loss'):.3f} → {mean('chosen_loss'):.3f}"
    return f"| {Path(encoder).name} | {source.name} | {rows_a_label} | {shares} | {held} of {len(found)} | {losses} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, help="Folder in which the encoders' outputs are kept.")
    parser.add_argument(
        "--shared", type=Path, default=Path("../shared"), help="Folder with data/ (default: ../shared)."
    )
    parser.add_argument("--encoder", action="append", help="encoder.source; may be repeated (default: builtin).")
    parser.add_argument("--draws", type=int, default=5)
    arguments = parser.parse_args()
    arguments.keep.mkdir(parents=True, exist_ok=True)
    print("| encoder | set | rows a label | fixed | chosen | mean | estimate | held | loss |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for encoder in arguments.encoder or ["builtin"]:
        for source in sources(arguments.shared):
            train, test = outputs(encoder, source, arguments.keep)
            for rows_a_label in ROWS_A_LABEL:
                found = list(draws(train, test, rows_a_label, arguments.draws))
                print(line(encoder, source, rows_a_label, found), flush=True)


if __name__ == "__main__":
    main()
