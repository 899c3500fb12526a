"""Several labels per text: textclf beside logistic regression on TF-IDF, on a set with the columns `text` and `labels`.

For each encoder and seed, textclf trains with the defaults of a recipe on train.csv, and its exported file is measured on
test.csv. The baseline is one logistic regression for each label on TF-IDF of words and characters, with C chosen on dev.csv. It
runs in a Python that has scikit-learn, and is calibrated as textclf is. The thresholds of both are chosen on dev.csv by the same
code, those of textclf for the outputs of the exported file. Printed in %: macro-F1, micro-F1, and the mean average precision.
Finished runs are kept in the folder, so an interrupted benchmark continues.

    python benchmarks/several_labels.py --data FOLDER --keep FOLDER --sklearn-python PYTHON
        [--encoder SOURCE]... [--seeds 1 2 3] [--rows N] [SETTING=VALUE]...
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from textclf.classify.classifier import Classifier
from textclf.classify.multi_label.metrics import LabelSetMetrics, measure_label_sets, sigmoid
from textclf.training.multi_label.calibration import calibrate_labels
from textclf.training.multi_label.thresholds import choose_thresholds

SEPARATOR = "|"

ENCODERS = ("builtin:mobilebert-small", "builtin:mobilebert-medium")

CS = (0.3, 1.0, 3.0, 10.0)

# Runs where scikit-learn is: {texts by split, targets by split, Cs} as JSON → scores by C and split.
BASELINE = r"""
import json, sys
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_union

job = json.load(sys.stdin)
features = make_union(
    TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]"),
    TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
)
train = features.fit_transform(job["texts"]["train"])
others = {split: features.transform(job["texts"][split]) for split in ("dev", "test")}
found = {}
for c in job["cs"]:
    model = OneVsRestClassifier(LogisticRegression(C=c, max_iter=1000), n_jobs=1).fit(train, np.array(job["train_targets"]))
    found[c] = {split: model.predict_proba(rows).tolist() for split, rows in others.items()}
print(json.dumps(found))
"""


def read(file: Path, most: int | None) -> tuple[list[str], list[list[str]]]:
    """Texts, and the labels of each."""
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))[:most]
    return [row["text"] for row in rows], [[one for one in row["labels"].split(SEPARATOR) if one] for row in rows]


def targets_of(sets: Sequence[Sequence[str]], labels: Sequence[str]) -> np.ndarray:
    return np.array([[label in own for label in labels] for own in sets])


def baseline(python: str, data: Path, rows: int | None) -> tuple[LabelSetMetrics, float]:
    """The metrics on the test rows, and the C that was chosen."""
    splits = {
        split: read(data / f"{split}.csv", rows if split == "train" else None) for split in ("train", "dev", "test")
    }
    labels = sorted({label for _, sets in splits.values() for own in sets for label in own})
    targets = {split: targets_of(sets, labels) for split, (_, sets) in splits.items()}
    job = {
        "texts": {split: texts for split, (texts, _) in splits.items()},
        "train_targets": targets["train"].astype(int).tolist(),
        "cs": CS,
    }
    done = subprocess.run([python, "-c", BASELINE], input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python}: the baseline failed:\n{done.stderr[-2000:]}")
    best: tuple[float, float, LabelSetMetrics] | None = None
    for c, scores in json.loads(done.stdout).items():
        logits = {split: log_odds(np.array(scores[split])) for split in ("dev", "test")}
        calibration = calibrate_labels(logits["dev"], targets["dev"])
        probabilities = {split: sigmoid(calibration.apply(values)) for split, values in logits.items()}
        on_dev, on_test = measured(probabilities, targets, labels)
        if best is None or on_dev.macro_f1 > best[0]:
            best = on_dev.macro_f1, float(c), on_test
    assert best is not None
    return best[2], best[1]


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    within = np.clip(probabilities, 1e-9, 1 - 1e-9)
    return np.log(within / (1 - within)).astype(np.float32)


def measured(
    probabilities: dict[str, np.ndarray], targets: dict[str, np.ndarray], labels: Sequence[str]
) -> tuple[LabelSetMetrics, LabelSetMetrics]:
    """The metrics on dev.csv and test.csv, with thresholds that are chosen on dev.csv for calibrated probabilities."""
    thresholds = choose_thresholds(probabilities["dev"], targets["dev"], None, are_calibrated=True).values
    on_dev, on_test = (
        measure_label_sets(probabilities[split], targets[split], thresholds, labels) for split in ("dev", "test")
    )
    return on_dev, on_test


def measured_file(run: Path, data: Path) -> LabelSetMetrics:
    """The metrics of an exported file on test.csv."""
    with Classifier(run) as classifier:
        probabilities, targets = {}, {}
        for split in ("dev", "test"):
            texts, sets = read(data / f"{split}.csv", None)
            probabilities[split] = classifier.probabilities([(text,) for text in texts])
            targets[split] = targets_of(sets, classifier.labels)
        return measured(probabilities, targets, classifier.labels)[1]


def recipe_file(data: Path, keep: Path, rows: int | None) -> Path:
    """A recipe of the defaults, with the first `rows` training rows."""
    keep.mkdir(parents=True, exist_ok=True)
    train = data / "train.csv"
    if rows is not None:
        texts, sets = read(train, rows)
        train = keep / f"train-{rows}.csv"
        with train.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows(
                [["text", "labels"], *([text, SEPARATOR.join(own)] for text, own in zip(texts, sets, strict=True))]
            )
    path = keep / "recipe.yaml"
    files = f"train: {train.absolute()}\n  validation: {data.absolute()}/dev.csv\n  test: {data.absolute()}/test.csv"
    path.write_text(f'name: several-labels\ndataset:\n  {files}\n  label: labels\n  label_separator: "{SEPARATOR}"\n')
    return path


def train(words: Sequence[str], run: Path) -> None:
    """Continues an interrupted training, or begins one."""
    command = [sys.executable, "-m", "textclf", "train", *words, "--run-dir", str(run)]
    if subprocess.run([*command, "--resume"], stderr=subprocess.DEVNULL, check=False).returncode:
        subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--sklearn-python")
    parser.add_argument("--encoder", action="append")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rows", type=int, help="only the first rows of train.csv")
    parser.add_argument("settings", nargs="*", metavar="SETTING=VALUE")
    options = parser.parse_args()

    print(f"{'':<28} {'macro-F1':>9} {'micro-F1':>9} {'mean AP':>9}", flush=True)
    if options.sklearn_python:
        found, c = baseline(options.sklearn_python, options.data, options.rows)
        show(f"TF-IDF, one-vs-rest (C={c:g})", [found])
    recipe = recipe_file(options.data, options.keep, options.rows)
    for encoder in options.encoder or ENCODERS:
        found_by_seed = []
        for seed in options.seeds:
            run = options.keep / f"{Path(encoder).name.replace(':', '-')}-{seed}"
            if not (run / "metrics.json").exists():
                train([str(recipe), f"encoder={encoder}", f"training.seed={seed}", *options.settings], run)
            found_by_seed.append(measured_file(run, options.data))
        show(f"{encoder}, {len(found_by_seed)} seeds", found_by_seed)


def show(name: str, found: Sequence[LabelSetMetrics]) -> None:
    """A line with the means, and the deviations if there are several."""
    cells = []
    for key in ("macro_f1", "micro_f1", "mean_average_precision"):
        values = [100 * float(getattr(one, key)) for one in found]
        spread = f"±{np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
        cells.append(f"{np.mean(values):.1f}{spread}")
    print(f"{name:<28} " + " ".join(f"{cell:>9}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
