"""Few rows: textclf's defaults with 8, 16, 32 and 64 rows a label, beside what a user would try instead.

    python -m pretraining.few_rows --data DATA --work WORK --results pretraining/few_rows.jsonl --peers-python PYTHON

Takes the folder of the sets (sets.py) and the support tickets of `datasets/`, with the blind test file. Each draw takes this
many random rows of each label, or all rows of a label that has fewer; every method gets the same rows. Appends one line a run
to the results and prints Markdown tables of them; runs that the file already has are not repeated. The methods:

- `textclf`: a recipe that names only the data, so `training.epochs` is `auto`
- `textclf head`: only the last layer is fitted, `training.epochs=0`
- `tf-idf`: logistic regression on TF-IDF of words and characters; C is chosen by cross-validation
- `all-minilm-l6-v2 head`: logistic regression on the vectors of all-MiniLM-L6-v2; C is chosen by cross-validation
- `setfit`: SetFit on all-MiniLM-L6-v2 with its defaults, but at most `--setfit-steps` steps

`PYTHON` belongs to the environment of the peers (peers/__init__.py), in which the last three run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

import textclf
from pretraining.peers import calling
from pretraining.peers.calling import EMBEDDED, SETFIT, TF_IDF
from pretraining.results import Results, cell, processor
from pretraining.sets import LabelledSet, find_sets, read_rows, write_rows
from textclf.encoders.sources.locate import load_checkpoint
from textclf.errors import ArgumentError, TextclfError

ROWS_A_LABEL = (8, 16, 32, 64)
DRAWS = 5
SUPPORT_TICKETS = "support_tickets"
SETS = (SUPPORT_TICKETS, "sst2", "banking77")
DEFAULT, HEAD = "textclf", "textclf head"
PEERS = (TF_IDF, EMBEDDED, SETFIT)
METHODS = (DEFAULT, HEAD, *PEERS)
RECIPES: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    HEAD: {"epochs": 0},
    TF_IDF: {"words": [1, 2], "characters": [2, 5], "C": [1, 10, 100]},
    EMBEDDED: {"C": [0.1, 1, 10, 100]},
    SETFIT: {"batch_size": 16},
}
IDENTITY = ("set", "method", "encoder", "sha256", "rows_a_label", "draw", "recipe")

_DATASETS = Path(__file__).resolve().parents[1] / "datasets"


@dataclass(frozen=True)
class Measurement:
    """One run: a method on one draw of training rows. `encoder` and `sha256` are None for a peer."""

    data: LabelledSet
    method: str
    encoder: str | None
    sha256: str | None
    rows_a_label: int
    draw: int
    recipe: dict[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """What a line of the results has in common with this run if it is the same run."""
        found = {name: getattr(self, name) for name in IDENTITY if name != "set"} | {"set": self.data.name}
        if self.method in PEERS:
            del found["sha256"]
        return found


# --- What is measured ------------------------------------------------------------------------------------------------
def labelled_sets(data: Path, wanted: Sequence[str]) -> list[LabelledSet]:
    """Raises ArgumentError for a set that there is not."""
    others = [name for name in wanted if name != SUPPORT_TICKETS]
    found = find_sets(data, others)[0] if others else []
    tickets = _DATASETS / f"{SUPPORT_TICKETS}.csv"
    blind = _DATASETS / f"{SUPPORT_TICKETS}_blind.csv"
    own = LabelledSet(SUPPORT_TICKETS, tickets, tickets, blind, ("message",), "queue")
    return [*([own] if SUPPORT_TICKETS in wanted else []), *found]


def measurements(options: argparse.Namespace, sets: Sequence[LabelledSet]) -> Iterator[Measurement]:
    """Every run; all sets, numbers of rows and methods for the first draw before the next one."""
    checksums = {encoder: load_checkpoint(encoder).fingerprint() for encoder in options.encoders}
    for draw in range(1, options.draws + 1):
        for data in sets:
            for rows_a_label in options.rows:
                for method in options.methods:
                    recipe = dict(RECIPES[method])
                    if method == SETFIT:
                        recipe["max_steps"] = options.setfit_steps
                    if method in PEERS:
                        yield Measurement(data, method, None, None, rows_a_label, draw, recipe)
                        continue
                    for encoder, sha256 in checksums.items():
                        yield Measurement(data, method, encoder, sha256, rows_a_label, draw, recipe)


def draw_rows(data: LabelledSet, rows_a_label: int, draw: int) -> list[dict[str, str]]:
    """Returns this many training rows of each label that have a text, chosen at random, in the order of the file."""
    rows = [row for row in read_rows(data.train) if any(row[name].strip() for name in data.text)]
    labels = np.array([row[data.label] for row in rows])
    random = np.random.default_rng([draw, rows_a_label])
    chosen = [random.permutation(np.flatnonzero(labels == label))[:rows_a_label] for label in np.unique(labels)]
    return [rows[place] for place in np.sort(np.concatenate(chosen))]


# --- Measuring -------------------------------------------------------------------------------------------------------
def measure(run: Measurement, work: Path, python: Path | None, results: Results) -> dict[str, Any]:
    """Returns the line of the results; what was written on the way is removed."""
    rows = draw_rows(run.data, run.rows_a_label, run.draw)
    with TemporaryDirectory(dir=work) as folder:
        file = Path(folder).resolve() / "train.csv"
        write_rows(file, rows)
        drawn = replace(run.data, train=file)
        if run.method in PEERS:
            assert python is not None
            found = asdict(calling.call(python, run.method, drawn, run.draw, run.recipe, has_validation=False))
        else:
            found = _already_fitted(run, results) or _measured_by_textclf(run, drawn, Path(folder))
    names = {name: getattr(run, name) for name in IDENTITY if name != "set"}
    return {"set": run.data.name, **names, "train_rows": len(rows), **found}


def _already_fitted(run: Measurement, results: Results) -> dict[str, Any] | None:
    """What was measured with `auto` on the same rows, if this fitted only the last layer too."""
    if run.method != HEAD:
        return None
    found = results.find(replace(run, method=DEFAULT, recipe=RECIPES[DEFAULT]).identity)
    if found is None or found["epochs"] != 0:
        return None
    return {name: value for name, value in found.items() if name not in (*IDENTITY, "train_rows")}


def _measured_by_textclf(run: Measurement, drawn: LabelledSet, folder: Path) -> dict[str, Any]:
    settings = {
        "name": "few-rows",
        "dataset": {
            "train": str(drawn.train),
            "test": str(drawn.test),
            "text": list(drawn.text) if len(drawn.text) > 1 else drawn.text[0],
            "label": drawn.label,
        },
        "encoder": run.encoder,
        "training": {**run.recipe, "seed": run.draw},
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    metrics = textclf.train(textclf.load_recipe(file), folder / "run", quiet=True).metrics
    return {
        "accuracy": metrics["test"]["accuracy"],
        "macro_f1": metrics["test"]["macro_f1"],
        "epochs": metrics["recipe"]["training"]["epochs"],
        "best_epoch": metrics["best_epoch"],
        "seconds": metrics["seconds"],
        "processor": processor(),
        "bfloat16": metrics["precision"] == "bfloat16",
    }


# --- Tables ----------------------------------------------------------------------------------------------------------
def tables(rows: Iterable[Mapping[str, Any]]) -> str:
    """Markdown: for each set accuracy and macro-F1 in %, mean ± deviation over the draws (their number), and the mean of the
    seconds, by method and rows a label."""
    found = list(rows)
    parts = []
    for name in dict.fromkeys(row["set"] for row in found):
        of_set = [row for row in found if row["set"] == name]
        for title, made in (
            ("accuracy", lambda rows: cell([row["accuracy"] for row in rows])),
            ("macro-F1", lambda rows: cell([row["macro_f1"] for row in rows])),
            ("seconds", lambda rows: f"{mean(row['seconds'] for row in rows):.0f}" if rows else ""),
        ):
            counts = sorted({row["rows_a_label"] for row in of_set})
            lines = [f"| {name}, {title} | {' | '.join(f'{count} rows a label' for count in counts)} |"]
            lines.append(f"| --- |{' ---: |' * len(counts)}")
            for method in dict.fromkeys(_method(row) for row in of_set):
                cells = [
                    made([row for row in of_set if (_method(row), row["rows_a_label"]) == (method, count)])
                    for count in counts
                ]
                lines.append(f"| {method} | {' | '.join(cells)} |")
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _method(row: Mapping[str, Any]) -> str:
    return row["method"] if row["encoder"] is None else f"{row['method']}, {row['encoder']}"


# --- The command -----------------------------------------------------------------------------------------------------
def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 2 for an error that the user can fix."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except TextclfError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pretraining.few_rows", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder of CSV files for each set")
    parser.add_argument("--work", type=Path, required=True, help="folder for temporary files")
    parser.add_argument("--results", type=Path, help="file with a line for each run (default: WORK/few_rows.jsonl)")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help=f"default: {' '.join(SETS)}")
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, metavar="METHOD", help=f"of {', '.join(METHODS)} (default: all)"
    )
    parser.add_argument("--encoders", nargs="+", default=["builtin"], help="sources as in a recipe (default: builtin)")
    parser.add_argument(
        "--rows", nargs="+", type=int, default=list(ROWS_A_LABEL), help="rows a label (default: 8 16 32 64)"
    )
    parser.add_argument("--draws", type=int, default=DRAWS, help=f"draws of training rows (default: {DRAWS})")
    parser.add_argument("--setfit-steps", type=int, default=200, help="most steps of SetFit (default: 200)")
    parser.add_argument("--peers-python", type=Path, help="Python of the environment of the peers")
    parser.add_argument("--table", action="store_true", help="only print the tables of the runs that the results have")
    return parser


def _run(options: argparse.Namespace) -> None:
    for name, values in (
        ("--rows", options.rows),
        ("--draws", [options.draws]),
        ("--setfit-steps", [options.setfit_steps]),
    ):
        if bad := [value for value in values if value < 1]:
            raise ArgumentError(f"{name}: {bad[0]} is too few; use a number from 1")
    options.methods = _methods(options)
    sets = labelled_sets(options.data, options.sets)
    options.work.mkdir(parents=True, exist_ok=True)
    results = Results(options.results or options.work / "few_rows.jsonl", IDENTITY)
    runs = list(measurements(options, sets))
    if not options.table:
        for number, run in enumerate(runs, 1):
            if results.find(run.identity) is None:
                results.add(measure(run, options.work, options.peers_python, results))
                print(_line(results.rows[-1], number, len(runs)), file=sys.stderr, flush=True)
    found = [row for run in runs if (row := results.find(run.identity)) is not None]
    if other := len(results.rows) - len(found):
        print(f"{other} runs of {results.file} are of other sets, methods, weights or draws", file=sys.stderr)
    print(tables(found))


def _methods(options: argparse.Namespace) -> list[str]:
    """What is measured. Raises ArgumentError for peers without a Python."""
    methods = list(dict.fromkeys(options.methods or METHODS))
    peers = [method for method in methods if method in PEERS]
    if peers and options.peers_python is None and not options.table:
        if options.methods is not None:
            raise ArgumentError(calling.without_python(peers[0]))
        print(f"left out: {', '.join(peers)}, because --peers-python names no environment", file=sys.stderr)
        methods = [method for method in methods if method not in PEERS]
    return methods


def _line(row: Mapping[str, Any], number: int, count: int) -> str:
    draw = f"{row['rows_a_label']} rows a label, draw {row['draw']}"
    return f"{number} of {count}: {row['set']}, {_method(row)}, {draw}: {100 * row['accuracy']:.1f} % in {row['seconds']:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
