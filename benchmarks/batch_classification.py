"""How fast `textclf classify` is beside what else classifies a table: one model of the published size, real short texts.

In: sms_spam and banking77 (folders with train, dev and test CSVs), repeated with variations. Out: a table of rows a
second on all cores and on one, the share of the time inside the interpreter, peak memory, the time to the first row, and
whether the bars are met. The others:

- a loop over MediaPipe's TextClassifier, in this Python or in that of --mediapipe-python;
- LiteRT used plainly: one interpreter on all cores, each row padded to 128 tokens;
- ONNX Runtime on all cores (--onnx-python, a Python with torch, transformers, onnx and onnxruntime): the same architecture
  exported from transformers, its weights quantised to int8, rows sorted by length in batches of 8 and of 32, each padded to
  its longest row.

LiteRT and ONNX Runtime are handed tokens; splitting texts into tokens and reading and writing tables are not counted for them.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from textclf.data.tokens.encoded import Encoded

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

DATASETS = ("sms_spam", "banking77")
MAX_LENGTH = 128
LABELS = ("first", "second", "third", "fourth")

# Model Maker 0.4.3's `evaluate_tflite`: 0.24 s a row for a full-size MobileBERT at length 128 on 2 cores. It needs
# Python 3.9 and TensorFlow 2.8, so it is quoted rather than run.
MODEL_MAKER_ROWS_A_SECOND = 4.2

MEDIAPIPE_LOOP = """
import json, sys, time
from mediapipe.tasks.python import text
model, texts = sys.argv[1], json.load(sys.stdin)
with text.TextClassifier.create_from_model_path(model) as classifier:
    classifier.classify("a first call, which prepares the weights")
    begun = time.perf_counter()
    labels = [classifier.classify(words).classifications[0].categories[0].category_name for words in texts]
    seconds = time.perf_counter() - begun
print(json.dumps({"rows_per_second": len(texts) / seconds, "labels": labels}))
"""


ONNX_LOOP = """
import json, os, sys, time
import numpy as np, onnxruntime, torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import MobileBertConfig, MobileBertForSequenceClassification
folder, labels = sys.argv[1], int(sys.argv[2])
config = MobileBertConfig(classifier_activation=False, num_labels=labels, attn_implementation="eager")
class Logits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = MobileBertForSequenceClassification(config).eval()
    def forward(self, ids, mask):
        return self.model(input_ids=ids, attention_mask=mask).logits
example = torch.ones((2, 16), dtype=torch.int64)
axes = {"ids": {0: "rows", 1: "length"}, "mask": {0: "rows", 1: "length"}, "logits": {0: "rows"}}
float_file, file = os.path.join(folder, "float.onnx"), os.path.join(folder, "int8.onnx")
torch.onnx.export(Logits(), (example, example), float_file, input_names=["ids", "mask"], output_names=["logits"],
                  dynamic_axes=axes, dynamo=False)
quantize_dynamic(float_file, file, weight_type=QuantType.QInt8)
session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
tokens = sorted(json.load(sys.stdin), key=len)
def classify(rows):
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for row, numbers in enumerate(rows):
        ids[row, :len(numbers)] = numbers
    session.run(None, {"ids": ids, "mask": (ids > 0).astype(np.int64)})
rates = {}
for size in (8, 32):
    classify(tokens[-size:])
    begun = time.perf_counter()
    for start in range(0, len(tokens), size):
        classify(tokens[start:start + size])
    rates[size] = len(tokens) / (time.perf_counter() - begun)
