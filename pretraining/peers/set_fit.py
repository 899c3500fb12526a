"""SetFit on all-MiniLM-L6-v2: pairs of texts of equal and of different labels train the encoder before the head is fitted."""

from __future__ import annotations

from tempfile import TemporaryDirectory

from sentence_transformers import SentenceTransformer, models
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.linear_model import LogisticRegression

from datasets import Dataset
from pretraining.peers.job import Answer, Job
from pretraining.peers.minilm import MAX_LENGTH, MiniLM
from pretraining.teacher import installed_teacher


def run(job: Job) -> Answer:
    """`recipe`: `epochs`, `batch_size` and `max_steps`, after which the encoder is not trained further."""
    folder = str(installed_teacher())
    states = models.Transformer(folder, max_seq_length=MAX_LENGTH)
    pooling = models.Pooling(states.get_word_embedding_dimension(), "mean")
    body = SentenceTransformer(modules=[states, pooling, models.Normalize()])
    names = sorted(set(job.train.labels))
    model = SetFitModel(model_body=body, model_head=LogisticRegression(max_iter=1000), labels=names)
    rows = Dataset.from_dict({"text": job.train.joined, "label": [names.index(label) for label in job.train.labels]})
    with TemporaryDirectory() as output:
        settings = TrainingArguments(
            output_dir=output,
            num_epochs=job.recipe["epochs"],
            batch_size=job.recipe["batch_size"],
            max_steps=job.recipe["max_steps"],
            seed=job.seed,
            save_strategy="no",
            report_to="none",
        )
        trainer = Trainer(model=model, args=settings, train_dataset=rows)
        trainer.train()
    predicted = [str(label) for label in model.predict(job.test.joined)]
    return Answer(predicted, sha256=MiniLM().sha256, bfloat16=False)
