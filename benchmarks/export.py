"""The exported file at full size beside what others write: size, latency, operations, lengths, peak, time to a verified file.

    python benchmarks/export.py [forms] [lengths] [peak] [verified] [--peer MODEL.tflite] [--naive FOLDER] [--rounds 40]

Weights are random, for latency does not depend on them. All files take turns in one process, so that a busy machine slows
them all alike; the ratios are what to read.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from textclf.data.tokens.encoded import Encoded
from textclf.encoders.checkpoint import EncoderCheckpoint, MobileBertConfig, expected_shapes
from textclf.tflite.graph.builder import GraphBuilder
from textclf.tflite.graph.mobilebert import ClassifierWeights, build_inference_graph
from textclf.tflite.graph.rounding import quantize_rows

FORMS = [
    ("none", "litert"),
    ("float16", "litert"),
    ("dynamic", "litert"),
    ("dynamic", "task-library"),
    ("int4", "litert"),
]
PARTS = ("forms", "lengths", "peak", "verified")
PROJECT = Path(__file__).resolve().parents[1]
PEER = PROJECT.parent / "shared" / "peers" / "model_maker_mobilebert_dynamic.tflite"
LENGTH = 128
LENGTHS = (16, 32, 64, 128)
_OPERATIONS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def random_weights(config: MobileBertConfig, labels: int = 2) -> ClassifierWeights:
    """Weights of a trained encoder's size: kernels of unit gain, gammas near 1."""
    random = np.random.default_rng(0)
    arrays = {}
    for name, shape in expected_shapes(config).items():
        spread = 0.5 / np.sqrt(shape[0]) if name.endswith("kernel") else 0.05
        arrays[name] = (random.standard_normal(shape) * spread + name.endswith("gamma")).astype(np.float32)
    kernel = random.standard_normal((config.hidden_size, labels)).astype(np.float32) * 0.01
    return ClassifierWeights(config, arrays, "additive", kernel, np.zeros(labels, np.float32))


def random_rows(config: MobileBertConfig) -> Encoded:
    """What int4 weights are rounded by, of the lengths of short messages."""
    random = np.random.default_rng(0)
    lengths = random.integers(5, 60, 300)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(0, config.vocab_size, offsets[-1]).astype(np.int32)
    return Encoded(ids, offsets, lengths.astype(np.int32), np.zeros(len(lengths), bool), 0)


# --- Forms -----------------------------------------------------------------------------------------------------------


def naive_files(folder: Path) -> dict[str, bytes]:
    """The naive conversions, made where the folder lacks them, in a process of its own: TensorFlow is large."""
    paths = {
        "naive Keras, float": folder / "naive_float.tflite",
        "naive Keras, default": folder / "naive_default.tflite",
    }
    if not all(path.is_file() for path in paths.values()):
        begun = time.perf_counter()
        subprocess.run([sys.executable, __file__, "--make-naive", folder], check=True)
        print(f"naive Keras: built and converted twice in {time.perf_counter() - begun:.0f} s", flush=True)
    return {name: path.read_bytes() for name, path in paths.items()}


def make_naive(folder: Path) -> None:
    from naive_keras import converted, mobilebert

    folder.mkdir(parents=True, exist_ok=True)
    names = ("naive_float.tflite", "naive_default.tflite")
    for name, content in zip(names, converted(mobilebert(MobileBertConfig(), LENGTH, 2)), strict=True):
        (folder / name).write_bytes(content)


def runner(content: bytes, threads: int) -> Interpreter:
    """An interpreter with its inputs filled, run twice."""
    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    for tensor in interpreter.get_input_details():
        interpreter.set_tensor(tensor["index"], np.ones(tensor["shape"], np.int32))
    for _ in range(2):
        interpreter.invoke()
    return interpreter


