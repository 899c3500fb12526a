"""Stands in for Model Maker's worker: takes the same job, leaves the same files, and misbehaves where it is told to.

    python fake_model_maker.py FOLDER [BEHAVIOUR]

It learns nothing: the probability of a row's own label is 0.9, and no question gets an answer. So that it needs no
encoder, its weights are the same arrays for any job. With FAKE_MODEL, a folder with `model.tflite` and `weights.npz` of a
question answerer, it gives back these, and the logits of that file.
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
from collections.abc import Callable
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
    outputs = logits if "FAKE_MODEL" in os.environ else certain
    train(job, rows, behaviour, outputs)
    for split, values in rows.items():
        if split != "train":
            np.save(f"outputs-{split}.npy", outputs(values))
    np.savez("weights.npz", **{"output/kernel": np.ones((4, 2), np.float32), "output/bias": np.zeros(2, np.float32)})
    Path("model.tflite").write_bytes(b"a model")
    if given := os.environ.get("FAKE_MODEL"):
        shutil.copytree(given, ".", dirs_exist_ok=True)
    result = {"versions": {"tflite-model-maker": "0.0"}, "seconds": {"export": 2.5}, "peak_mib": 12.5}
    Path("result.json").write_text(json.dumps(result))


def train(job: dict, rows: dict, behaviour: str, outputs: Callable[[np.ndarray], np.ndarray]) -> None:
    steps = len(rows["train"]) // job["batch_size"]
    for epoch in range(job["epochs"]):
        for step in range(steps):
            number = epoch * steps + step + 1
            loss = float("nan") if behaviour == "diverge" and number == 2 else 1.0 / number
            event("step", step=number, loss=loss, learning_rate=1e-3, rows=job["batch_size"], seconds=0.5)
        np.save(f"validation-{epoch + 1}.npy", outputs(rows["validation"]))
        event("epoch", epoch=epoch + 1, training_loss=0.5, file=f"validation-{epoch + 1}.npy")


def read(split: str) -> np.ndarray:
    """The labels of a CSV file, the training questions, or the ids, masks and segments of windows, [3, windows, length]."""
    if Path(f"{split}.npz").exists():
        with np.load(f"{split}.npz") as windows:
            return np.stack([windows[f"input_{name}"] for name in ("word_ids", "mask", "type_ids")])
    if Path(f"{split}.json").exists():
        [article] = json.loads(Path(f"{split}.json").read_text(encoding="utf-8"))["data"]
        return np.zeros(len(article["paragraphs"]))
    with open(f"{split}.csv", encoding="utf-8", newline="") as file:
        return np.array([int(row["label"]) for row in csv.DictReader(file)])


def certain(rows: np.ndarray) -> np.ndarray:
    if rows.ndim == 1:
        return np.where(np.arange(2)[None, :] == rows[:, None], 0.9, 0.1).astype(np.float32)
    # The logits of the first token, "no answer", are the highest; padding has some, too.
    _, windows, length = rows.shape
    return np.where(np.arange(length) == 0, 9.0, 0.5)[None, :, None].repeat(windows, 0).repeat(2, 2)


def logits(rows: np.ndarray) -> np.ndarray:
    """Those of the file in the folder FAKE_MODEL, [windows, length, 2], starts first."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(Path(os.environ["FAKE_MODEL"], "model.tflite")))
    interpreter.allocate_tensors()
    inputs = {tensor["name"]: tensor["index"] for tensor in interpreter.get_input_details()}
    outputs = {tensor["name"]: tensor["index"] for tensor in interpreter.get_output_details()}
    found = np.empty((*rows.shape[1:], 2), np.float32)
    for window, row in enumerate(rows.transpose(1, 0, 2)):
        for name, values in zip(("ids", "mask", "segment_ids"), row, strict=True):
            interpreter.set_tensor(inputs[name], values[None].astype(np.int32))
        interpreter.invoke()
        for place, name in enumerate(("start_logits", "end_logits")):
            found[window, :, place] = interpreter.get_tensor(outputs[name])[0]
    return found


def event(kind: str, **values: object) -> None:
    with open("events.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"event": kind, "after": 1.25, "peak_mib": 7.5, **values}) + "\n")


if __name__ == "__main__":
    main()
