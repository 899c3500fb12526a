"""Hides the start-up messages of TensorFlow's and LiteRT's native code, and no other output of theirs.

These messages appear at two moments: while TensorFlow is imported and looks for devices, and while LiteRT makes its
first interpreter. At all other times file descriptor 2 is the terminal itself, so the last output of a crash is
visible. While TensorFlow is imported, a separate process filters. If this process crashes, the filter still prints the
rest.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec

from textclf.extras import require

# A healthy process prints these lines at every start, whatever the log level.
_CHATTER = (
    r"WARNING: All log messages before absl::InitializeLog"
    r"|[IWE]\d{4} [\d:. ]+ +\d+ (port|cudart_stub|cuda_platform|cuda_executor|cpu_feature_guard)\.cc:"
    r"|To enable the following instructions: .* rebuild TensorFlow"
    r"|INFO: Created TensorFlow Lite XNNPACK delegate for CPU"
)

_FILTER = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
import os, re, sys
chatter = re.compile(sys.argv[1].encode())
for line in sys.stdin.buffer:
    if not chatter.match(line):
        os.write(2, line)
"""

_litert_started = False

_lock = threading.Lock()


def load_tensorflow(*, in_command: bool = False) -> None:
    """Imports TensorFlow and lets it look for devices, without the messages of either step.

    `in_command` says that only textclf uses TensorFlow in this process. Then Keras, which textclf does not need, is not
    imported with it; this saves a third of the time. Raises MissingPackageError if TensorFlow is not installed.
    """
    if sys.modules.get("tensorflow") is not None:
        return
    require("tensorflow", "to train, to export and to compute with trained weights")
    # A level that the user has set is kept.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with without_chatter(), _without_keras() if in_command else nullcontext():
        import tensorflow

        tensorflow.config.list_physical_devices()


@contextmanager
def _without_keras() -> Iterator[None]:
    """Inside, TensorFlow is imported without Keras 3: it looks for the older package tf_keras instead, and a missing one is
    no error. Afterwards, `tensorflow.keras` still loads Keras 3 when it is used."""
    name = "TF_USE_LEGACY_KERAS"
    if name in os.environ or find_spec("tf_keras") is not None:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]


def start_litert() -> None:
    """Makes LiteRT's first interpreter, which prints messages, from a model that is known to be good."""
    global _litert_started
    with _lock:
        if _litert_started:
            return
        _litert_started = True
        from ai_edge_litert.interpreter import Interpreter

        model = _smallest_model()
        with _kept_back():
            Interpreter(model_content=model).allocate_tensors()


@contextmanager
def without_chatter() -> Iterator[None]:
    """Inside, file descriptor 2 leads through a filtering process. Python's `sys.stderr` is not redirected."""
    try:
        screen = os.dup(2)
    except OSError:  # closed: nothing is shown anyway
        yield
        return
    try:
        command = [sys.executable, "-I", "-S", "-c", _FILTER, _CHATTER]
        helper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=screen)
    except OSError:  # no process can be started: the messages are shown
        os.close(screen)
        yield
        return
    assert helper.stdin is not None
    try:
        with _python_stderr_on(screen):
            os.dup2(helper.stdin.fileno(), 2)
            helper.stdin.close()
            try:
                yield
            finally:
                os.dup2(screen, 2)
    finally:
        os.close(screen)
        # A process that was started inside may still hold the pipe. Then the filter ends together with that process.
        with suppress(subprocess.TimeoutExpired):
            helper.wait(timeout=1)


@contextmanager
def _kept_back() -> Iterator[None]:
    """Inside, a file collects the output of file descriptor 2.

    Afterwards everything except start-up messages is printed.
    """
    try:
        screen = os.dup(2)
    except OSError:  # closed: nothing is shown anyway
        yield
        return
    try:
        kept = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    except OSError:  # no folder can be written: the messages are shown
        os.close(screen)
        yield
        return
    try:
        with kept, _python_stderr_on(screen):
            os.dup2(kept.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(screen, 2)
                kept.seek(0)
                for line in kept:
                    if not re.match(_CHATTER.encode(), line):
                        os.write(screen, line)
    finally:
        os.close(screen)


@contextmanager
def _python_stderr_on(screen: int) -> Iterator[None]:
    """Lets Python's `sys.stderr` write to the screen directly while file descriptor 2 is redirected."""
    python_stderr = sys.stderr
    try:
        if python_stderr is None or python_stderr.fileno() != 2:
            yield
            return
    except (OSError, ValueError):  # a stream in memory
        yield
        return
    python_stderr.flush()
    sys.stderr = open(  # noqa: SIM115 - closed below
        os.dup(screen), "w", buffering=1, encoding=python_stderr.encoding, errors="backslashreplace"
    )
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = python_stderr


def _smallest_model() -> bytes:
    """Returns a `.tflite` file with one operation, the absolute value of one number."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ABS
    code.version = 1
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [operator], [0], [1]
    for name in ("input", "output"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, [1], schema.TensorType.FLOAT32, 0
        graph.tensors.append(tensor)
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(512)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
