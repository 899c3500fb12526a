"""Every form of the exported file at full size beside TFLite Model Maker's: size, latency at 1 and 2 threads, operations.

    python benchmarks/export.py [--peer MODEL.tflite] [--length 128] [--rounds 40]

Weights are random, for latency does not depend on them. All files take turns in one process, so that a busy machine slows
them all alike; the ratios are what to read.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from textclf.encoders.checkpoint import MobileBertConfig, expected_shapes
from textclf.export.inference_graph import ClassifierWeights, build_inference_graph

FORMS = [
    ("none", "litert"),
    ("float16", "litert"),
    ("dynamic", "litert"),
    ("dynamic", "task-library"),
    ("int4", "litert"),
]
PEER = Path(__file__).resolve().parents[2] / "shared" / "peers" / "model_maker_mobilebert_dynamic.tflite"


def random_weights(config: MobileBertConfig) -> ClassifierWeights:
    """Weights of a trained encoder's size: kernels of unit gain, gammas near 1."""
    random = np.random.default_rng(0)
    arrays = {}
    for name, shape in expected_shapes(config).items():
        spread = 0.5 / np.sqrt(shape[0]) if name.endswith("kernel") else 0.05
        arrays[name] = (random.standard_normal(shape) * spread + name.endswith("gamma")).astype(np.float32)
    kernel = random.standard_normal((config.hidden_size, 2)).astype(np.float32) * 0.01
    return ClassifierWeights(config, arrays, "additive", kernel, np.zeros(2, np.float32))


def runner(content: bytes, threads: int) -> Interpreter:
    """An interpreter with its inputs filled, run twice."""
    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    for tensor in interpreter.get_input_details():
        interpreter.set_tensor(tensor["index"], np.ones(tensor["shape"], np.int32))
    for _ in range(2):
        interpreter.invoke()
    return interpreter


def latencies(files: dict[str, bytes], threads: int, rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of each call, the files taking turns."""
    runners = {name: runner(content, threads) for name, content in files.items()}
    times: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(rounds):
        for name, interpreter in runners.items():
            begun = time.perf_counter()
            interpreter.invoke()
            times[name].append(1e3 * (time.perf_counter() - begun))
    return {name: np.array(values) for name, values in times.items()}


def operations(content: bytes) -> Counter[str]:
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = schema.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    kinds = [names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    return Counter(kinds[graph.Operators(index).OpcodeIndex()] for index in range(graph.OperatorsLength()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, default=PEER)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    weights = random_weights(MobileBertConfig())
    files = {}
    if arguments.peer.is_file():
        files["Model Maker, dynamic"] = arguments.peer.read_bytes()
    for quantization, compatibility in FORMS:
        begun = time.perf_counter()
        name = quantization + (", task-library" if compatibility == "task-library" else "")
        files[name] = build_inference_graph(weights, arguments.length, quantization, compatibility)
        print(f"{name}: written in {time.perf_counter() - begun:.1f} s", flush=True)
    first = next(iter(files))
    for threads in (1, 2):
        print(f"\n{threads} thread{'s' * (threads > 1)}, length {arguments.length}, {arguments.rounds} rounds in turn")
        print(
            f"| file | MB | median ms | fastest ms | median / {first} | fastest / {first} |\n|---|---|---|---|---|---|"
        )
        times = latencies(files, threads, arguments.rounds)
        for name, values in times.items():
            ratios = np.median(values) / np.median(times[first]), values.min() / times[first].min()
            size = len(files[name]) / 1e6
            print(
                f"| {name} | {size:.2f} | {np.median(values):.1f} | {values.min():.1f} | {ratios[0]:.2f} | {ratios[1]:.2f} |",
                flush=True,
            )
    print("\n| operation | " + " | ".join(files) + " |\n|---" * 1 + "|---" * len(files) + "|")
    counts = {name: operations(content) for name, content in files.items()}
    for kind, _ in sum(counts.values(), Counter()).most_common():
        print(f"| {kind} | " + " | ".join(str(count[kind]) for count in counts.values()) + " |")
    print("| all | " + " | ".join(str(count.total()) for count in counts.values()) + " |")


if __name__ == "__main__":
    main()
