"""How fast training is, beside PyTorch + transformers used well: the same architecture, batches and processor.

    python benchmarks/training_speed.py --data TRAIN.csv [--encoder published|medium|small] [--compiled]
        [--torch-python /path/to/a/python/with/torch/and/transformers]

Batches of 32 rows of real texts, at most 128 tokens, grouped by length and padded to the longest row of the batch, for all.
PyTorch runs in float32 and with bfloat16 autocast, with its fused AdamW; with --compiled, also compiled. The variants take turns
on the same batches, round by round, so that what else the machine does falls on all of them; the ratios count.
"""

from __future__ import annotations

import argparse
import csv
import json
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

from textclf.data.tokens.batching import Batch, part_count, training_batches  # noqa: E402
from textclf.data.tokens.encoded import Encoded, Tokens, pad  # noqa: E402
from textclf.data.tokens.wordpiece import Tokenizer  # noqa: E402
from textclf.encoders.checkpoint import EncoderCheckpoint, MobileBertConfig, expected_shapes  # noqa: E402
from textclf.encoders.sources.locate import load_checkpoint, load_vocabulary  # noqa: E402
from textclf.model_maker.worker import peak_memory as process_peak_memory  # noqa: E402
from textclf.recipe.settings import TrainingSettings  # noqa: E402
from textclf.training.classification.task import PooledClassifier  # noqa: E402
from textclf.training.machine.hardware import chosen_precision  # noqa: E402
from textclf.training.model import Part  # noqa: E402
from textclf.training.optimizer import AdamW  # noqa: E402
from textclf.training.step import TrainingStep  # noqa: E402

MAX_LENGTH, BATCH_SIZE = 128, 32
MODEL_MAKER = 5.2  # examples a second of Model Maker 0.4.3 on a quiet 2-core machine, everything padded to 128

