"""Runs in Model Maker's environment, on Python 3.9 and without textclf. Takes a job file, and writes a model and numbers.

    python worker.py FOLDER     does the job in FOLDER/job.json; all its paths are relative to FOLDER
    python worker.py --check    imports Model Maker and prints its versions as JSON

While it runs, it appends one JSON object to `events.jsonl` for each step, epoch and phase. Then it writes `model.tflite`
without metadata, `weights.npz`, `outputs-<split>.npy` and finally `result.json`. Model Maker is unchanged, except for an
additional callback, which reports the steps and stores the outputs for the validation rows after each epoch.
"""

from __future__ import annotations

import csv
import ctypes
import faulthandler
import functools
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl
_EVALUATION_BATCH = 32


def main() -> None:
    faulthandler.enable()
    load_libusb()
    if sys.argv[1:] == ["--check"]:
        print(json.dumps(import_model_maker()["versions"]))
        return
    folder = Path(sys.argv[1])
    os.chdir(folder)
    job = json.loads(Path("job.json").read_text(encoding="utf-8"))
    end_with(job["parent"])
    with open("events.jsonl", "a", encoding="utf-8") as file:
        events = Events(file, job["started"])
        try:
            result = run(job, events)
        except Exception as error:
            traceback.print_exc()
            events.write("failed", message=f"{type(error).__name__}: {error}")
            sys.exit(1)
    write_whole("result.json", json.dumps(result))


def load_libusb() -> None:
    """Loads libusb-1.0 from its package under the name that tflite-support's native code uses.

    Without this, importing Model Maker fails if the system does not have this library.
    """
    import importlib.util

    found = importlib.util.find_spec("libusb_package")
    for folder in found.submodule_search_locations or () if found else ():
        for library in sorted(Path(folder).glob("libusb-1.0.so*")):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def end_with(parent: int) -> None:
    """Makes the kernel kill this process when the process that started it has ended, for whatever reason."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the process that started this one has ended")


class Events:
    """Writes `events.jsonl`. Each line has the seconds since the process started and its peak memory."""

    def __init__(self, file: TextIO, started: float) -> None:
        self.file = file
        self.started = started

    def write(self, event: str, **values: Any) -> None:
        line = {"event": event, "after": round(time.time() - self.started, 3), "peak_mib": peak_memory(), **values}
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()


def peak_memory() -> float:
    """Returns the peak memory of this process in MiB. The value of getrusage includes the process that it was forked from."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1)
    except (OSError, IndexError):
        import resource

        # Linux counts in KiB, macOS in bytes.
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def import_model_maker() -> dict[str, Any]:
    import tensorflow
    import tensorflow_hub
    import tflite_model_maker
    from tflite_model_maker import question_answer, text_classifier

    versions = {
        "python": sys.version.split()[0],
        "tflite-model-maker": tflite_model_maker.__version__,
        "tensorflow": tensorflow.__version__,
        "tensorflow-hub": tensorflow_hub.__version__,
    }
    return {
        "versions": versions,
        "tf": tensorflow,
        "text-classification": text_classifier,
        "question-answering": question_answer,
    }


def run(job: dict[str, Any], events: Events) -> dict[str, Any]:
    """Runs all phases. The result contains the seconds of each."""
    seconds: dict[str, float] = {}

    def phase(name: str, action: Callable[[], Any]) -> Any:
        events.write("phase", name=name)
        begun = time.time()
        value = action()
        seconds[name] = round(time.time() - begun, 3)
        return value

    maker = phase("import", import_model_maker)
    tf = maker["tf"]
    random.seed(job["seed"])
    tf.random.set_seed(job["seed"])
    task = TASKS[job["task"]](job, maker[job["task"]])
    train = phase("load", task.load)
    events.write("loaded", rows=len(train))
    model = phase("train", lambda: task.train(train, reporter(tf, job, events, task.outputs)))
    phase("predict", lambda: predict(job, task, model))
    phase("save", lambda: save_weights(model.model))
    phase("export", lambda: export(job, model))
    task.spec.save_vocab("vocab.txt")
    return {
        "versions": maker["versions"],
        "parameters": int(model.model.count_params()),
        "seconds": seconds,
        "peak_mib": peak_memory(),
    }


class TextClassification:
    """Reads CSV files with the columns text and label."""

    def __init__(self, job: dict[str, Any], text_classifier: Any) -> None:
        self.job, self.maker = job, text_classifier
        settings = {"seq_len": job["max_length"], "dropout_rate": job["dropout"], "model_dir": os.path.abspath("model")}
        if job["encoder"] == "average-words":
            self.spec = text_classifier.AverageWordVecSpec(
                num_words=job["words"], wordvec_dim=job["width"], lowercase=job["lower_case"], **settings
            )
        else:
            self.spec = text_classifier.MobileBertClassifierSpec(
                uri=os.path.abspath("encoder"),
                learning_rate=job["learning_rate"],
                do_lower_case=job["lower_case"],
                **settings,
            )

    def load(self) -> Any:
        """Returns the training rows. They come first, because the other splits use their labels and words."""
        # The module's default does not allow texts of more than 131,072 characters.
        csv.field_size_limit(sys.maxsize)
        self.data = {split: self._loader(split) for split in self.job["splits"]}
        return self.data["train"]

    def _loader(self, split: str) -> Any:
        return self.maker.DataLoader.from_csv(
            split + ".csv",
            text_column="text",
            label_column="label",
            model_spec=self.spec,
            is_training=split == "train",
            cache_dir="cache",
        )

    def train(self, train: Any, callback: Any) -> Any:
        from tensorflow_examples.lite.model_maker.core.task import custom_model

        theirs = custom_model.CustomModel._keras_callbacks

        def callbacks(model: Any, model_dir: str) -> list[Any]:
            return [*theirs(model, model_dir), callback]

        custom_model.CustomModel._keras_callbacks = callbacks
        job = self.job
        return self.maker.create(train, model_spec=self.spec, epochs=job["epochs"], batch_size=job["batch_size"])

    def outputs(self, model: Any, split: str) -> Any:
        """Returns probabilities float32 [rows, labels], in the order of the file."""
        return model.predict(self.data[split].gen_dataset(_EVALUATION_BATCH, is_training=False))


