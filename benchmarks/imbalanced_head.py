"""Imbalanced labels and few rows: do equal weights of the labels, or other outputs of the encoder, make a better last layer?

Only the last layer is fitted, to the outputs of an encoder that is not trained; they are computed once and kept in a folder.
Printed for each encoder, set and number of training rows: accuracy / macro-F1 in % and the cross-entropy on dev rows, as means
over several draws of training rows that have the same shares of labels as the dev rows:

- `default`: what textclf fits to the first token's output: a label counts by the square root of its share
- `plain`: each row counts once
- `balanced`: each label counts as much as any other, which `training.class_weights: balanced` asks for
- `mean`: as `default`, with the mean of the tokens' outputs
- `both`: as `default`, with both outputs side by side

    python benchmarks/imbalanced_head.py --keep FOLDER [--shared ../shared] [--encoder SOURCE]... [--draws 6]

13 % of the rows of sms_spam are spam. From support_tickets, rows are drawn so that each of the eight labels
has 0.55 times as many as the one before; the dev rows are those of its training file that are not drawn from.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from few_rows import DATASETS, Source, computed, measured, share, standardized

from textclf.classify.metrics import evaluate, softmax
from textclf.training.classification.head import fit_best_head

TRAINING_ROWS = (32, 64, 128, 256)

# Of each label, so that cross-validation can learn it and predict it.
FEWEST_ROWS = 2

SHARE_OF_THE_LABEL_BEFORE = 0.55

VARIANTS = (("default", "first"), ("plain", "first"), ("balanced", "first"), ("mean", "mean"), ("both", "both"))
"""Weights and outputs."""


def sources(shared: Path) -> list[Source]:
    tickets = DATASETS / "support_tickets.csv"
    found = [Source("support_tickets", tickets, tickets, ("message",), "queue")]
    folder = shared / "data" / "sms_spam"
    if folder.is_dir():
        found.append(Source("sms_spam", folder / "train.csv", folder / "dev.csv", ("text",), "label"))
    return found


def outputs(encoder: str, source: Source, keep: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The outputs and the labels of the training and of the dev rows, from the kept file, if there is one."""
    file = keep / f"{Path(encoder).name.replace(':', '-')}-{source.name}-dev.npz"
    if not file.exists():
        np.savez(file, **computed(encoder, source))
    kept = np.load(file)
    train, dev = (
        {name: kept[f"{split}_{part}"] for name, part in (("first", "first"), ("mean", "mean"), ("labels", "y"))}
        for split in ("train", "test")
    )
    if source.train == source.test:
        # Both were read in the same random order: the rows that are measured are not drawn from.
        measured_rows = len(dev["labels"])
        train = {name: values[measured_rows:] for name, values in train.items()}
    for rows in (train, dev):
        rows["both"] = np.concatenate([rows["first"], rows["mean"]], axis=1)
    return train, dev


def drawn(labels: np.ndarray, shares: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """About this many rows, whose labels have these shares, and FEWEST_ROWS of each label or more."""
    wanted = np.maximum(np.round(count * shares), FEWEST_ROWS).astype(int)
    return np.concatenate(
        [random.permutation(np.flatnonzero(labels == label))[:rows] for label, rows in enumerate(wanted)]
    )


def dev_rows(source: Source, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows that are measured, and the shares of their labels."""
    counts = np.bincount(labels)
    if source.train != source.test:
        return np.arange(len(labels)), counts / len(labels)
    shares = SHARE_OF_THE_LABEL_BEFORE ** np.arange(len(counts))
    shares /= shares.sum()
    most = int((counts / shares).min())
    return drawn(labels, shares, most, np.random.default_rng(0)), shares


def scores(
    train: dict[str, np.ndarray], dev: dict[str, np.ndarray], rows: np.ndarray, unseen: np.ndarray
) -> list[tuple[float, float, float]]:
    """Accuracy, macro-F1 and cross-entropy of each variant, fitted to these training rows, on these dev rows."""
    truth, expected = train["labels"][rows], dev["labels"][unseen]
    counts = np.bincount(truth)
    found = []
    for name, part in VARIANTS:
        weights = weights_of(name, truth)
        features, unseen_features = standardized(train[part][rows], dev[part][unseen])
        head = fit_best_head(features, truth, weights, len(counts))
        logits = unseen_features @ head.kernel + head.bias
        macro_f1 = evaluate(softmax(logits), expected, [str(label) for label in range(len(counts))]).macro_f1
        found.append((share(logits, expected), macro_f1, measured(head, unseen_features, expected)[1]))
    return found


def weights_of(variant: str, labels: np.ndarray) -> np.ndarray:
    """The weights of training rows with these labels, with mean 1."""
    weights = np.ones(len(labels))
    if variant == "plain":
        # Only weights that differ are used as they are.
        weights[0] += 1e-6
    if variant == "balanced":
        weights /= np.bincount(labels)[labels]
    normalised: np.ndarray = weights / weights.mean()
    return normalised


def line(encoder: str, source: Source, rows: int, found: Sequence[Sequence[tuple[float, float, float]]]) -> str:
    cells = [
        f"{100 * accuracy:.1f} / {100 * macro_f1:.1f}, {loss:.3f}"
        for accuracy, macro_f1, loss in np.mean(found, axis=0)
    ]
    return f"| {Path(encoder).name} | {source.name} | {rows} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, help="Folder in which the encoders' outputs are kept.")
    parser.add_argument(
        "--shared", type=Path, default=Path("../shared"), help="Folder with data/ (default: ../shared)."
    )
    parser.add_argument("--encoder", action="append", help="encoder.source; may be repeated (default: builtin).")
    parser.add_argument("--draws", type=int, default=6)
    arguments = parser.parse_args()
    arguments.keep.mkdir(parents=True, exist_ok=True)
    print(f"| encoder | set | rows | {' | '.join(name for name, _ in VARIANTS)} |")
    print(f"| --- | --- | ---: |{' ---: |' * len(VARIANTS)}")
    for encoder in arguments.encoder or ["builtin"]:
        for source in sources(arguments.shared):
            train, dev = outputs(encoder, source, arguments.keep)
            unseen, shares = dev_rows(source, dev["labels"])
            for count in TRAINING_ROWS:
                found = [
                    scores(
                        train, dev, drawn(train["labels"], shares, count, np.random.default_rng([draw, count])), unseen
                    )
                    for draw in range(arguments.draws)
                ]
                print(line(encoder, source, count, found), flush=True)


if __name__ == "__main__":
    main()
