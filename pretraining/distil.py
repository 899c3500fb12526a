"""Distils the built-in encoders: one command from text files to folders that `textclf` loads.

    python -m pretraining.distil --corpus CORPUS_FOLDER --run RUN_FOLDER

Stages: corpus, first weights, training, export. A stage whose result is in RUN_FOLDER is not repeated, so the same command
resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pretraining import corpus as corpora
from pretraining.attention import chosen_kernels
from pretraining.corpus import Corpus
from pretraining.export import export, split
from pretraining.initialise import initial_weights
from pretraining.learner import Learner
from pretraining.rows import (
    CLASSIFICATION,
    SEPARATOR,
    BatchStream,
    PlannedBatch,
    Texts,
    held_out_batches,
    make_texts,
    plan_epoch,
)
from pretraining.run_folder import RunFolder
from pretraining.settings import DEFAULT, Settings, read_settings
from pretraining.teacher import Teacher
from pretraining.teacher_files import StoredTeacher, installed_minilm, installed_mpnet, read_teacher
from pretraining.training import Run, train
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.sources.locate import load_checkpoint
from textclf.errors import ArgumentError, EncoderError, TextclfError

# Epochs that training never reaches: texts for the fits.
_FIT_EPOCH = 2**31
_MEASURED_BATCHES = 3


@dataclass(frozen=True)
class Prepared:
    """What a run reads: teachers and texts."""

    minilm: StoredTeacher
    mpnet: StoredTeacher | None
    corpus: Corpus
    held_out: Corpus

    def teachers(self, device: torch.device, dtype: torch.dtype) -> tuple[Teacher, Teacher | None]:
        return Teacher(self.minilm, device, dtype), Teacher(self.mpnet, device, dtype) if self.mpnet else None


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        given = _arguments(arguments)
        if given.threads:
            torch.set_num_threads(given.threads)
        folder = RunFolder(given.run)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with folder.in_use(), chosen_kernels(device):
            return _distil(given, folder, device)
    except TextclfError as error:
        print(error, file=sys.stderr)
        return 2


def _distil(given: argparse.Namespace, folder: RunFolder, device: torch.device) -> int:
    bfloat16 = given.precision == "bfloat16" or (given.precision == "auto" and device.type == "cuda")
    settings = read_settings(given.settings, _budget(given))
    continued = _continued(given.continue_from, settings)
    prepared = _prepare(given, settings)
    if given.prepare_only:
        return 0
    others = {
        "precision": "bfloat16" if bfloat16 else "float32",
        "minilm": prepared.minilm.fingerprint,
        "mpnet": prepared.mpnet.fingerprint if prepared.mpnet else None,
        "continued": {name: checkpoint.fingerprint() for name, checkpoint in continued.items()},
    }
    folder.agree(settings, others, prepared.minilm.vocabulary)

    learners = [Learner(name, settings, device) for name in settings.students]
    teachers = prepared.teachers(device, torch.bfloat16 if bfloat16 else torch.float32)
    run = Run(settings, teachers, learners, device, bfloat16=bfloat16)
    if folder.has_state:
        run.restore(folder.state(device))
        folder.rewind_log(run.progress.step)
    else:
        _start(run, prepared, continued)
        folder.save(run.state())
    _say(f"{folder.path}: {_standing(run)}, on {device} in {others['precision']}")

    def keep() -> None:
        folder.save(run.state())
        _export(run, given.export or folder.path / "encoders", given.split_mib)

    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    progress = run.progress
    stream = BatchStream(prepared.corpus, settings.mixture, settings.seed, device, progress.epoch, progress.batch)
    held_out = _texts(
        prepared.held_out, held_out_batches(prepared.held_out, settings.mixture, _MEASURED_BATCHES, 1), device
    )
    if given.compile:
        _compile(run, held_out[0])
    finished = train(run, stream, held_out, folder, keep, 60 * given.save_minutes)
    keep()
    _say(f"{folder.path}: {_standing(run)}{'' if finished else '; the same command resumes it'}")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


def _standing(run: Run) -> str:
    return f"{run.progress.step:,} steps, {run.progress.tokens:,} tokens ({run.share:.1%} of the budget)"


def _budget(given: argparse.Namespace) -> dict[str, float] | None:
    if given.tokens is None and given.seconds is None:
        return None
    return {"tokens": given.tokens} if given.seconds is None else {"seconds": given.seconds}


# --- what a run starts from ------------------------------------------------------------------------------------------
def _prepare(given: argparse.Namespace, settings: Settings) -> Prepared:
    minilm = read_teacher(given.minilm or installed_minilm())
    vocabulary = minilm.vocabulary
    if len(vocabulary) <= SEPARATOR or (vocabulary[CLASSIFICATION], vocabulary[SEPARATOR]) != ("[CLS]", "[SEP]"):
        raise EncoderError(
            "the first teacher does not have BERT's vocabulary: expected [CLS] and [SEP] with ids 101 and 102"
        )
    mpnet = None
    if settings.reads_mpnet:
        mpnet = read_teacher(given.mpnet or installed_mpnet(given.run / "teachers"), vocabulary)
    _check_students(settings, minilm, mpnet)
    _say("tokenizing the corpus, unless it was done before")
    texts = [
        corpora.prepared(given.corpus, name, vocabulary, given.run / name, settings.seed)
        for name in ("corpus", "heldout")
    ]
    return Prepared(minilm, mpnet, *texts)


def _check_students(settings: Settings, minilm: StoredTeacher, mpnet: StoredTeacher | None) -> None:
    """Raises ArgumentError for students that cannot learn from these teachers."""
    heads, longest = settings.relations.heads, settings.mixture.longest
    for role, teacher in (("MiniLM", minilm), ("MPNet", mpnet)):
        if teacher and teacher.config.positions < longest:
            raise ArgumentError(
                f"`mixture.lengths` ends with {longest}, but {role} has only {teacher.config.positions} positions"
            )
    for name, student in settings.students.items():
        config, layers = student.config, minilm.config.num_hidden_layers
        if config.vocab_size != len(minilm.vocabulary):
            raise ArgumentError(
                f"the student {name} has a vocabulary of {config.vocab_size:,}, the teachers one of"
                f" {len(minilm.vocabulary):,}; set `vocab_size` in its config"
            )
        if config.hidden_size != minilm.config.hidden_size:
            raise ArgumentError(
                f"the student {name} has states of {config.hidden_size} numbers, MiniLM of {minilm.config.hidden_size};"
                " set `hidden_size` in its config"
            )
        if max(student.minilm_layers) >= layers:
            raise ArgumentError(
                f"`minilm_layers` of {name} names layer {max(student.minilm_layers)}, MiniLM has {layers}"
            )
        if student.mpnet_layers and mpnet:
            if max(student.mpnet_layers.values()) > mpnet.config.num_hidden_layers:
                raise ArgumentError(
                    f"`mpnet_layers` of {name} names state {max(student.mpnet_layers.values())}, MPNet has"
                    f" {mpnet.config.num_hidden_layers}"
                )
            if config.intra_bottleneck_size % heads or mpnet.config.hidden_size % heads:
                raise ArgumentError(
                    f"`relations.heads` is {heads}, which does not divide {config.intra_bottleneck_size} (student {name})"
                    f" and {mpnet.config.hidden_size} (MPNet)"
                )


def _continued(given: Sequence[str], settings: Settings) -> dict[str, EncoderCheckpoint]:
    """`given`: NAME=ENCODER each. Raises ArgumentError for other names and for encoders of another shape."""
    found = {}
    for argument in given:
        name, equals, source = argument.partition("=")
        if not equals or name not in settings.students:
            raise ArgumentError(
                f"--continue-from {argument}: expected NAME=ENCODER with one of the students {', '.join(settings.students)}"
            )
        checkpoint = load_checkpoint(source)
        if not isinstance(checkpoint, EncoderCheckpoint) or checkpoint.config != settings.students[name].config:
            raise ArgumentError(
                f"--continue-from {argument}: this encoder has another shape than the student {name}: found"
                f" {getattr(checkpoint, 'config', checkpoint)}, expected {settings.students[name].config}"
            )
        found[name] = checkpoint
    return found


def _start(run: Run, prepared: Prepared, continued: Mapping[str, EncoderCheckpoint]) -> None:
    """First weights and first maps of every student."""
    settings, corpus, device = run.settings, prepared.corpus, run.device
    fitting = settings.mixture.model_copy(update={"tokens": settings.fit.tokens})
    planned = plan_epoch(corpus, fitting, settings.seed, _FIT_EPOCH)[: settings.fit.batches]
    texts = _texts(corpus, planned, device)
    minilm, mpnet = prepared.teachers(device, torch.float32)
    needed = {number for student in settings.students.values() for number in student.mpnet_layers.values()}
    taught = [mpnet(batch).only(needed) for batch in texts] if mpnet else []
    for learner in run.learners:
        _say(f"first weights of {learner.name}")
        learner.start(_first_weights(learner, minilm, continued, texts, settings.seed), texts, taught)


def _first_weights(
    learner: Learner, minilm: Teacher, continued: Mapping[str, EncoderCheckpoint], texts: Sequence[Texts], seed: int
) -> dict[str, Tensor]:
    if learner.name in continued:
        return {name: torch.from_numpy(array) for name, array in continued[learner.name].weights.items()}
    return initial_weights(learner.config, minilm, learner.plan.minilm_layers, texts, seed)


def _texts(corpus: Corpus, batches: Sequence[PlannedBatch], device: torch.device) -> list[Texts]:
    """Without holes."""
    ids = torch.from_numpy(corpus.ids.astype(np.int32)).to(device)
    return [make_texts(ids, PlannedBatch(batch.length, batch.rows, False)) for batch in batches]


# --- compiler and results --------------------------------------------------------------------------------------------
def _compile(run: Run, texts: Texts) -> None:
    """Compiles for the shapes of training, or says why not and continues without: a compiler may be missing."""
    run.compile()
    try:
        run.rehearse(texts)
    except Exception as error:
        warnings.warn(f"training continues without torch.compile, which failed: {error}", stacklevel=2)
        run.compile(False)
        for learner in run.learners:
            learner.optimiser.zero_grad(set_to_none=True)


def _export(run: Run, out: Path, split_mib: int | None) -> None:
    for learner in run.learners:
        export(out / learner.name, learner.config, learner.arrays(), run.minilm.vocabulary)
        if split_mib:
            split(out / learner.name, split_mib)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pretraining.distil", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--corpus", type=Path, required=True, help="folder with corpus-*.txt[.xz] and heldout.txt[.xz]")
    add("--run", type=Path, required=True, help="folder for the tokenized corpus, state.pt and log.jsonl")
    add("--settings", type=Path, default=DEFAULT, help="YAML file (default: %(default)s)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--tokens", type=int, help="budget in tokens without padding, instead of that of the settings")
    budget.add_argument("--seconds", type=float, help="budget in seconds of training, instead of that of the settings")
    add("--minilm", type=Path, help="folder of the first teacher (default: its Python package)")
    add("--mpnet", type=Path, help="folder of the second teacher (default: its Python packages)")
    add(
        "--continue-from",
        action="append",
        default=[],
        metavar="NAME=ENCODER",
        help="first weights of a student: a folder, or another source that a recipe's `encoder` accepts",
    )
    add("--prepare-only", action="store_true", help="only tokenize the corpus and unpack the teachers")
    add("--export", type=Path, help="folder for the encoders, one folder per student (default: RUN/encoders)")
    add("--split-mib", type=int, help="split the weights of an encoder into parts of at most this many MiB")
    add("--save-minutes", type=float, default=5.0, help="minutes between two saved states (default: %(default)s)")
    add("--precision", choices=["auto", "bfloat16", "float32"], default="auto", help="auto: bfloat16 on a GPU")
    add("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    add("--no-compile", dest="compile", action="store_false", help="do not use torch.compile")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
