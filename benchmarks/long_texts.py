"""Long texts: is a part of them enough, and what do windows over all of them add?

The sets are made of short labelled texts, so that it is known which place of a long text decides. Texts have 300 to 800
words, about as many as a news article.

- `one place`: a request of one of eight intents of clinc150_small at a random place between requests of the other intents.
  Only this sentence decides, and the other sentences are the same for all labels.
- `whole text`: sentences of sst2, of which two in three have the label of the text, in a random order. Every sentence decides
  a little, and some contradict.

Training, validation and test texts are made of sentences from their own files of the set. For each set, models are
trained on the same texts with `head`, `tail`, `head_tail` and `windows`. Printed for each: accuracy on the test texts (for
windows also that of the first window alone), seconds of the training, and seconds per text in one thread. Then, for the
trained model with windows, how the windows of the validation texts are best combined.

    python benchmarks/long_texts.py --keep FOLDER [--shared ../shared] [--encoder SOURCE] [--rows 2000] [--epochs 3]
        [--stride TOKENS]... [--set one_place]

`--stride` trains `windows` once more with each stride. A run that is in FOLDER already is not trained again.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import textclf
from textclf.classify.classifier import Classifier
from textclf.classify.combining import combine_windows
from textclf.classify.metrics import softmax
from textclf.exporting.trained_run import load_trained_run
from textclf.runs.train import Run

FEWEST_WORDS, MOST_WORDS = 300, 800

# Intents of clinc150 that a single sentence tells apart.
INTENTS = ("balance", "book_flight", "weather", "alarm", "translate", "recipe", "lost_luggage", "oil_change_how")

SHARE_OF_LABEL = 2 / 3

SPLITS = ("train", "dev", "test")

# --rows are the training texts; a fraction of so many is made for the other splits.
SIZES = {"train": 1.0, "dev": 0.5, "test": 0.5}

PARTS = ("head", "tail", "head_tail", "windows")

Sentences = dict[str, list[str]]
"""The texts of a file by label."""


# --- The sets --------------------------------------------------------------------------------------------------------
def read(path: Path) -> Sentences:
    found: Sentences = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["text"].strip():
                found.setdefault(row["label"], []).append(row["text"].strip())
    return found


def joined(sentences: Sequence[str]) -> str:
    return " ".join(one if one[-1] in ".!?" else f"{one}." for one in sentences)


def chosen_until(random: np.random.Generator, draw: Callable[[], str]) -> list[str]:
    """Sentences until they have a random number of words."""
    wanted, chosen, words = int(random.integers(FEWEST_WORDS, MOST_WORDS + 1)), [], 0
    while words < wanted:
        chosen.append(draw())
        words += len(chosen[-1].split())
    return chosen


def one_place(sentences: Sentences, label: str, random: np.random.Generator) -> str:
    others = [one for name, texts in sentences.items() if name not in INTENTS for one in texts]
    chosen = chosen_until(random, lambda: others[random.integers(len(others))])
    decisive = sentences[label][random.integers(len(sentences[label]))]
    chosen.insert(int(random.integers(len(chosen) + 1)), decisive)
    return joined(chosen)


def whole_text(sentences: Sentences, label: str, random: np.random.Generator) -> str:
    [other] = sentences.keys() - {label}

    def draw() -> str:
        texts = sentences[label if random.random() < SHARE_OF_LABEL else other]
        return texts[random.integers(len(texts))]

    return joined(chosen_until(random, draw))


SETS = {
    "one_place": ("clinc150_small", one_place, INTENTS),
    "whole_text": ("sst2", whole_text, ("negative", "positive")),
}


def write_set(name: str, shared: Path, folder: Path, rows: int) -> None:
    source, make, labels = SETS[name]
    for number, split in enumerate(SPLITS):
        random = np.random.default_rng([number, rows])
        sentences = read(shared / "data" / source / f"{split}.csv")
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for row in range(int(rows * SIZES[split])):
                label = labels[row % len(labels)]
                writer.writerow([make(sentences, label, random), label])


# --- Trainings -------------------------------------------------------------------------------------------------------
def trained(folder: Path, part: str, stride: int | None, arguments: argparse.Namespace) -> tuple[Run | None, Path]:
    """The run of a set with a part of its texts; None for a run that was there already."""
    run = folder / (part if stride is None else f"{part}-{stride}")
    if (run / "model.tflite").exists():
        return None, run
    recipe = folder / f"{run.name}.yaml"
    recipe.write_text(
        f"name: {run.name.replace('_', '-')}\n"
        "dataset:\n  train: train.csv\n  validation: dev.csv\n  test: test.csv\n"
        f"encoder:\n  source: {arguments.encoder}\n  max_length: {arguments.length}\n  overflow: {part}\n"
        + (f"  stride: {stride}\n" if stride is not None else "")
        + f"training:\n  epochs: {arguments.epochs}\n",
        encoding="utf-8",
    )
    return textclf.train(recipe, run, quiet=True), run


def rows_of(path: Path) -> tuple[list[tuple[str, ...]], list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [(row["text"],) for row in rows], [row["label"] for row in rows]


def measured(run: Path, folder: Path) -> tuple[float, float, float]:
    """The accuracy on the test texts, that of the first window alone, and the seconds per text in one thread."""
    texts, labels = rows_of(folder / "test.csv")
    with Classifier(run, num_threads=1, cache_bytes=0) as classifier:
        truth = np.array([classifier.labels.index(label) for label in labels])
        first = share(classifier.first_window_probabilities(texts), truth)
        begun = time.perf_counter()
        accuracy = share(classifier.probabilities(texts), truth)
        return accuracy, first, (time.perf_counter() - begun) / len(texts)


def share(scores: np.ndarray, truth: np.ndarray) -> float:
    return float((scores.argmax(axis=1) == truth).mean())


# --- How windows are combined ----------------------------------------------------------------------------------------
def combinations(run: Path, folder: Path) -> list[tuple[str, float, float]]:
    """The accuracy and the cross-entropy (nats) on the validation texts of each way to combine the windows."""
    trained_run = load_trained_run(run)
    texts, labels = rows_of(folder / "dev.csv")
    truth = np.array([trained_run.labels.index(label) for label in labels])
    logits, owners = trained_run.window_logits(texts)
    lengths = trained_run.encode(texts).lengths.astype(np.float64)
    weights = lengths / (np.bincount(owners, weights=lengths) / np.bincount(owners))[owners]
    starts = np.searchsorted(owners, np.arange(len(texts)))
    largest = np.maximum.reduceat(softmax(logits), starts, axis=0)
    ways = {
        "mean of logits": softmax(combine_windows(logits, owners)),
        "mean of probabilities": combine_windows(softmax(logits), owners),
        "largest probability": largest / largest.sum(axis=1, keepdims=True),
        "mean of logits by length": softmax(combine_windows(logits * weights[:, None], owners)),
        "first window": softmax(logits[starts]),
    }
    rows = np.arange(len(truth))
    return [
        (name, share(found, truth), float(-np.log(np.maximum(found[rows, truth], 1e-30)).mean()))
        for name, found in ways.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, help="Folder in which the sets and the runs are kept.")
    parser.add_argument(
        "--shared", type=Path, default=Path("../shared"), help="Folder with data/ (default: ../shared)."
    )
    parser.add_argument("--encoder", default="builtin", help="encoder.source (default: builtin)")
    parser.add_argument("--rows", type=int, default=2000, help="Training texts (default: 2000).")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--length", type=int, default=128, help="encoder.max_length (default: 128)")
    parser.add_argument("--stride", type=int, action="append", default=[], help="Also train windows with this stride.")
    parser.add_argument("--set", dest="sets", action="append", choices=sorted(SETS), help="Only this set.")
    arguments = parser.parse_args()
    for name in arguments.sets or SETS:
        folder = arguments.keep / f"{name}-{arguments.rows}-{arguments.epochs}"
        folder.mkdir(parents=True, exist_ok=True)
        write_set(name, arguments.shared, folder, arguments.rows)
        print(f"\n{name}: {arguments.rows:,} training texts, {arguments.epochs} epochs, {arguments.encoder}\n")
        print("| read | test accuracy | first window | training, s | a text, s |")
        print("| --- | ---: | ---: | ---: | ---: |")
        plans: list[tuple[str, int | None]] = [*((part, None) for part in PARTS)]
        plans += [("windows", stride) for stride in arguments.stride]
        for part, stride in plans:
            finished, run = trained(folder, part, stride, arguments)
            seconds = "–" if finished is None else f"{finished.metrics['seconds']:.0f}"
            accuracy, first, per_text = measured(run, folder)
            shown = f"{100 * first:.1f}" if part == "windows" else "–"
            print(f"| {run.name} | {100 * accuracy:.1f} | {shown} | {seconds} | {per_text:.3f} |", flush=True)
        print("\n| windows combined by | validation accuracy | validation loss |\n| --- | ---: | ---: |")
        for way, accuracy, loss in combinations(folder / "windows", folder):
            print(f"| {way} | {100 * accuracy:.1f} | {loss:.3f} |", flush=True)


if __name__ == "__main__":
    main()
