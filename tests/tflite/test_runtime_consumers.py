"""The table of runtimes against the runtimes themselves: each loads the forms that the table says it loads, with our
probabilities, and refuses the others. `make test-consumers` installs them; those that are missing are skipped."""

from __future__ import annotations

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.browser import open_browser
from tests.tflite.test_checks import described
from tests.tflite.test_runtimes import graph_of
from textclf.classify.classifier import Classifier
from textclf.classify.interpreters import PROBABILITIES
from textclf.data.tokens.encoded import pad
from textclf.errors import VerificationError
from textclf.exporting.apps import CONSUMERS, installed_consumers, run_consumer
from textclf.exporting.hard_texts import hard_texts
from textclf.tflite.inspection import inspect_model

TEXTS = [text for text in hard_texts() if text.strip()][:60]

FORMS = [
    ("dynamic", "litert"),
    ("dynamic", "task-library"),
    ("float16", "litert"),
    ("int4", "litert"),
    ("none", "litert"),
]

FAR = {"dynamic": 0.02, "int4": 0.02, "float16": 1e-4, "none": 1e-4}
"""How far a probability of another runtime may be from ours. Each rounds 8-bit products in its way."""

REFUSAL = "Didn't find op|Could not build model|Protobuf parsing failed"
"""What the runtimes say of a file that they do not load: that of ONNX Runtime is the last."""

# Reads the package, the model, the place of the output, and the rows of inputs; prints the outputs.
_INTERPRETER = """
import importlib, json, sys
import numpy as np
package, model, output, rows = json.load(sys.stdin)
interpreter = importlib.import_module(package + ".interpreter").Interpreter(model_path=model, num_threads=1)
interpreter.allocate_tensors()
results = []
for row in rows:
    for described, values in zip(interpreter.get_input_details(), row):
        interpreter.set_tensor(described["index"], np.array([values], described["dtype"]))
    interpreter.invoke()
    results.append(interpreter.get_tensor(interpreter.get_output_details()[output]["index"])[0].tolist())
print(json.dumps(results))
"""

_PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script type="importmap">
{"imports": {"@litertjs/core": "/packages/@litertjs/core/dist/index.js",
             "@litertjs/wasm-utils": "/packages/@litertjs/wasm-utils/dist/index.js"}}
</script><script type="module">
try {
  const {loadLiteRt, loadAndCompile, Tensor} = await import("@litertjs/core");
  await loadLiteRt("/packages/@litertjs/core/wasm/");
  const model = await loadAndCompile("/model.tflite", {accelerator: "wasm"});
  const {names, output, rows} = await (await fetch("/rows.json")).json();
  const results = [];
  for (const row of rows) {
    const tensors = row.map((values) => new Tensor(new Int32Array(values), [1, values.length]));
    const given = Object.fromEntries(names.map((name, place) => [name, tensors[place]]));
    const found = await model.run(model.getInputDetails().map(({name}) => given[name]));
    results.push([...found[output].toTypedArray()]);
    for (const tensor of [...tensors, ...found]) tensor.delete();
  }
  window.result = results;
} catch (error) { window.result = String(error) || "an error without a message"; }
</script>"""


class RefusedError(Exception):
    """The runtime does not load the file."""


def rows_of(classifier: Classifier) -> list[list[list[int]]]:
    """The inputs of each text, in the order of the file."""
    encoded = classifier.tokenizer.encode([(text,) for text in TEXTS], classifier.max_length, "head")
    tokens = pad(encoded, np.arange(len(TEXTS)), classifier.max_length)
    arrays = dict(zip(("ids", "mask", "segment_ids"), tokens, strict=True))
    return [[arrays[name][row].tolist() for name in classifier.metadata.input_names] for row in range(len(TEXTS))]


def in_python(package: str, python: str, model: Path, classifier: Classifier) -> np.ndarray:
    order = [package, str(model), PROBABILITIES.positions(classifier.metadata)[0], rows_of(classifier)]
    done = subprocess.run(
        [python, "-c", _INTERPRETER], input=json.dumps(order), capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        raise RefusedError(done.stderr[-500:])
    return np.array(json.loads(done.stdout.splitlines()[-1]), np.float32)


def in_task_of(name: str, model: Path, classifier: Classifier) -> np.ndarray:
    try:
        return run_consumer(name, model, classifier.labels, TEXTS)
    except VerificationError as error:
        raise RefusedError(str(error)) from error


def in_litert_js(packages: str, model: Path, classifier: Classifier) -> np.ndarray:
    folder = model.parent
    (folder / "packages").symlink_to(packages, target_is_directory=True)
    (folder / "index.html").write_text(_PAGE, encoding="utf-8")
    output = PROBABILITIES.positions(classifier.metadata)[0]
    order = {"names": classifier.metadata.input_names, "output": output, "rows": rows_of(classifier)}
    (folder / "rows.json").write_text(json.dumps(order))
    handler = functools.partial(_Files, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with open_browser(folder / "profile") as page:
                page.open(f"http://127.0.0.1:{server.server_port}/")
                page.wait("window.result")
                result = page.run("window.result")
        finally:
            server.shutdown()
    if isinstance(result, str):
        raise RefusedError(result)
    return np.array(result, np.float32)


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Requests are not logged."""


