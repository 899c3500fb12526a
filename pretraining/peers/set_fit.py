"""SetFit on all-MiniLM-L6-v2: pairs of texts of equal and of different labels train the encoder before the head is fitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from tempfile import TemporaryDirectory

from setfit import SetFitModel, Trainer, TrainingArguments

from datasets import Dataset
from pretraining.peers.job import Answer, Job
from pretraining.peers.minilm import MAX_LENGTH, sha256_of_weights
from pretraining.teacher_files import installed_minilm


def run(job: Job) -> Answer:
    """`recipe`: `batch_size` and `max_steps`, after which the encoder is not trained further. Otherwise SetFit's defaults."""
    batch_size = job.recipe["batch_size"]
    steps = min(job.recipe["max_steps"], steps_of_an_epoch(job.train.labels, batch_size))
    names = sorted(set(job.train.labels))
    model = SetFitModel.from_pretrained(str(installed_minilm()), labels=names)
    model.model_body.max_seq_length = MAX_LENGTH
    rows = Dataset.from_dict({"text": job.train.joined, "label": [names.index(label) for label in job.train.labels]})
    with TemporaryDirectory() as output:
        settings = TrainingArguments(
            output_dir=output,
            batch_size=batch_size,
            max_steps=steps,
            seed=job.seed,
            save_strategy="no",
            report_to="none",
        )
        trainer = Trainer(model=model, args=settings, train_dataset=rows)
        trainer.train()
    predicted = [str(label) for label in model.predict(job.test.joined)]
    return Answer(predicted, {"steps": steps}, sha256_of_weights())


def steps_of_an_epoch(labels: Sequence[str], batch_size: int) -> int:
    """The steps of SetFit's default, one epoch in which the rarer kind of pairs is repeated as often as the other one."""
    equal = sum(count * (count - 1) // 2 for count in Counter(labels).values())
    different = len(labels) * (len(labels) - 1) // 2 - equal
    return -(-2 * max(equal, different) // batch_size)
