"""What a run starts from: teachers, texts, encoders to continue from, and the first weights of its students."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pretraining import corpus as corpora
from pretraining.corpus import Corpus
from pretraining.initialise import initial_weights
from pretraining.learner import Learner
from pretraining.rows import (
    CLASSIFICATION,
    SEPARATOR,
    PlannedBatch,
    Texts,
    held_out_batches,
    make_texts,
    plan_epoch,
)
from pretraining.settings import Settings
from pretraining.teacher import Teacher
from pretraining.teacher_files import StoredTeacher, installed_minilm, installed_mpnet, read_teacher
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.sources.locate import load_checkpoint
from textclf.errors import ArgumentError, EncoderError

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


def prepare(
    settings: Settings, texts: Path, run: Path, minilm_folder: Path | None, mpnet_folder: Path | None
) -> Prepared:
    """Reads the teachers, by default those of the installed packages, and tokenizes `texts` into the run folder."""
    minilm = read_teacher(minilm_folder or installed_minilm())
    vocabulary = minilm.vocabulary
    if len(vocabulary) <= SEPARATOR or (vocabulary[CLASSIFICATION], vocabulary[SEPARATOR]) != ("[CLS]", "[SEP]"):
        raise EncoderError(
            "the first teacher does not have BERT's vocabulary: expected [CLS] and [SEP] with ids 101 and 102"
        )
    mpnet = None
    if settings.reads_mpnet:
        mpnet = read_teacher(mpnet_folder or installed_mpnet(run / "teachers"), vocabulary)
    _check_students(settings, minilm, mpnet)
    found = [corpora.prepared(texts, name, vocabulary, run / name, settings.seed) for name in ("corpus", "heldout")]
    return Prepared(minilm, mpnet, *found)


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


def continued(given: Sequence[str], settings: Settings) -> dict[str, EncoderCheckpoint]:
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


def start(
    learners: Sequence[Learner],
    settings: Settings,
    prepared: Prepared,
    continued_from: Mapping[str, EncoderCheckpoint],
    device: torch.device,
    say: Callable[[str], None],
) -> None:
    """First weights and first maps of every student. Raises ArgumentError for an encoder with another vocabulary."""
    corpus = prepared.corpus
    for name, checkpoint in continued_from.items():
        if checkpoint.vocabulary != prepared.minilm.vocabulary:
            raise ArgumentError(f"--continue-from {name}: this encoder has another vocabulary than the teachers")
    fitting = settings.mixture.model_copy(update={"tokens": settings.fit.tokens})
    planned = plan_epoch(corpus, fitting, settings.seed, _FIT_EPOCH)[: settings.fit.batches]
    texts = _texts(corpus, planned, device)
    minilm, mpnet = prepared.teachers(device, torch.float32)
    needed = {number for student in settings.students.values() for number in student.mpnet_layers.values()}
    taught = [mpnet(batch).only(needed) for batch in texts] if mpnet else []
    for learner in learners:
        say(f"first weights of {learner.name}")
        learner.start(_first_weights(learner, minilm, continued_from, texts, settings.seed), texts, taught)


def _first_weights(
    learner: Learner,
    minilm: Teacher,
    continued_from: Mapping[str, EncoderCheckpoint],
    texts: Sequence[Texts],
    seed: int,
) -> dict[str, Tensor]:
    if learner.name in continued_from:
        return {name: torch.from_numpy(array) for name, array in continued_from[learner.name].weights.items()}
    return initial_weights(learner.config, minilm, learner.plan.minilm_layers, texts, seed)


def held_out_texts(settings: Settings, corpus: Corpus, device: torch.device) -> list[Texts]:
    return _texts(corpus, held_out_batches(corpus, settings.mixture, _MEASURED_BATCHES, 1), device)


def _texts(corpus: Corpus, batches: Sequence[PlannedBatch], device: torch.device) -> list[Texts]:
    """Without holes."""
    ids = torch.from_numpy(corpus.ids.astype(np.int32)).to(device)
    return [make_texts(ids, PlannedBatch(batch.length, batch.rows, False)) for batch in batches]