def partitions(interpreter: Interpreter) -> int:
    """Into how many pieces XNNPACK took the graph: each became one operation behind those that the file holds."""
    return sum(operation["op_name"] == "DELEGATE" for operation in interpreter._get_ops_details())


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
    model = schema.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    kinds = [_OPERATIONS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    return Counter(kinds[graph.Operators(index).OpcodeIndex()] for index in range(graph.OperatorsLength()))


def compare_forms(arguments: argparse.Namespace) -> None:
    weights = random_weights(MobileBertConfig())
    rows = random_rows(weights.config)
    files = {}
    if arguments.peer.is_file():
        files["Model Maker, dynamic"] = arguments.peer.read_bytes()
    if arguments.naive is not None:
        files.update(naive_files(arguments.naive))
    for quantization, compatibility in FORMS:
        begun = time.perf_counter()
        name = quantization + (", task-library" if compatibility == "task-library" else "")
        files[name] = build_inference_graph(weights, LENGTH, quantization, compatibility, rows)
        print(f"{name}: written in {time.perf_counter() - begun:.1f} s", flush=True)
    first = next(iter(files))
    pieces = {name: partitions(runner(content, 1)) for name, content in files.items()}
    for threads in (1, 2):
        print(f"\n{threads} thread{'s' * (threads > 1)}, length {LENGTH}, {arguments.rounds} rounds in turn")
        print(f"| file | MB | median ms | fastest ms | median / {first} | fastest / {first} | partitions |")
        print("|---|---|---|---|---|---|---|")
        times = latencies(files, threads, arguments.rounds)
        for name, values in times.items():
            ratios = np.median(values) / np.median(times[first]), values.min() / times[first].min()
            print(
                f"| {name} | {len(files[name]) / 1e6:.2f} | {np.median(values):.1f} | {values.min():.1f} | "
                f"{ratios[0]:.2f} | {ratios[1]:.2f} | {pieces[name]} |",
                flush=True,
            )
    print("\n| operation | " + " | ".join(files) + " |\n|---" * 1 + "|---" * len(files) + "|")
    counts = {name: operations(content) for name, content in files.items()}
    for kind, _ in sum(counts.values(), Counter()).most_common():
        print(f"| {kind} | " + " | ".join(str(count[kind]) for count in counts.values()) + " |")
    print("| all | " + " | ".join(str(count.total()) for count in counts.values()) + " |")


# --- Several lengths -------------------------------------------------------------------------------------------------


def with_signatures(graphs: dict[int, bytes]) -> bytes:
    """One file with a signature `length_N` for each graph, equal constants stored once."""
    import flatbuffers

    whole = schema.ModelT()
    whole.version, whole.description = 3, "several lengths"
    whole.subgraphs, whole.signatureDefs, whole.operatorCodes = [], [], []
    whole.buffers = [schema.BufferT()]
    known: dict[bytes, int] = {b"": 0}
    for number, (length, content) in enumerate(graphs.items()):
        part = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        [graph] = part.subgraphs
        for tensor in graph.tensors:
            data = part.buffers[tensor.buffer].data
            key = b"" if data is None else bytes(data)
            if key not in known:
                known[key] = len(whole.buffers)
                whole.buffers.append(part.buffers[tensor.buffer])
            tensor.buffer = known[key]
        for operator in graph.operators:
            operator.opcodeIndex += len(whole.operatorCodes)
        [signature] = part.signatureDefs
        signature.signatureKey, signature.subgraphIndex = f"length_{length}", number
        whole.operatorCodes += part.operatorCodes
        whole.subgraphs.append(graph)
        whole.signatureDefs.append(signature)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def resident() -> float:
    """MB of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def use_lengths(path: Path, way: str, rounds: int) -> None:
    """Classifies at every length, one after the other, and tells what that took; for a process of its own."""
    before, begun = resident(), time.perf_counter()
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    inputs = []
    if way == "resized":
        interpreter.allocate_tensors()
        inputs = [detail["index"] for detail in interpreter.get_input_details()]
    print(f"{way}: opened in {1e3 * (time.perf_counter() - begun):.0f} ms", end="")
    for length in LENGTHS:
        ones = np.ones((1, length), np.int32)
        begun = time.perf_counter()
        if way == "resized":
            for tensor in inputs:
                interpreter.resize_tensor_input(tensor, [1, length])
            interpreter.allocate_tensors()
            for tensor in inputs:
                interpreter.set_tensor(tensor, ones)
            call = interpreter.invoke
        else:
            signature = interpreter.get_signature_runner(f"length_{length}")

            def call(signature=signature, ones=ones) -> None:
                signature(ids=ones, mask=ones, segment_ids=ones)

        call()
        changed = 1e3 * (time.perf_counter() - begun)
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - begun))
        print(f"; {length} tokens: first call {changed:.1f} ms, then {np.median(times):.1f} ms", end="")
    print(f"; memory +{resident() - before:.0f} MB; file {path.stat().st_size / 1e6:.1f} MB", flush=True)


def compare_lengths(arguments: argparse.Namespace) -> None:
    weights = random_weights(MobileBertConfig())
    with tempfile.TemporaryDirectory() as folder:
        files = {"resized": Path(folder) / "one.tflite", "signatures": Path(folder) / "many.tflite"}
        files["resized"].write_bytes(build_inference_graph(weights, LENGTH, "dynamic"))
        graphs = {length: build_inference_graph(weights, length, "dynamic") for length in LENGTHS}
        files["signatures"].write_bytes(with_signatures(graphs))
        for way, path in files.items():
            subprocess.run(
                [sys.executable, __file__, "--use-lengths", path, way, "--rounds", str(arguments.rounds)], check=True
            )


# --- The processor's peak --------------------------------------------------------------------------------------------


def product_chain(width: int, count: int, *, static: bool) -> bytes:
    """`count` products [128, width] · [width, width] of int8 weights, one after the other: with int8 inputs and outputs
    where `static`, else with floats between them that are rounded to int8 on the way, as in the form dynamic."""
    graph, random = GraphBuilder(), np.random.default_rng(0)
    column = graph.cast("float", graph.input("ids", [LENGTH, 1]))
    states = graph.binary("states", "MUL", column, graph.constant("ones", np.ones((1, width), np.float32)))
    kind = graph.constant("int8", np.zeros(1, np.int8), 0.05)
    if static:
        states = graph.op("rounded", "QUANTIZE", [states], [LENGTH, width], like=kind)
    options = {"fusedActivationFunction": schema.ActivationFunctionType.NONE, "asymmetricQuantizeInputs": not static}
    for number in range(count):
        values, scales = quantize_rows(random.standard_normal((width, width)).astype(np.float32) / np.sqrt(width))
        weight = graph.constant(f"kernel_{number}", values, scales)
        zeros = np.zeros(width, np.int32 if static else np.float32)
        bias = graph.constant(f"bias_{number}", zeros, scales * 0.05 if static else None)
        like = kind if static else None
        states = graph.op(
            f"product_{number}",
            "FULLY_CONNECTED",
            [states, weight, bias],
            [LENGTH, width],
            version=5 if static else 12,
            options=options,
            like=like,
        )
    if static:
        states = graph.op("unrounded", "DEQUANTIZE", [states], [LENGTH, width], version=2, options={})
    return graph.finish({states: "states"}, "products")


def multiplications(content: bytes) -> int:
    """Multiplications of the file's FULLY_CONNECTED operations in one call."""
    model = schema.Model.GetRootAsModel(content, 0)
    graph, total = model.Subgraphs(0), 0
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        if max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) == schema.BuiltinOperator.FULLY_CONNECTED:
            rows = graph.Tensors(operator.Outputs(0)).ShapeAsNumpy()[:-1].prod()
            total += int(rows * graph.Tensors(operator.Inputs(1)).ShapeAsNumpy().prod())
    return total