class QuestionAnswering:
    """Reads the training questions from a SQuAD file, and the windows of the other splits as token ids."""

    def __init__(self, job: dict[str, Any], question_answer: Any) -> None:
        self.job, self.maker = job, question_answer
        self.spec = question_answer.MobileBertQaSpec(
            uri=os.path.abspath("encoder"),
            model_dir=os.path.abspath("model"),
            seq_len=job["max_length"],
            query_len=job["question_length"],
            doc_stride=job["stride"],
            learning_rate=job["learning_rate"],
            do_lower_case=job["lower_case"],
        )

    def load(self) -> Any:
        """Returns the windows of the training questions."""
        return self.maker.DataLoader.from_squad(
            "train.json", model_spec=self.spec, is_training=True, version_2_with_negative=True, cache_dir="cache"
        )

    def train(self, train: Any, callback: Any) -> Any:
        # Model Maker passes no callbacks to Keras here, but its spec passes further arguments on.
        self.spec.train = functools.partial(self.spec.train, callbacks=[callback])
        job = self.job
        return self.maker.create(train, model_spec=self.spec, epochs=job["epochs"], batch_size=job["batch_size"])

    def outputs(self, model: Any, split: str) -> Any:
        """Returns logits float32 [windows, tokens, 2], the start of an answer first."""
        import numpy

        with numpy.load(split + ".npz") as windows:
            inputs = {name: windows[name] for name in ("input_word_ids", "input_mask", "input_type_ids")}
        return numpy.stack(model.predict(inputs, batch_size=_EVALUATION_BATCH), axis=-1)


TASKS: dict[str, Any] = {"text-classification": TextClassification, "question-answering": QuestionAnswering}


def reporter(tf: Any, job: dict[str, Any], events: Events, outputs: Callable[[Any, str], Any]) -> Any:
    """Returns the callback for Keras that writes the events of the training."""

    class Reporter(tf.keras.callbacks.Callback):  # type: ignore[misc]  # its package has no types
        def __init__(self) -> None:
            super().__init__()
            self.step = 0
            self.begun = self.rate = 0.0
            self.last_mean = 0.0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            rate = self.model.optimizer.lr
            self.rate = float(rate(self.model.optimizer.iterations) if callable(rate) else rate)
            self.begun = time.time()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seconds = time.time() - self.begun
            self.step += 1
            # Keras reports the mean loss of the epoch so far. The loss of the step follows from the change of the mean.
            mean = float((logs or {}).get("loss", float("nan")))
            loss = mean * (batch + 1) - self.last_mean * batch
            self.last_mean = mean
            events.write(
                "step",
                step=self.step,
                loss=loss,
                learning_rate=self.rate,
                rows=job["batch_size"],
                seconds=round(seconds, 4),
            )

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            file = f"validation-{epoch + 1}.npy"
            save_array(file, outputs(self.model, "validation"))
            logs = {name: float(value) for name, value in (logs or {}).items()}
            events.write("epoch", epoch=epoch + 1, training_loss=logs.get("loss"), file=file)

    return Reporter()


def predict(job: dict[str, Any], task: Any, model: Any) -> None:
    for split in job["splits"]:
        if split != "train":
            save_array(f"outputs-{split}.npy", task.outputs(model.model, split))


def save_weights(model: Any) -> None:
    import numpy

    arrays = {weight.name.partition(":")[0]: weight.numpy() for weight in model.weights}
    numpy.savez("weights.npz", **arrays)


def export(job: dict[str, Any], model: Any) -> None:
    from tflite_model_maker.config import ExportFormat, QuantizationConfig

    quantization = {
        # For MobileBERT, use Model Maker's default.
        "dynamic": lambda: "default" if job["encoder"] == "mobilebert" else QuantizationConfig.for_dynamic(),
        "float16": QuantizationConfig.for_float16,
        "none": lambda: None,
    }[job["quantization"]]()
    model.export(".", export_format=[ExportFormat.TFLITE], quantization_config=quantization, with_metadata=False)


def save_array(name: str, array: Any) -> None:
    import numpy

    numpy.save(name, array)


def write_whole(name: str, text: str) -> None:
    """Writes a file under another name first, so that it is complete when it appears."""
    part = name + ".part"
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(part, name)


if __name__ == "__main__":
    main()