def in_onnx_runtime(model: Path, classifier: Classifier) -> np.ndarray:
    runtime = pytest.importorskip("onnxruntime")
    try:
        runtime.InferenceSession(str(model))
    except Exception as error:  # each fault has a class of its own, which is not public
        raise RefusedError(str(error)) from error
    raise AssertionError("ONNX Runtime has loaded a .tflite file")


def runner_of(name: str) -> tuple[str, Callable[[Path, Classifier], np.ndarray]]:
    """The runtime's name in the table, and what runs a model in it. Skips the test if it is not installed."""
    if name == "LiteRT":
        return name, functools.partial(in_python, "ai_edge_litert", sys.executable)
    if name == "ONNX Runtime":
        return name, in_onnx_runtime
    if name == "tflite-runtime":
        if (python := os.environ.get("TEXTCLF_TFLITE_RUNTIME_PYTHON")) is None:
            pytest.skip("TEXTCLF_TFLITE_RUNTIME_PYTHON is not set")
        return name, functools.partial(in_python, "tflite_runtime", python)
    if name == "LiteRT.js":
        if (packages := os.environ.get("TEXTCLF_LITERT_JS")) is None:
            pytest.skip("TEXTCLF_LITERT_JS is not set")
        return name, functools.partial(in_litert_js, packages)
    if name not in installed_consumers():
        pytest.skip(f"{name} is not installed")
    return ("Task Library" if name == "task-library" else "MediaPipe Tasks"), functools.partial(in_task_of, name)


@pytest.mark.parametrize("name", ["LiteRT", "tflite-runtime", "LiteRT.js", "ONNX Runtime", *CONSUMERS])
@pytest.mark.parametrize(("quantization", "compatibility"), FORMS)
def test_a_runtime_loads_what_the_table_says(name, quantization, compatibility, tmp_path):
    runtime, probabilities_in = runner_of(name)
    model = tmp_path / "model.tflite"
    content = described(graph_of(quantization, compatibility), quantization=quantization, compatibility=compatibility)
    model.write_bytes(content)
    [expected] = [one for one in inspect_model(model).runtimes if one.runtime == runtime]
    classifier = Classifier(model)
    if not expected.loads:
        with pytest.raises(RefusedError, match=REFUSAL):
            probabilities_in(model, classifier)
        return
    theirs = probabilities_in(model, classifier)
    ours = classifier.probabilities_at_full_length([(text,) for text in TEXTS])
    assert np.abs(theirs - ours).max() <= FAR[quantization]
    assert (theirs.argmax(axis=1) == ours.argmax(axis=1)).mean() >= 0.95
