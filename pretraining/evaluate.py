"""Fine-tunes the built-in encoders on labelled data with one fixed recipe, beside what a user would try instead.

    python -m pretraining.evaluate --data DATA --work WORK --results pretraining/results.jsonl --peers-python PYTHON

Takes a folder with one folder a set (sets.py). Appends one line a run to the results and prints Markdown tables of them;
runs that the file already has are not repeated, so the same command continues an interrupted measurement. Needs TensorFlow.
`PYTHON` belongs to the environment of the peers (peers/__init__.py): TF-IDF with logistic regression, and all-MiniLM-L6-v2
fine-tuned in PyTorch, both with settings that were chosen on the dev rows. `--encoders random:mobilebert-small` measures the
shape of a built-in encoder with random weights. `--split dev` measures on the dev rows, to review defaults without looking
at test rows.
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
from pretraining.peers.calling import FINE_TUNED, TF_IDF
from pretraining.results import Results, cell, processor
from pretraining.sets import SETS, LabelledSet, find_sets, for_development
from textclf.encoders.checkpoint import EncoderCheckpoint, expected_shapes
from textclf.encoders.formats.textclf_format import write_encoder
from textclf.encoders.sources.locate import builtin_names, load_checkpoint
from textclf.errors import ArgumentError, TextclfError
from textclf.recipe.settings import BUILTIN_FOR_QUESTIONS

# The same for every set. Rate and epochs were chosen on the dev splits of sst2 and mrpc, where 1e-4 and above overfit.
RECIPE = {"epochs": 4, "batch_size": 32, "learning_rate": 5e-5, "max_length": 128}
TF_IDF_RECIPE = {"words": [1, 2], "characters": [2, 5], "C": [3, 10, 30]}
PEER_RATES = (2e-5, 5e-5, 1e-4)
RANDOM = "random:"
PEERS = (TF_IDF, FINE_TUNED)
IDENTITY = ("split", "set", "encoder", "sha256", "seed", "recipe")


@dataclass(frozen=True)
class Measurement:
    """One run: what is fine-tuned with which recipe on which set; `sha256` is None where only the peer knows it."""

    split: str
    data: LabelledSet
    encoder: str
    sha256: str | None
    seed: int | None
    recipe: dict[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """What a line of the results has in common with this run if it is the same run."""
        found = {name: getattr(self, name) for name in IDENTITY if name != "set"} | {"set": self.data.name}
        if self.encoder in PEERS:
            del found["sha256"]
        return found


# --- What is measured ------------------------------------------------------------------------------------------------
def measurements(
    options: argparse.Namespace, sets: Sequence[LabelledSet], encoders: Sequence[str], recipe: dict[str, Any]
) -> Iterator[Measurement]:
    """Every run, with all sets and encoders for the first seed before the next one. TF-IDF does not depend on a seed."""
    split, seeds = options.split, list(dict.fromkeys(options.seeds))
    for seed in seeds:
        checksums = {encoder: _sha256(encoder, seed) for encoder in encoders if encoder not in PEERS}
        for data in sets:
            for encoder in encoders:
                if encoder == TF_IDF:
                    if seed == seeds[0]:
                        yield Measurement(split, data, encoder, None, None, TF_IDF_RECIPE)
                elif encoder == FINE_TUNED:
                    yield Measurement(split, data, encoder, None, seed, peer_recipe(recipe, options.peer_rates))
                else:
                    yield Measurement(split, data, encoder, checksums[encoder], seed, recipe)


def _sha256(encoder: str, seed: int) -> str:
    return _checkpoint(encoder, seed).fingerprint()


def _checkpoint(encoder: str, seed: int) -> EncoderCheckpoint:
    if encoder.startswith(RANDOM):
        return random_encoder(load_checkpoint(f"builtin:{encoder.removeprefix(RANDOM)}"), seed)
    return load_checkpoint(encoder)


def random_encoder(like: EncoderCheckpoint, seed: int) -> EncoderCheckpoint:
    """The same architecture as MobileBERT starts out: normal with deviation 0.02, normalisations neutral."""
    random = np.random.default_rng(seed)
    weights = {}
    for name, shape in expected_shapes(like.config).items():
        if name.endswith(("bias", "gamma", "beta")):
            weights[name] = np.full(shape, float(name.endswith("gamma")), np.float32)
        else:
            weights[name] = (0.02 * random.standard_normal(shape)).astype(np.float32)
    return replace(like, weights=weights)


def peer_recipe(recipe: Mapping[str, Any], rates: Sequence[float]) -> dict[str, Any]:
    """The recipe of the fine-tuned peer: the same epochs and batches, and the rates that it tries."""
    return {"epochs": recipe["epochs"], "batch_size": recipe["batch_size"], "learning_rates": list(rates)}


def recipe_with(changes: Sequence[str]) -> dict[str, Any]:
    """RECIPE with changes such as `epochs=3`, read and checked like the keys of a recipe. Raises a TextclfError for others."""
    overrides = []
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key or key in ("seed", "seeds"):
            raise ArgumentError(
                f"--recipe {change}: expected KEY=VALUE with a key of a recipe's `training` section other than the seed, or "
                "max_length; for example --recipe epochs=3 learning_rate=1e-4"
            )
        overrides.append(f"{'encoder' if key == 'max_length' else 'training'}.{key}={value}")
    names = {"name": "recipe", "dataset": {"train": "train.csv"}}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.yaml"
        file.write_text(_yaml(names, "builtin", RECIPE, seed=1), encoding="utf-8")
        recipe = textclf.load_recipe(file, overrides)
    settings = recipe.training.model_dump(mode="json", exclude_unset=True)
    del settings["seed"]
    if not isinstance(settings["epochs"], int) or settings["epochs"] < 1:
        raise ArgumentError(
            f"--recipe: epochs is {settings['epochs']}, but a number from 1 is needed to compare encoders"
        )
    return {**settings, "max_length": recipe.encoder.max_length}


# --- Measuring -------------------------------------------------------------------------------------------------------
def recipe_text(data: LabelledSet, encoder: str, recipe: Mapping[str, Any], seed: int) -> str:
    """The YAML of one run."""
    dataset = {
        "train": str(data.train),
        "validation": str(data.validation),
        "test": str(data.test),
        "text": list(data.text) if len(data.text) > 1 else data.text[0],
        "label": data.label,
    }
    name = f"{data.name}-{seed}".replace("_", "-")
    return _yaml({"name": name, "dataset": dataset}, encoder, recipe, seed)


def _yaml(parts: Mapping[str, Any], encoder: str, recipe: Mapping[str, Any], seed: int) -> str:
    training = {key: value for key, value in recipe.items() if key != "max_length"}
    settings = {
        **parts,
        "encoder": {"source": encoder, "max_length": recipe["max_length"]},
        "training": {**training, "seed": seed},
    }
    return yaml.safe_dump(settings, sort_keys=False)


def measure(run: Measurement, work: Path, python: Path | None, results: Results) -> dict[str, Any]:
    """Returns the line of the results; what was written on the way is removed."""
    found = _measured_by_peer(run, python, results) if run.encoder in PEERS else _measured_by_textclf(run, work)
    names = {"split": run.split, "set": run.data.name, "encoder": run.encoder, "sha256": run.sha256, "seed": run.seed}
    return {**names, "recipe": run.recipe, **found}


def _measured_by_textclf(run: Measurement, work: Path) -> dict[str, Any]:
    assert run.seed is not None
    with TemporaryDirectory(dir=work) as folder:
        source = run.encoder
        if source.startswith(RANDOM):
            write_encoder(Path(folder) / "encoder", _checkpoint(source, run.seed))
            source = str((Path(folder) / "encoder").resolve())
        file = Path(folder) / "recipe.yaml"
        file.write_text(recipe_text(run.data, source, run.recipe, run.seed), encoding="utf-8")
        metrics = textclf.train(textclf.load_recipe(file), Path(folder) / "run", quiet=True).metrics
    return {
        "accuracy": metrics["test"]["accuracy"],
        "macro_f1": metrics["test"]["macro_f1"],
        "best_epoch": metrics["best_epoch"],
        "bytes": metrics["export"]["bytes"],
        "seconds": metrics["seconds"],
        "processor": processor(),
        "bfloat16": metrics["precision"] == "bfloat16",
    }


def _measured_by_peer(run: Measurement, python: Path | None, results: Results) -> dict[str, Any]:
    assert python is not None
    recipe = dict(run.recipe)
    if run.encoder == FINE_TUNED and (rate := _chosen_rate(run, results)) is not None:
        recipe["learning_rates"] = [rate]
    return asdict(calling.call(python, run.encoder, run.data, run.seed or 0, recipe))


def _chosen_rate(run: Measurement, results: Results) -> float | None:
    """The learning rate that the first seed chose on the validation rows; None if no seed did."""
    same = {name: value for name, value in run.identity.items() if name != "seed"}
    first = results.find(same)
    return None if first is None else first["chosen"]["learning_rate"]


# --- Tables ----------------------------------------------------------------------------------------------------------
def tables(rows: Iterable[Mapping[str, Any]]) -> str:
    """Markdown of runs on one split: accuracy and macro-F1 in %, mean ± deviation over the seeds (their number)."""
    found = list(rows)
    return "\n\n".join(_table(found, *score) for score in (("accuracy", "accuracy"), ("macro_f1", "macro-F1")))


def _table(rows: Sequence[Mapping[str, Any]], score: str, title: str) -> str:
    encoders = list(dict.fromkeys(row["encoder"] for row in rows))
    names = list(dict.fromkeys(row["set"] for row in rows))
    counted = [name for name in names if name in SETS]
    split = rows[0]["split"] if rows else "no"
    lines = [f"| {split} rows, {title} in % | {' | '.join(encoders)} |", f"| --- |{' ---: |' * len(encoders)}"]
    scores = {
        (name, encoder): [row[score] for row in rows if (row["set"], row["encoder"]) == (name, encoder)]
        for name in names
        for encoder in encoders
    }
    for name in [*counted, *(name for name in names if name not in SETS)]:
        lines.append(f"| {name} | {' | '.join(cell(scores[name, encoder]) for encoder in encoders)} |")
        if len(counted) > 1 and name == counted[-1]:
            means = [_mean_of_sets([scores[name, encoder] for name in counted]) for encoder in encoders]
            lines.append(f"| **mean of {len(counted)} sets** | {' | '.join(means)} |")
    return "\n".join(lines)


def _mean_of_sets(scores: Sequence[Sequence[float]]) -> str:
    """Each set counts once, however many seeds it has; empty if a set was not measured."""
    return f"{100 * mean(mean(of_set) for of_set in scores):.1f}" if all(scores) else ""


# --- The command -----------------------------------------------------------------------------------------------------
def _classifying_encoders() -> list[str]:
    """The built-in encoders without the one for questions."""
    return [source for name in builtin_names() if (source := f"builtin:{name}") != BUILTIN_FOR_QUESTIONS]


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
    parser = argparse.ArgumentParser(prog="python -m pretraining.evaluate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder of CSV files for each set")
    parser.add_argument("--work", type=Path, required=True, help="folder for temporary files")
    parser.add_argument("--results", type=Path, help="file with a line for each run (default: WORK/results.jsonl)")
    parser.add_argument("--sets", nargs="+", help="names of sets (default: all with one label a row)")
    parser.add_argument(
        "--encoders",
        nargs="+",
        help=f"sources as in a recipe, {RANDOM}NAME for random weights in the shape of builtin:NAME, {', '.join(PEERS)} "
        "(default: the built-in encoders and the peers)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument(
        "--recipe",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="other settings of training, or max_length; of the peers, epochs and batch_size hold for all-minilm-l6-v2",
    )
    parser.add_argument(
        "--split",
        choices=("test", "dev"),
        default="test",
        help="the rows that are measured; with dev, a tenth of the training rows chooses the epoch",
    )
    parser.add_argument(
        "--peer-rates",
        nargs="+",
        type=float,
        default=list(PEER_RATES),
        metavar="RATE",
        help="learning rates that all-minilm-l6-v2 tries with the first seed (default: 2e-5 5e-5 1e-4)",
    )
    parser.add_argument("--peers-python", type=Path, help="Python of the environment of the peers")
    parser.add_argument("--table", action="store_true", help="only print the tables of the runs that the results have")
    return parser


def _run(options: argparse.Namespace) -> None:
    if bad := [seed for seed in options.seeds if not 0 <= seed < 2**32]:
        raise ArgumentError(f"--seeds: {bad[0]} is not a seed; a seed is a number from 0 to 4294967295")
    if bad_rates := [rate for rate in options.peer_rates if not 0 < rate <= 1]:
        raise ArgumentError(f"--peer-rates: {bad_rates[0]} is not a learning rate; use numbers above 0 and at most 1")
    recipe = recipe_with(options.recipe)
    encoders = _encoders(options)
    sets, left_out = find_sets(options.data, options.sets)
    for line in left_out:
        print(line, file=sys.stderr)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.split == "dev":
        sets = [for_development(found, options.work / "dev-parts") for found in sets]
    results = Results(options.results or options.work / "results.jsonl", IDENTITY)
    runs = list(measurements(options, sets, encoders, recipe))
    if not options.table:
        for number, run in enumerate(runs, 1):
            if results.find(run.identity) is None:
                results.add(measure(run, options.work, options.peers_python, results))
                print(_line(results.rows[-1], number, len(runs)), file=sys.stderr, flush=True)
    found = [row for run in runs if (row := results.find(run.identity)) is not None]
    if other := len(results.rows) - len(found):
        print(f"{other} runs of {results.file} are of other sets, encoders, weights, seeds or recipes", file=sys.stderr)
    print(tables(found))


def _encoders(options: argparse.Namespace) -> list[str]:
    """What is measured. Raises ArgumentError for peers without a Python."""
    encoders = list(dict.fromkeys(options.encoders or [TF_IDF, *_classifying_encoders(), FINE_TUNED]))
    peers = [encoder for encoder in encoders if encoder in PEERS]
    if peers and options.peers_python is None and not options.table:
        if options.encoders is not None:
            raise ArgumentError(calling.without_python(peers[0]))
        print(f"left out: {' and '.join(peers)}, because --peers-python names no environment", file=sys.stderr)
        encoders = [encoder for encoder in encoders if encoder not in PEERS]
    return encoders


def _line(row: Mapping[str, Any], number: int, count: int) -> str:
    seed = "" if row["seed"] is None else f", seed {row['seed']}"
    return f"{number} of {count}: {row['set']}, {row['encoder']}{seed}: {100 * row['accuracy']:.1f} % in {row['seconds']:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