def processor_peak() -> float | None:
    """Billions of 8-bit multiplications a second that one core does at most; None without a C compiler or AVX-512 VNNI."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "int8_peak")
        source = str(PROJECT / "benchmarks" / "int8_peak.c")
        try:
            command = [compiler, "-O2", "-mavx512f", "-mavx512vnni", source, "-o", program]
            subprocess.run(command, check=True, capture_output=True)
            return float(subprocess.run([program], check=True, capture_output=True, text=True).stdout)
        except (subprocess.CalledProcessError, OSError):
            return None


def compare_with_peak(arguments: argparse.Namespace) -> None:
    files = {"dynamic, full size": build_inference_graph(random_weights(MobileBertConfig()), LENGTH, "dynamic")}
    for width in (128, 512, 1024):
        for static in (True, False):
            name = f"{width} × {width} products alone, {'int8' if static else 'dynamic'}"
            files[name] = product_chain(width, max(8, 24 * 512**2 // width**2 // 4), static=static)
    core = processor_peak()
    print("one core, nothing but vpdpbusd: " + ("not measured" if core is None else f"{core:.0f} billion a second"))
    for threads in (1, 2):
        times = latencies(files, threads, arguments.rounds)
        speeds = {name: multiplications(files[name]) / 1e6 / values.min() for name, values in times.items()}
        best = max(speeds.values())
        print(
            f"\n{threads} thread{'s' * (threads > 1)}: billions of multiplications a second in products, fastest call"
        )
        for name, speed in speeds.items():
            print(
                f"| {name} | {times[name].min():.2f} ms | {speed:.0f} | {speed / best:.0%} of the best chain"
                + ("" if core is None else f" | {speed / core / threads:.0%} of the processor's peak")
                + " |",
                flush=True,
            )


# --- From trained weights to a verified file -------------------------------------------------------------------------


def write_run(folder: Path) -> None:
    """The folder of a finished run of a full-size encoder, random weights in place of trained ones."""
    from textclf.data.dataset import load_dataset
    from textclf.encoders.formats.textclf_format import write_encoder
    from textclf.encoders.sources.locate import load_vocabulary
    from textclf.exporting.classification.model_file import export_classifier
    from textclf.recipe.reading import load_recipe
    from textclf.recipe.writing import dump_recipe
    from textclf.training.saved.run_folder import save_state

    recipe = load_recipe(PROJECT / "recipes" / "support_tickets.yaml")
    labels = load_dataset(recipe.dataset, recipe.training.seed).labels
    weights = random_weights(MobileBertConfig(), len(labels))
    vocabulary = list(load_vocabulary("builtin").pieces)
    best = folder / "checkpoints" / "best"
    best.mkdir(parents=True)
    write_encoder(
        best, EncoderCheckpoint(weights.config, dict(weights.encoder), vocabulary, True, "additive", "x", best)
    )
    width = weights.config.hidden_size
    head = {"head/kernel": weights.head_kernel, "head/bias": weights.head_bias}
    standard = {"features/mean": np.zeros(width, np.float32), "features/scale": np.ones(width, np.float32)}
    save_state(best / "head.safetensors", {**head, **standard}, {})
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    (folder / "model.tflite").write_bytes(export_classifier(recipe, weights, labels, vocabulary))


def time_to_verified(_: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        write_run(run)
        for form in ("dynamic", "int4"):
            begun = time.perf_counter()
            command = [sys.executable, "-m", "textclf", "export", str(run), f"quantization={form}"]
            # Random weights decide little and lose much to four bits; the gate is not what is measured.
            subprocess.run([*command, "max_changed_labels=1", "max_lost_accuracy=1"], check=True)
            print(
                f"{form}: `textclf export`, compared with the trained model, took {time.perf_counter() - begun:.1f} s",
                flush=True,
            )
            begun = time.perf_counter()
            command = [sys.executable, "-m", "textclf", "verify", str(run / f"model-{form}.tflite")]
            subprocess.run(command, check=True)
            print(f"{form}: `textclf verify` with the other runtimes: {time.perf_counter() - begun:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="by default all")
    parser.add_argument("--peer", type=Path, default=PEER)
    parser.add_argument("--naive", type=Path, help="folder in which the naive conversions lie or are put")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--make-naive", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--use-lengths", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make_naive is not None:
        make_naive(arguments.make_naive)
    elif arguments.use_lengths is not None:
        use_lengths(Path(arguments.use_lengths[0]), arguments.use_lengths[1], arguments.rounds)
    else:
        measure = dict(zip(PARTS, (compare_forms, compare_lengths, compare_with_peak, time_to_verified), strict=True))
        for part in arguments.parts or PARTS:
            print(f"\n## {part}", flush=True)
            measure[part](arguments)


if __name__ == "__main__":
    main()
