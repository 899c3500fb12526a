"""How fast training is, beside the same trainer without grouping by length and beside PyTorch + transformers.

    python benchmarks/training_speed.py --data TRAIN.csv [--torch-python /path/to/a/python/with/torch/and/transformers]

A MobileBERT of the published size with random weights, batches of 32 rows of real texts, length at most 128. The variants
take turns on the same rows, round by round, so that what else the machine does falls on all of them; the ratios count.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
STARTED = time.monotonic()
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402 - the clock starts before the imports
import tensorflow as tf  # noqa: E402

from textclf.data.tokens.batching import Batch, padded_length, part_count, training_batches  # noqa: E402
from textclf.data.tokens.encoded import Encoded, Tokens, pad  # noqa: E402
from textclf.data.tokens.wordpiece import Tokenizer  # noqa: E402
from textclf.encoders.checkpoint import EncoderCheckpoint, MobileBertConfig, expected_shapes  # noqa: E402
from textclf.encoders.mobilebert import bfloat16_product  # noqa: E402
from textclf.encoders.sources.locate import load_vocabulary  # noqa: E402
from textclf.model_maker.worker import peak_memory as process_peak_memory  # noqa: E402
from textclf.recipe.settings import TrainingSettings  # noqa: E402
from textclf.training.classification.task import PooledClassifier  # noqa: E402
from textclf.training.model import Part  # noqa: E402
from textclf.training.optimizer import AdamW  # noqa: E402
from textclf.training.step import TrainingStep  # noqa: E402

MAX_LENGTH, BATCH_SIZE = 128, 32
MODEL_MAKER = 5.2  # examples a second of Model Maker 0.4.3 on a quiet 2-core machine, everything padded to 128

TORCH_SCRIPT = """
import sys, time
import numpy as np, torch
from transformers import MobileBertConfig, MobileBertForSequenceClassification
arrays = np.load(sys.argv[1])
model = MobileBertForSequenceClassification(MobileBertConfig(classifier_activation=False)).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
ids, mask, labels = (torch.from_numpy(arrays[name].astype(np.int64)) for name in ("ids", "mask", "labels"))
def step():
    loss = torch.nn.functional.cross_entropy(model(input_ids=ids, attention_mask=mask).logits, labels)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step(); optimizer.zero_grad()
step()
print("ready", flush=True)
for line in sys.stdin:
    begun = time.perf_counter(); step(); print(time.perf_counter() - begun, flush=True)
