"""Stands in for Model Maker's worker: takes the same job, leaves the same files, and misbehaves where it is told to.

    python fake_model_maker.py FOLDER [BEHAVIOUR]

It learns nothing: the probability of a row's own label is 0.9, and no question gets an answer. So that it needs no
encoder, its weights are the same arrays for any job.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np


def main() -> None:
    os.chdir(sys.argv[1])
    behaviour = sys.argv[2] if len(sys.argv) > 2 else ""
    job = json.loads(Path("job.json").read_text(encoding="utf-8"))
    if behaviour == "silent":
        return
    if behaviour == "keep":
        shutil.copytree(".", os.environ["FAKE_KEPT"])
        return
    event("phase", name="import")
    print("a line of chatter")
    rows = {split: read(split) for split in job["splits"]}
    event("loaded", rows=len(rows["train"]))
    event("phase", name="train")
    if behaviour == "raise":
        event("failed", message="ValueError: the sky is falling")
        sys.exit(1)
    if behaviour == "killed":
        print("gasp", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "endless":
        # A process of its own and a deaf ear: all that makes a program hard to end.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(os.environ["FAKE_PIDS"]).write_text(f"{os.getpid()} {child.pid}")
        event("phase", name="endless")
        time.sleep(600)
    train(job, rows, behaviour)
    for split, values in rows.items():
        if split != "train":
            np.save(f"outputs-{split}.npy", certain(values))
    np.savez("weights.npz", **{"output/kernel": np.ones((4, 2), np.float32), "output/bias": np.zeros(2, np.float32)})
    Path("model.tflite").write_bytes(b"a model")
    result = {"versions": {"tflite-model-maker": "0.0"}, "seconds": {"export": 2.5}, "peak_mib": 12.5}
    Path("result.json").write_text(json.dumps(result))


def train(job: dict, rows: dict, behaviour: str) -> None:
    steps = len(rows["train"]) // job["batch_size"]
    for epoch in range(job["epochs"]):
        for step in range(steps):
            number = epoch * steps + step + 1
            loss = float("nan") if behaviour == "diverge" and number == 2 else 1.0 / number
            event("step", step=number, loss=loss, learning_rate=1e-3, rows=job["batch_size"], seconds=0.5)
        np.save(f"validation-{epoch + 1}.npy", certain(rows["validation"]))
        event("epoch", epoch=epoch + 1, training_loss=0.5, file=f"validation-{epoch + 1}.npy")


def read(split: str) -> np.ndarray:
    """The labels of a CSV file, the training questions, or the token ids of windows."""
    if Path(f"{split}.npz").exists():
        return np.load(f"{split}.npz")["input_word_ids"]
    if Path(f"{split}.json").exists():
        [article] = json.loads(Path(f"{split}.json").read_text(encoding="utf-8"))["data"]
        return np.zeros(len(article["paragraphs"]))
    with open(f"{split}.csv", encoding="utf-8", newline="") as file:
        return np.array([int(row["label"]) for row in csv.DictReader(file)])


def certain(rows: np.ndarray) -> np.ndarray:
    if rows.ndim == 1:
        return np.where(np.arange(2)[None, :] == rows[:, None], 0.9, 0.1).astype(np.float32)
    # The logits of the first token, "no answer", are the highest; padding has some, too.
    return np.where(np.arange(rows.shape[1]) == 0, 9.0, 0.5)[None, :, None].repeat(len(rows), 0).repeat(2, 2)


def event(kind: str, **values: object) -> None:
    with open("events.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"event": kind, "after": 1.25, "peak_mib": 7.5, **values}) + "\n")


if __name__ == "__main__":
    main()