# Arguments: a folder with batch_N.npz, the encoder's configuration as JSON, float32 or bfloat16, and plain or compiled.
TORCH_SCRIPT = """
import json, sys, time
import numpy as np, torch
from transformers import MobileBertConfig, MobileBertForSequenceClassification
folder, config, precision, compiled = sys.argv[1:5]
model = MobileBertForSequenceClassification(MobileBertConfig(**json.loads(config))).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
forward = torch.compile(model, dynamic=True) if compiled == "compiled" else model
def step(number):
    arrays = np.load(f"{folder}/batch_{number}.npz")
    ids, mask, labels = (torch.from_numpy(arrays[name].astype(np.int64)) for name in ("ids", "mask", "labels"))
    begun = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        logits = forward(input_ids=ids, attention_mask=mask).logits
    torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step(); optimizer.zero_grad()
    return time.perf_counter() - begun
print("ready", flush=True)
for line in sys.stdin:
    print(step(int(line)), flush=True)
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


class Textclf:
    """A trainer of its own, with one precision of matrix products."""

    def __init__(self, precision: str, checkpoint: EncoderCheckpoint, encoded: Encoded, batches: list[Batch]) -> None:
        self.name, self.encoded, self.batches = f"textclf, {precision}", encoded, batches
        model = PooledClassifier(checkpoint, 2, 1)
        optimizer = AdamW(model.variables, 0.01, 1.0)
        self._step = TrainingStep(model, optimizer, TrainingSettings(), tf.as_dtype(precision))

    def seconds(self, number: int) -> float:
        batch = self.batches[number]
        tokens, labels = pad(self.encoded, batch.rows, batch.length), (batch.rows % 2).astype(np.int32)
        begun = time.perf_counter()
        self._step([Part(tokens, labels, np.ones(len(labels), np.float32))], 1e-5, 1, number)
        return time.perf_counter() - begun

    def close(self) -> None:
        pass


class Torch:
    """PyTorch's trainer in a process of its own, with a Python that has torch and transformers."""

    def __init__(self, python: str, folder: Path, config: MobileBertConfig, precision: str, compiled: str) -> None:
        self.name = f"PyTorch + transformers, {precision}" + (", compiled" if compiled == "compiled" else "")
        names = (
            "hidden_size",
            "num_hidden_layers",
            "intra_bottleneck_size",
            "num_attention_heads",
            "intermediate_size",
        )
        names += ("num_feedforward_networks", "key_query_shared_bottleneck", "use_bottleneck_attention")
        given = {name: getattr(config, name) for name in names}
        given |= {"embedding_size": config.embedding_size, "classifier_activation": config.classifier_activation}
        self._process = subprocess.Popen(
            [python, "-c", TORCH_SCRIPT, str(folder), json.dumps(given), precision, compiled],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._process.stdout.readline() != "ready\n":
            sys.exit(f"{python}: torch or transformers did not start")

    def seconds(self, number: int) -> float:
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


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


def flops_a_token(config: MobileBertConfig) -> int:
    """Of the dense layers, forward and backward (twice forward): a multiplication and an addition a weight."""
    kernels = [np.prod(shape) for name, shape in expected_shapes(config).items() if name.endswith("kernel")]
    return int(3 * 2 * sum(kernels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CSV with a column text")
    parser.add_argument("--text", default="text", help="name of that column")
    parser.add_argument("--encoder", choices=["published", "medium", "small"], default="published")
    parser.add_argument("--peak-memory", action="store_true", help="measure only the memory of one trainer")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--compiled", action="store_true", help="compile PyTorch's model, too; this takes minutes")
    parser.add_argument("--torch-python", help="a Python that has torch and transformers")
    options = parser.parse_args()
    published = options.encoder == "published"
    checkpoint = random_checkpoint() if published else load_checkpoint(f"builtin:mobilebert-{options.encoder}")
    if options.peak_memory:
        print(peak_memory(checkpoint))
        return

    encoded, batches = rows_of(options.data, options.text, options.rounds)
    precision = chosen_precision("auto")
    variants: list[Textclf | Torch] = [Textclf(precision, checkpoint, encoded, batches)]
    variants[0].seconds(0)
    print(f"first step {time.monotonic() - STARTED:.1f} s after the start, imports included")
    variants.append(Textclf("float32" if precision == "bfloat16" else "bfloat16", checkpoint, encoded, batches))
    if options.torch_python:
        folder = written(encoded, batches)
        variants += [
            Torch(options.torch_python, folder, checkpoint.config, kind, compiled)
            for kind in ("float32", "bfloat16")
            for compiled in (("plain", "compiled") if options.compiled else ("plain",))
        ]
    for variant in variants:
        # All lengths once: compilers and caches are warm.
        for number in range(len(batches)):
            variant.seconds(number)
    seconds: dict[str, list[float]] = {variant.name: [] for variant in variants}
    for _ in range(2):
        for number in range(len(batches)):
            for variant in variants:
                seconds[variant.name].append(variant.seconds(number))
    for variant in variants:
        variant.close()

    tokens = 2 * BATCH_SIZE * sum(batch.length for batch in batches)
    first = sum(seconds[variants[0].name])
    for name, taken in seconds.items():
        rate = len(taken) * BATCH_SIZE / sum(taken)
        print(f"{rate:7.1f} examples/s  textclf takes {first / sum(taken):4.2f} of its time  {name}")
    if published:
        print(f"{MODEL_MAKER:7.1f} examples/s  Model Maker 0.4.3, quoted from a quiet machine")
    for variant in variants[:2]:
        kind = variant.name.split()[-1]
        peak = matmul_peak(tf.as_dtype(kind))
        reached = flops_a_token(checkpoint.config) * tokens / sum(seconds[variant.name])
        print(f"{kind}: {reached / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s of plain products, {reached / peak:.0%}")
    # In a process of its own: a trainer's memory is not that of all the above.
    arguments = ["--data", str(options.data), "--encoder", options.encoder, "--peak-memory"]
    subprocess.run([sys.executable, __file__, *arguments], check=True)


def rows_of(path: Path, column: str, count: int) -> tuple[Encoded, list[Batch]]:
    """Returns the texts of a CSV, and the first full batches of an epoch."""
    with path.open(newline="", encoding="utf-8") as file:
        texts = [row[column] for row in csv.DictReader(file)]
    vocabulary = load_vocabulary("builtin")
    tokenizer = Tokenizer(vocabulary.pieces, "device", vocabulary.do_lower_case)
    encoded = tokenizer.encode([(text,) for text in texts], MAX_LENGTH)
    batches = training_batches(encoded.lengths, BATCH_SIZE, MAX_LENGTH, seed=1, epoch=0)
    chosen = [batch for batch in batches if len(batch.rows) == BATCH_SIZE][:count]
    lengths = ", ".join(str(batch.length) for batch in chosen)
    print(f"{len(texts)} texts, {encoded.lengths.mean():.1f} tokens on average; batches of {BATCH_SIZE} × {lengths}")
    return encoded, chosen


def written(encoded: Encoded, batches: list[Batch]) -> Path:
    """Writes the batches for PyTorch and returns their folder."""
    folder = Path(tempfile.mkdtemp())
    for number, batch in enumerate(batches):
        ids, mask, _ = pad(encoded, batch.rows, batch.length)
        np.savez(folder / f"batch_{number}.npz", ids=ids, mask=mask, labels=batch.rows % 2)
    return folder


def peak_memory(checkpoint: EncoderCheckpoint) -> str:
    """Of this process after two steps of full batches, no token of them padding."""
    precision = chosen_precision("auto")
    classifier = PooledClassifier(checkpoint, 2, 1)
    optimizer = AdamW(classifier.variables, 0.01, 1.0)
    step = TrainingStep(classifier, optimizer, TrainingSettings(), tf.as_dtype(precision))
    ids = np.random.default_rng(1).integers(1000, 30000, (BATCH_SIZE, MAX_LENGTH)).astype(np.int32)
    count = part_count(Batch(np.arange(BATCH_SIZE), MAX_LENGTH))
    labels, weights = ids[:, 0] % 2, np.ones(BATCH_SIZE, np.float32)
    arrays = (ids, np.ones_like(ids), np.zeros_like(ids), labels, weights)
    split = zip(*(np.array_split(array, count) for array in arrays), strict=True)
    parts = [Part(Tokens(*rows[:3]), *rows[3:]) for rows in split]
    for number in range(2):
        step(parts, 1e-5, 1, number)
    peak = process_peak_memory() / 2**10
    return f"peak memory of one trainer, batches of {BATCH_SIZE} x {MAX_LENGTH} tokens, {precision}: {peak:.2f} GiB"


if __name__ == "__main__":
    main()