print(json.dumps(rates))
"""


@dataclass(frozen=True)
class Measured:
    """One run of `textclf classify`: what its summary says, and its largest resident memory in MB."""

    rows_per_second: float
    interpreter_share: float
    peak_megabytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000, help="rows for all cores; a quarter of them for one core")
    parser.add_argument("--mediapipe-rows", type=int, default=500)
    parser.add_argument("--mediapipe-python", default=sys.executable, help="a Python that has mediapipe")
    parser.add_argument("--onnx-python", help="a Python that has torch, transformers, onnx and onnxruntime")
    parser.add_argument("--onnx-rows", type=int, default=2000)
    parser.add_argument("--litert-rows", type=int, default=200)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--model", type=Path, help="a .tflite; by default a full-size one with random weights is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(options, Path(folder))


def run(options: argparse.Namespace, folder: Path) -> None:
    model = options.model or folder / "model.tflite"
    if not options.model:
        # In a process of its own: the memory of this one would count as that of every process that it starts.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as other:
            other.submit(make_model, model).result()
    texts = varied_texts(options.data, options.rows)
    everything, part = folder / "texts.csv", folder / "part.csv"
    write_table(everything, texts)
    write_table(part, texts[: options.rows // 4])
    cores = sorted(os.sched_getaffinity(0))
    first_row = seconds_to_first_row(model, everything)
    # MediaPipe before and after, so that a machine whose speed drifts does not decide.
    some = texts[:: max(1, len(texts) // options.mediapipe_rows)][: options.mediapipe_rows]
    before = mediapipe_loop(options.mediapipe_python, model, some)
    all_cores = classify(model, everything, folder, cores)
    others = {"LiteRT, one interpreter, padded to 128": litert_plainly(model, texts[: options.litert_rows], len(cores))}
    if options.onnx_python:
        rows = encoded(model, texts[: options.onnx_rows])
        tokens = [ids.tolist() for ids in np.split(rows.flat_ids, rows.offsets[1:-1])]
        for size, rate in onnx_runtime(options.onnx_python, tokens, folder).items():
            others[f"ONNX Runtime int8, sorted by length, batches of {size}"] = rate
    one_core = classify(model, part, folder, cores[:1])
    after = mediapipe_loop(options.mediapipe_python, model, some)
    mediapipe = (before["rows_per_second"] + after["rows_per_second"]) / 2
    print(report(len(cores), all_cores, one_core, mediapipe, first_row, others))
    print(f"\nThe same label as MediaPipe on {equal_labels(model, some, before['labels']):.1%} of {len(some)} texts.")


def make_model(path: Path) -> None:
    """A MobileBERT of the published size with random weights: what it says is of no interest, how fast is."""
    from textclf.data.tokens.vocabulary import read_vocabulary
    from textclf.encoders.checkpoint import MobileBertConfig, expected_shapes
    from textclf.tflite.graph.mobilebert import ClassifierWeights, build_inference_graph
    from textclf.tflite.metadata import write_metadata

    numbers = np.random.default_rng(0)
    config = MobileBertConfig()
    arrays = {
        name: (numbers.standard_normal(shape) * 0.02 + name.endswith("gamma")).astype(np.float32)
        for name, shape in expected_shapes(config).items()
    }
    head = numbers.standard_normal((config.hidden_size, len(LABELS))).astype(np.float32)
    weights = ClassifierWeights(config, arrays, "additive", head, np.zeros(len(LABELS), np.float32))
    [vocabulary, *_] = sorted((REPOSITORY / "textclf" / "encoders" / "builtin").glob("*/vocab.txt"))
    settings = {"tokenizer": "device", "text": ["text"], "label": "label"}
    content = build_inference_graph(weights, MAX_LENGTH, "dynamic")
    path.write_bytes(
        write_metadata(
            content, name="benchmark", labels=LABELS, vocabulary=read_vocabulary(vocabulary), settings=settings
        )
    )


def varied_texts(data: Path, count: int) -> list[str]:
    """Real texts in a random order; once all are used, again with one word of each replaced, so that none is equal."""
    files = [data / name / f"{split}.csv" for name in DATASETS for split in ("train", "dev", "test")]
    originals = []
    for file in files:
        with file.open(newline="", encoding="utf-8") as stream:
            originals += [row["text"] for row in csv.DictReader(stream)]
    dice = random.Random(0)
    dice.shuffle(originals)
    texts = originals[:count]
    while len(texts) < count:
        words = originals[len(texts) % len(originals)].split(" ")
        words[dice.randrange(len(words))] = str(len(texts))
        texts.append(" ".join(words))
    return texts


def write_table(path: Path, texts: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(texts))


def classify_command(model: Path, table: Path, output: str, *options: str) -> list[str]:
    code = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from textclf.cli.main import main; main(sys.argv[1:])"
    return [sys.executable, "-c", code, "classify", str(model), str(table), "-o", output, *options]


def classify(model: Path, table: Path, folder: Path, cores: Sequence[int]) -> Measured:
    """One run of the command, held to some cores."""
    output = folder / f"labels-{len(cores)}.csv"
    command = classify_command(model, table, str(output), "--json", "--force")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        summary = json.loads(process.stdout.read())
        _, _, usage = os.wait4(process.pid, 0)
    finally:
        os.sched_setaffinity(0, before)
    return Measured(summary["rows_per_second"], summary["interpreter_share"], usage.ru_maxrss / 1024)


def seconds_to_first_row(model: Path, table: Path) -> float:
    """From the start of the process to the first classified row on standard output; the better of two."""
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        with subprocess.Popen(classify_command(model, table, "-"), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()  # the header
            process.stdout.readline()
            seconds.append(time.perf_counter() - begun)
            process.kill()
    return min(seconds)


def mediapipe_loop(python: str, model: Path, texts: Sequence[str]) -> dict[str, object]:
    command = [python, "-c", MEDIAPIPE_LOOP, str(model)]
    done = subprocess.run(command, input=json.dumps(texts), text=True, capture_output=True, check=False)
    if done.returncode:
        sys.exit(
            f"{python} cannot run MediaPipe's TextClassifier; name one that can with --mediapipe-python\n{done.stderr}"
        )
    return json.loads(done.stdout)


def encoded(model: Path, texts: Sequence[str]) -> Encoded:
    from textclf.classify.classifier import Classifier

    return Classifier(model).tokenizer.encode([(text,) for text in texts], MAX_LENGTH)


def litert_plainly(model: Path, texts: Sequence[str], threads: int) -> float:
    """Rows a second of one interpreter, one row at a time, each padded to the length of the file."""
    from ai_edge_litert.interpreter import Interpreter

    from textclf.data.tokens.encoded import pad

    interpreter = Interpreter(str(model), num_threads=threads)
    runner = interpreter.get_signature_runner()
    rows = encoded(model, texts)
    begun = time.perf_counter()
    for row in range(len(rows)):
        tokens = pad(rows, [row], MAX_LENGTH)
        runner(ids=tokens.ids, mask=tokens.mask, segment_ids=tokens.segments)
    return len(rows) / (time.perf_counter() - begun)


def onnx_runtime(python: str, tokens: Sequence[Sequence[int]], folder: Path) -> dict[str, float]:
    """Rows a second by batch size."""
    command = [python, "-c", ONNX_LOOP, str(folder), str(len(LABELS))]
    done = subprocess.run(command, input=json.dumps(tokens), text=True, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{python} cannot export MobileBERT and run it with ONNX Runtime\n{done.stderr}")
    rates: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return rates


def equal_labels(model: Path, texts: Sequence[str], labels: Sequence[str]) -> float:
    from textclf.classify.classifier import Classifier

    predictions = Classifier(model).classify(texts)
    return float(np.mean([prediction.label == label for prediction, label in zip(predictions, labels, strict=True)]))


def report(
    cores: int,
    all_cores: Measured,
    one_core: Measured,
    mediapipe: float,
    first_row: float,
    others: Mapping[str, float],
) -> str:
    rows = [
        (f"textclf classify, {cores} cores", all_cores.rows_per_second),
        ("textclf classify, 1 core", one_core.rows_per_second),
        ("loop over MediaPipe's TextClassifier", mediapipe),
        *others.items(),
        ("Model Maker's evaluate_tflite (measured elsewhere)", MODEL_MAKER_ROWS_A_SECOND),
    ]
    bars = [
        ("times MediaPipe's loop", all_cores.rows_per_second / mediapipe, 6.0, True),
        *((f"times {name}", all_cores.rows_per_second / rate, 2.0, True) for name, rate in others.items()),
        ("times Model Maker's evaluate_tflite", all_cores.rows_per_second / MODEL_MAKER_ROWS_A_SECOND, 15.0, True),
        ("of the threads' time in the interpreter", all_cores.interpreter_share, 0.9, True),
        (f"times one core on {cores}", all_cores.rows_per_second / one_core.rows_per_second, 0.9 * cores, True),
        ("MB at most", all_cores.peak_megabytes, 700.0, False),
        ("s to the first classified row", first_row, 1.5, False),
    ]
    lines = ["| | rows a second |", "| --- | ---: |", *(f"| {name} | {rate:.1f} |" for name, rate in rows), ""]
    lines += ["| measured | | bar | |", "| ---: | --- | ---: | --- |"]
    for name, value, bar, at_least in bars:
        met = value >= bar if at_least else value <= bar
        lines.append(f"| {value:.2f} | {name} | {'≥' if at_least else '≤'} {bar:g} | {'met' if met else 'NOT MET'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
