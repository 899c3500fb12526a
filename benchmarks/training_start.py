"""Where the time goes between the command `textclf train` and its first step.

Starts the command for a recipe several times, each time in a process of its own that ends after the first step, and prints
the median seconds of each part. What was read from the disk once is in the file cache, so the first round is not counted.

    python benchmarks/training_start.py RECIPE [--rounds 5] [SETTING=VALUE]...
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Runs the command with a clock around its parts; prints the time at which each part ended, the seconds since the epoch.
TIMED = r"""
import importlib, json, os, sys, time

ended = {}

def timed(module, name, part):
    where, _, attribute = name.rpartition(".")
    holder = importlib.import_module(module)
    holder = getattr(holder, where) if where else holder
    function = getattr(holder, attribute)

    def call(*arguments, **options):
        result = function(*arguments, **options)
        ended.setdefault(part, time.time())
        return result

    setattr(holder, attribute, call)

from textclf.cli.main import main
ended["Python and the command line"] = time.time()

def patch_training():
    timed("textclf.runs.train", "keep_tables", "data read, checked and split into tokens")
    from textclf.training import loop
    timed("textclf.training.loop", "_Training.__init__", "variables of the model and the optimiser")
    timed("textclf.training.classification.task", "Classification._pooled_outputs", "encoder's outputs for the first head")
    timed("textclf.training.classification.task", "Classification.fit_first_head", "first head fitted")
    timed("textclf.training.loop", "_Training._measure_first_head", "first head measured on the validation rows")
    step = loop.TrainingStep.__call__

    def first_step(*arguments):
        step(*arguments)
        ended["first step, with what is left of its tracing"] = time.time()
        print(json.dumps(ended), flush=True)
        os._exit(0)

    loop.TrainingStep.__call__ = first_step

training = importlib.import_module("textclf.cli.training")
load = training.load_tensorflow

def load_and_patch(**options):
    load(**options)
    ended["TensorFlow"] = time.time()
    patch_training()

training.load_tensorflow = load_and_patch
sys.argv = ["textclf", "train", *sys.argv[1:]]
main()
"""


def measured(words: list[str]) -> dict[str, float]:
    """The seconds of each part of one start, in order."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.time()
        done = subprocess.run(
            [sys.executable, "-c", TIMED, *words, "--run-dir", f"{folder}/run"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
    if not done.stdout:
        raise SystemExit("the training did not come to its first step; try `textclf train` with this recipe")
    parts, before = {}, started
    for part, ended in sorted(json.loads(done.stdout).items(), key=lambda item: item[1]):
        parts[part] = ended - before
        before = ended
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("settings", nargs="*", metavar="SETTING=VALUE")
    options = parser.parse_intermixed_args()
    words = [str(options.recipe), *options.settings]
    measured(words)
    rounds = [measured(words) for _ in range(options.rounds)]
    print("| part | s |\n| --- | ---: |")
    for part in rounds[0]:
        print(f"| {part} | {statistics.median(one[part] for one in rounds):.1f} |")
    print(
        f"| from the command to the end of the first step | {statistics.median(sum(one.values()) for one in rounds):.1f} |"
    )


if __name__ == "__main__":
    main()
