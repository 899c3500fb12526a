"""Which operations, and up to which version, an installed runtime registers; `textclf/tflite/registered_operations.py` has
the results.

    python benchmarks/operation_versions.py probe.json              # with TensorFlow: writes a tiny file for each version
    python benchmarks/operation_versions.py probe.json tflite_runtime
    python benchmarks/operation_versions.py probe.json ai_edge_litert
    python benchmarks/operation_versions.py probe.json tensorflow.lite.python

The second form needs only the runtime and NumPy, so it runs in an old Python too. It prints the highest versions as JSON.
"""

import base64
import importlib
import json
import sys
from pathlib import Path

HIGHEST = 16
NOT_OPERATIONS = {"CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"}
UNKNOWN = ("Didn't find op", "builtin_code out of range")


def write_probe(file: Path) -> None:
    """Writes, for each operation and version, a file that declares it and uses nothing."""
    from tensorflow.lite.python import schema_py_generated as schema

    codes = {name: code for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    probe = [
        [name, version, base64.b64encode(declaring(schema, code, version)).decode()]
        for name, code in codes.items()
        if name not in NOT_OPERATIONS
        for version in range(1, HIGHEST + 1)
    ]
    file.write_text(json.dumps(probe), encoding="utf-8")


def declaring(schema, code: int, version: int) -> bytes:
    import flatbuffers

    operator = schema.OperatorCodeT()
    operator.deprecatedBuiltinCode, operator.builtinCode, operator.version = min(code, 127), code, version
    tensor = schema.TensorT()
    tensor.shape, tensor.type, tensor.buffer, tensor.name = [1, 4], schema.TensorType.FLOAT32, 0, b"x"
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor], [0], [0], []
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [operator], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def registered(file: Path, package: str) -> dict[str, int]:
    interpreter = importlib.import_module(f"{package}.interpreter").Interpreter
    highest: dict[str, int] = {}
    for name, version, content in json.loads(file.read_text(encoding="utf-8")):
        try:
            interpreter(model_content=base64.b64decode(content), num_threads=1)
        except (RuntimeError, ValueError) as error:
            if not any(words in str(error) for words in UNKNOWN):
                raise
        else:
            highest[name] = max(version, highest.get(name, 0))
    return dict(sorted(highest.items()))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        write_probe(Path(sys.argv[1]))
    else:
        print(json.dumps(registered(Path(sys.argv[1]), sys.argv[2])))