"""


def random_checkpoint() -> EncoderCheckpoint:
    config, random = MobileBertConfig(), np.random.default_rng(0)
    weights = {
        name: np.ones(shape, np.float32)
        if name.endswith("gamma")
        else (random.standard_normal(shape) * (0.5 / np.sqrt(shape[0]) if name.endswith("kernel") else 0.02)).astype(
            np.float32
        )
        for name, shape in expected_shapes(config).items()
    }
    return EncoderCheckpoint(config, weights, ["[PAD]"], True, "additive", "random", Path("random"))


class Variant:
    """A trainer of its own with one kind of matrix product and of padding."""

    def __init__(self, name: str, product: Callable, encoded: Encoded, batches: list[Batch]) -> None:
        self.name, self.encoded, self.batches = name, encoded, batches
        classifier = PooledClassifier(CHECKPOINT, 2, 1)
        self.step = TrainingStep(classifier, AdamW(classifier.variables, 0.01, 1.0), TrainingSettings(), product)
        self.rates: list[float] = []

    def run(self, number: int) -> None:
        rows = self.batches[number % len(self.batches)]
        tokens = pad(self.encoded, rows.rows, rows.length)
        labels = (rows.rows % 2).astype(np.int32)
        begun = time.perf_counter()
        self.step([Part(tokens, labels, np.ones(len(labels), np.float32))], 1e-5, 1, number)
        self.rates.append(time.perf_counter() - begun)

    @property
    def examples_a_second(self) -> float:
        return len(self.rates) * BATCH_SIZE / sum(self.rates)


CHECKPOINT = random_checkpoint()


def matmul_peak(dtype: tf.DType) -> float:
    """Floating-point operations a second of the best of some large products."""
    left, right = (tf.cast(tf.random.normal(shape), dtype) for shape in ([4096, 512], [512, 512]))
    product = tf.function(lambda: tf.matmul(left, right))
    product()
    best = min(_timed(product) for _ in range(20))
    return 2 * 4096 * 512 * 512 / best


def _timed(call: Callable) -> float:
    begun = time.perf_counter()
    call().numpy()
    return time.perf_counter() - begun


def flops_a_token() -> int:
    """Of the dense layers, forward and backward (twice forward): a multiplication and an addition a weight."""
    kernels = [np.prod(shape) for name, shape in expected_shapes(CHECKPOINT.config).items() if name.endswith("kernel")]
    return int(3 * 2 * sum(kernels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CSV with a column text")
    parser.add_argument("--text", default="text", help="name of that column")
    parser.add_argument("--peak-memory", action="store_true", help="measure only the memory of one trainer")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--torch-python", help="a Python that has torch and transformers")
    options = parser.parse_args()
    if options.peak_memory:
        print(peak_memory())
        return

    with options.data.open(newline="", encoding="utf-8") as file:
        texts = [row[options.text] for row in csv.DictReader(file)]
    vocabulary = load_vocabulary("builtin")
    tokenizer = Tokenizer(vocabulary.pieces, "device", vocabulary.do_lower_case)
    encoded = tokenizer.encode([(text,) for text in texts], MAX_LENGTH)
    grouped = [
        batch
        for batch in training_batches(encoded.lengths, BATCH_SIZE, MAX_LENGTH, seed=1, epoch=0)
        if len(batch.rows) == BATCH_SIZE
    ]
    padded = [Batch(batch.rows, MAX_LENGTH) for batch in grouped]
    shuffled_order = np.random.default_rng(1).permutation(len(texts))
    shuffled = [
        Batch(rows, padded_length(int(encoded.lengths[rows].max()), MAX_LENGTH))
        for rows in np.split(shuffled_order[: len(grouped) * BATCH_SIZE], len(grouped))
    ]
    print(f"{len(texts)} texts, {encoded.lengths.mean():.1f} tokens on average, batches of {BATCH_SIZE}")

    variants = []
    for name, product, batches in (
        ("grouped by length, bfloat16", bfloat16_product, grouped),
        ("grouped by length, float32", tf.matmul, grouped),
        ("padded to the longest of a random batch, bfloat16", bfloat16_product, shuffled),
        ("padded to 128, bfloat16", bfloat16_product, padded),
    ):
        variant = Variant(name, product, encoded, batches)
        variant.run(0)
        if not variants:
            print(f"first step {time.monotonic() - STARTED:.1f} s after the start, imports included")
        variants.append(variant)
    torch = _torch(options.torch_python, encoded, padded[0]) if options.torch_python else None
    torch_seconds = []
    for variant in variants:
        variant.rates.clear()
    for number in range(options.rounds):
        for variant in variants:
            variant.run(number)
        if torch is not None and number < 3:
            torch.stdin.write("\n")
            torch.stdin.flush()
            torch_seconds.append(float(torch.stdout.readline()))
    if torch is not None:
        torch.stdin.close()
        torch.wait()

    slowest = variants[-1].examples_a_second
    for variant in variants:
        print(
            f"{variant.examples_a_second:7.1f} examples/s  {variant.examples_a_second / slowest:4.1f}x  {variant.name}"
        )
    if torch_seconds:
        rate = BATCH_SIZE / np.mean(torch_seconds)
        print(f"{rate:7.1f} examples/s  {rate / slowest:4.1f}x  PyTorch + transformers, padded to 128, float32")
    print(
        f"{MODEL_MAKER:7.1f} examples/s  {MODEL_MAKER / slowest:4.1f}x  Model Maker 0.4.3, quoted from a quiet machine"
    )
    tokens = sum(BATCH_SIZE * grouped[number % len(grouped)].length for number in range(options.rounds))
    for variant, dtype in zip(variants[:2], (tf.bfloat16, tf.float32), strict=True):
        peak, reached = matmul_peak(dtype), flops_a_token() * tokens / sum(variant.rates)
        print(
            f"roofline: {variant.name}: {reached / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s of plain {dtype.name} products, "
            f"{reached / peak:.0%}"
        )
    # In a process of its own: a trainer's memory is not that of all the above.
    subprocess.run([sys.executable, __file__, "--data", options.data, "--peak-memory"], check=True)


def peak_memory() -> str:
    """Of this process after two steps of full batches, no token of them padding."""
    classifier = PooledClassifier(CHECKPOINT, 2, 1)
    optimizer = AdamW(classifier.variables, 0.01, 1.0)
    step = TrainingStep(classifier, optimizer, TrainingSettings(), bfloat16_product)
    ids = np.random.default_rng(1).integers(1000, 30000, (BATCH_SIZE, MAX_LENGTH)).astype(np.int32)
    count = part_count(Batch(np.arange(BATCH_SIZE), MAX_LENGTH))
    labels, weights = ids[:, 0] % 2, np.ones(BATCH_SIZE, np.float32)
    arrays = (ids, np.ones_like(ids), np.zeros_like(ids), labels, weights)
    split = zip(*(np.array_split(array, count) for array in arrays), strict=True)
    parts = [Part(Tokens(*rows[:3]), *rows[3:]) for rows in split]
    for number in range(2):
        step(parts, 1e-5, 1, number)
    peak = process_peak_memory() / 2**10
    return f"peak memory of one trainer, batches of {BATCH_SIZE} x {MAX_LENGTH} tokens, bfloat16: {peak:.2f} GiB"


def _torch(python: str, encoded: Encoded, batch: Batch) -> subprocess.Popen[str]:
    ids, mask, _ = pad(encoded, batch.rows, batch.length)
    path = Path(tempfile.mkdtemp()) / "batch.npz"
    np.savez(path, ids=ids, mask=mask, labels=batch.rows % 2)
    process = subprocess.Popen(
        [python, "-c", TORCH_SCRIPT, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    if process.stdout.readline() != "ready\n":
        sys.exit(f"{python}: torch or transformers did not start")
    return process


if __name__ == "__main__":
    main()
