"""Fine-tunes encoders with several recipes in PyTorch, to review textclf's defaults on a GPU in minutes.

    python -m pretraining.fine_tuning --data DATA --encoders small=builtin:mobilebert-small --results FILE.jsonl

Takes the sets of `pretraining.evaluate`. Recipes that read the same batches are trained side by side, as one model with a
first axis for the runs; `--processes` share the other work. Appends one line a run to the results, and prints a Markdown
table; runs that the file already has are not repeated. `--tokens FOLDER` keeps the token ids: where it has those of a set,
the CSV files are not read, and `--data` may be left out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import torch

from pretraining.evaluate import IDENTITY
from pretraining.fine_tuning.recipes import DEFAULT, FineTuning, read_recipes
from pretraining.fine_tuning.running import Inputs, Runner, identity, jobs_of, missing_of
from pretraining.fine_tuning.stack import check_form
from pretraining.fine_tuning.tokens import TokenSet, part_names, token_file, tokenize
from pretraining.results import Results
from pretraining.sets import find_sets, for_development
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.sources.locate import load_checkpoint
from textclf.errors import ArgumentError, TextclfError


# --- Table -----------------------------------------------------------------------------------------------------------
def table(
    rows: Sequence[Mapping[str, Any]], recipes: Mapping[str, FineTuning], sets: Sequence[str], cut: int | None
) -> str:
    """Markdown: a row for each recipe and encoder, accuracy in %, mean ± deviation over the seeds.

    The deviation of the mean column is that over the seeds of the mean over the sets.
    """
    lines = [f"| accuracy in % | encoder | {' | '.join(sets)} | mean |", f"| --- | --- |{' ---: |' * (len(sets) + 1)}"]
    for encoder in dict.fromkeys(row["encoder"] for row in rows):
        for name, recipe in recipes.items():
            wanted = {**recipe.changes, **({} if cut is None else {"rows": cut})}
            own = [row for row in rows if row["encoder"] == encoder and row["recipe"] == wanted]
            by_set = {one: {row["seed"]: row["accuracy"] for row in own if row["set"] == one} for one in sets}
            everywhere = set.intersection(*(set(of_set) for of_set in by_set.values()))
            means = [mean(by_set[one][seed] for one in sets) for seed in sorted(everywhere)]
            cells = [_cell(list(of_set.values())) for of_set in by_set.values()]
            lines.append(f"| {name} | {encoder} | {' | '.join(cells)} | {_cell(means, 2)} |")
    return "\n".join(lines)


def _cell(scores: Sequence[float], digits: int = 1) -> str:
    if not scores:
        return ""
    deviation = f" ± {100 * stdev(scores):.{digits}f}" if len(scores) > 1 else ""
    return f"{100 * mean(scores):.{digits}f}{deviation}"


# --- The command -----------------------------------------------------------------------------------------------------
def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 if a job failed, 2 for an error that the user can fix."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except TextclfError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.fine_tuning", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--data", type=Path, help="folder with a folder of CSV files for each set")
    parser.add_argument(
        "--tokens", type=Path, help="folder that keeps the token ids of sets (default: a temporary one)"
    )
    parser.add_argument(
        "--encoders",
        nargs="+",
        default=["small=builtin:mobilebert-small", "medium=builtin:mobilebert-medium"],
        metavar="NAME=SOURCE",
        help="sources as in a recipe (default: the built-in encoders)",
    )
    parser.add_argument(
        "--sets", nargs="+", help="names of sets (default: all with one label a row); needed without --data"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument(
        "--split",
        choices=("test", "dev"),
        default="dev",
        help="the rows that are measured; with dev, the default, a tenth of the training rows chooses the epoch",
    )
    parser.add_argument("--recipes", type=Path, default=DEFAULT, help=f"YAML file (default: {DEFAULT.name})")
    parser.add_argument("--only", nargs="+", metavar="RECIPE", help="only these recipes of the file")
    parser.add_argument("--results", type=Path, help="file with a line for each run")
    parser.add_argument("--processes", type=int, default=1, help="processes that share the jobs (default: 1)")
    parser.add_argument("--at-once", type=int, default=12, help="the most recipes side by side (default: 12)")
    parser.add_argument("--seconds", type=float, help="ends the command after this time; finished runs are kept")
    parser.add_argument("--rows", type=int, help="uses at most this many rows of each part of a set, for a rehearsal")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--prepare", action="store_true", help="only write the token ids to --tokens")
    return parser


def _run(options: argparse.Namespace) -> int:
    started = time.monotonic()
    recipes = _recipes(options)
    encoders = {name: load_checkpoint(source) for name, source in map(_encoder, options.encoders)}
    for encoder in encoders.values():
        check_form(encoder)
    if options.prepare and options.tokens is None:
        raise ArgumentError("--prepare writes token ids, but --tokens names no folder for them")
    if options.results is None and not options.prepare:
        raise ArgumentError("--results is missing; name a file such as results.jsonl for the runs")
    with TemporaryDirectory() as temporary:
        folder = options.tokens or Path(temporary) / "tokens"
        sets, tokens = _tokens(options, encoders, recipes, folder, Path(temporary))
    print(
        part_names([next(found for key, found in tokens.items() if key[0] == name) for name in sets]), file=sys.stderr
    )
    if options.prepare:
        return 0
    results = Results(options.results, IDENTITY)
    checksums = {name: encoder.fingerprint() for name, encoder in encoders.items()}
    inputs = Inputs(options.split, encoders, checksums, tokens, options.device, options.rows)
    wanted = jobs_of(dict.fromkeys(options.seeds), sets, encoders, recipes, options.at_once)
    jobs = [job for found in wanted if (job := missing_of(found, inputs, results)) is not None]
    until = float("inf") if options.seconds is None else started + options.seconds
    runner = Runner(inputs, results, until)
    if options.processes == 1:
        runner.here(jobs)
    else:
        runner.in_processes(jobs, options.processes)
    found = [
        row for job in wanted for name in job.recipes if (row := results.find(identity(inputs, job, name))) is not None
    ]
    print(table(found, recipes, sets, options.rows))
    return 1 if runner.failed else 0


def _recipes(options: argparse.Namespace) -> dict[str, FineTuning]:
    recipes = read_recipes(options.recipes)
    unknown = [name for name in options.only or () if name not in recipes]
    if unknown:
        raise ArgumentError(f"--only: {options.recipes} has no recipe {unknown[0]!r}; it has {', '.join(recipes)}")
    return {name: recipe for name, recipe in recipes.items() if options.only is None or name in options.only}


def _encoder(text: str) -> tuple[str, str]:
    name, equals, source = text.partition("=")
    if not name or not equals or not source:
        raise ArgumentError(f"--encoders {text}: expected NAME=SOURCE, for example small=builtin:mobilebert-small")
    return name, source


def _tokens(
    options: argparse.Namespace,
    encoders: Mapping[str, EncoderCheckpoint],
    recipes: Mapping[str, FineTuning],
    folder: Path,
    temporary: Path,
) -> tuple[list[str], dict[tuple[str, str, int], TokenSet]]:
    """Returns the names of the sets, and their tokens by set, encoder and length, from files or from the CSV files."""
    if options.data is None and not (options.tokens and options.sets):
        raise ArgumentError(
            "--data is missing; without it, --tokens and --sets must name token ids that --prepare wrote"
        )
    listed = [] if options.data is None else find_sets(options.data, options.sets)[0]
    found = {data.name: data for data in listed}
    names = list(found) or list(dict.fromkeys(options.sets))
    files: dict[Path, TokenSet] = {}
    tokens = {}
    for name in names:
        for encoder_name, encoder in encoders.items():
            for length in {recipe.max_length for recipe in recipes.values()}:
                file = token_file(folder, name, options.split, encoder, length)
                if file not in files:
                    if not file.exists():
                        if options.data is None:
                            raise ArgumentError(f"--tokens: {file} does not exist; write it with --data and --prepare")
                        data = found[name]
                        if options.split == "dev":
                            data = for_development(data, temporary / "dev-parts")
                        tokenize(data, encoder, length).write(file)
                    read = TokenSet.read(name, file)
                    files[file] = read if options.rows is None else read.some(options.rows)
                tokens[name, encoder_name, length] = files[file]
    return names, tokens


if __name__ == "__main__":
    sys.exit(main())
