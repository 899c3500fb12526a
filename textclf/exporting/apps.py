"""Runs the programs that apps classify with on a model and texts, and returns their probabilities.

Each runs in a separate process, because a runtime that rejects a file may hang or end with a segmentation fault:
MediaPipe's TextClassifier and the Task Library's BertNLClassifier or NLClassifier in a Python that has them, and
MediaPipe's web version in a headless Chromium.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from textclf.data.findings.finding import counted
from textclf.errors import VerificationError
from textclf.extras import install_command
from textclf.processes import end_of, ending, last_line
from textclf.tflite.metadata import read_metadata

CONSUMERS = ("mediapipe", "task-library", "browser")
"""`mediapipe` and `task-library` are looked for in this Python; set TEXTCLF_MEDIAPIPE_PYTHON or TEXTCLF_TASK_LIBRARY_PYTHON
to use another. `browser` needs Chromium (or the program in TEXTCLF_CHROMIUM) and TEXTCLF_TASKS_TEXT, the folder of the
npm package @mediapipe/tasks-text."""

LIMIT_SECONDS = 600

# In bytes: room for 2,000 texts and 10,000 labels.
_LONGEST_ANSWER = 1 << 30

_SHOWN_ERROR = 500

_SHOWN_LABELS = 20

_MODULES = {"mediapipe": "mediapipe", "task-library": "tflite_support"}

_INTERPRETERS = {"mediapipe": "TEXTCLF_MEDIAPIPE_PYTHON", "task-library": "TEXTCLF_TASK_LIBRARY_PYTHON"}

# Scripts for Python 3.9 and later. They read [model, texts, whether the model reads words] as JSON and print a list of
# {label: probability}.
_SCRIPTS = {
    "mediapipe": """
import json, sys
from mediapipe.tasks.python import BaseOptions, text
model, texts, _ = json.load(sys.stdin)
options = text.TextClassifierOptions(base_options=BaseOptions(model_asset_path=model))
with text.TextClassifier.create_from_options(options) as classifier:
    results = [classifier.classify(line).classifications[0].categories for line in texts]
print("\\n" + json.dumps([{c.category_name: c.score for c in categories} for categories in results]))
""",
    "task-library": """
import json, sys
from tflite_support.task import text
model, texts, words = json.load(sys.stdin)
classifier = (text.NLClassifier if words else text.BertNLClassifier).create_from_file(model)
results = [classifier.classify(line).classifications[0].categories for line in texts]
print("\\n" + json.dumps([{c.category_name: c.score for c in categories} for categories in results]))
""",
}

# Reads [model, pairs of a question and its context] as JSON and prints a list of lists of [answer, logit].
_ANSWERING_SCRIPT = """
import json, sys
from tflite_support.task import text
model, questions = json.load(sys.stdin)
answerer = text.BertQuestionAnswerer.create_from_file(model)
results = [answerer.answer(context, question).answers for question, context in questions]
print("\\n" + json.dumps([[[answer.text, answer.pos.logit] for answer in answers] for answers in results]))
"""

_PAGE = """<!doctype html><meta charset="utf-8"><pre id="result"></pre><script type="module">
const show = (value) => { document.title = "done"; fetch("/result", {method: "POST", body: JSON.stringify(value)}); };
try {
  const {FilesetResolver, TextClassifier} = await import("/package/text_bundle.mjs");
  const files = await FilesetResolver.forTextTasks("/package/wasm");
  const classifier = await TextClassifier.createFromOptions(files, {baseOptions: {modelAssetPath: "/model.tflite"}});
  const texts = await (await fetch("/texts.json")).json();
  show(texts.map((line) => Object.fromEntries(
    classifier.classify(line).classifications[0].categories.map((c) => [c.categoryName, c.score]))));
} catch (error) { show({error: String(error)}); }
</script>"""


def installed_consumers() -> list[str]:
    """Returns those of CONSUMERS that can be run on this machine."""
    return [name for name in CONSUMERS if (_chromium() and _package() if name == "browser" else _interpreter(name))]


def how_to_add(name: str) -> str:
    """Returns the command that installs one of CONSUMERS, and what to set."""
    if name == "browser":
        return "npm install @mediapipe/tasks-text (set TEXTCLF_TASKS_TEXT to its folder; it also needs Chromium)"
    if name == "mediapipe":
        return f"{install_command('verify')} (or set {_INTERPRETERS[name]})"
    return f'pip install tflite-support "numpy<2" (Python 3.9 to 3.11; or set {_INTERPRETERS[name]} to such a Python)'


def run_consumer(
    name: str, model: Path, labels: Sequence[str], texts: Sequence[str], *, limit_seconds: float = LIMIT_SECONDS
) -> np.ndarray:
    """Returns probabilities float32 [texts, labels]. Raises VerificationError if the program rejects the model, or does
    not end within `limit_seconds`."""
    run = _run_browser if name == "browser" else functools.partial(_run_python, name)
    answers = run(model, texts, limit_seconds)
    for answer in answers:
        if set(answer) != set(labels):
            raise VerificationError(f"{name} returns the labels {_some(answer)}, expected {_some(labels)}")
    return np.array([[answer[label] for label in labels] for answer in answers], np.float32)


def _some(labels: Iterable[str]) -> str:
    ordered = sorted(labels)
    return ", ".join(ordered[:_SHOWN_LABELS]) + (" and more" if len(ordered) > _SHOWN_LABELS else "")


def _interpreter(name: str) -> str | None:
    """Returns a Python that has the consumer's module, or None."""
    named = os.environ.get(_INTERPRETERS[name])
    if named:
        return named
    from importlib.util import find_spec

    return sys.executable if find_spec(_MODULES[name]) else None


class PhoneAnswer(NamedTuple):
    """An answer as a phone gives it: its text, and the sum of the logits of its first and last token."""

    text: str
    logit: float


def run_question_answerer(
    model: Path, questions: Sequence[tuple[str, str]], *, limit_seconds: float = LIMIT_SECONDS
) -> list[list[PhoneAnswer]]:
    """Returns the answers of the Task Library's BertQuestionAnswerer to questions about contexts, at most five each, the
    best first.

    Raises VerificationError if the program rejects the model, or does not end within `limit_seconds`.
    """
    order = json.dumps([str(model.resolve()), [list(pair) for pair in questions]])
    line = _output_of_python("task-library", _ANSWERING_SCRIPT, order, limit_seconds)
    try:
        answers = [[PhoneAnswer(*answer) for answer in found] for found in json.loads(line)]
    except (ValueError, TypeError, RecursionError):
        answers = []
    strange = any(
        not isinstance(one.text, str) or not isinstance(one.logit, int | float) for found in answers for one in found
    )
    if strange or len(answers) != len(questions):
        raise VerificationError(
            f"task-library printed {line[:_SHOWN_ERROR]!r}, expected the answers to {counted(len(questions), 'question')}"
        )
    return answers


def _run_python(name: str, model: Path, texts: Sequence[str], limit_seconds: float) -> list[Mapping[str, float]]:
    order = json.dumps([str(model.resolve()), list(texts), read_metadata(model).tokenizer == "regex"])
    return _checked_answers(name, _output_of_python(name, _SCRIPTS[name], order, limit_seconds), texts)


def _output_of_python(name: str, script: str, order: str, limit_seconds: float) -> str:
    """Returns the last line that a script prints in the Python of a consumer, whose input is `order`."""
    interpreter = _interpreter(name)
    if interpreter is None:
        raise VerificationError(f"{name} is not installed; run: {how_to_add(name)}")
    # The output of such a program goes to the disk, and only its end is read.
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as said:
        try:
            process = subprocess.run(
                [interpreter, "-c", script],
                input=order.encode(),
                stdout=answer,
                stderr=said,
                timeout=limit_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise VerificationError(f"{name} did not end within {limit_seconds:g} s{_quoted(said)}") from error
        except OSError as error:
            raise VerificationError(
                f"{name}: {interpreter} cannot be started ({error.strerror}); set "
                f"{_INTERPRETERS[name]} to a Python that has {_MODULES[name]}"
            ) from error
        if process.returncode:
            raise VerificationError(
                f"{name} rejects the model: it ended with {ending(process.returncode)}{_quoted(said)}"
            )
        return last_line(end_of(answer, _LONGEST_ANSWER))


def _quoted(said: IO[bytes]) -> str:
    """Returns the last line that a program printed, to append to a message."""
    words = last_line(end_of(said))
    return f": {words}" if words else " and printed nothing"


def _checked_answers(name: str, line: str, texts: Sequence[str]) -> list[Mapping[str, float]]:
    """Returns the output of a program for texts. Raises VerificationError if it is not one probability per label and text."""
    try:
        answers = json.loads(line)
    except (ValueError, RecursionError):
        answers = None
    if isinstance(answers, dict) and isinstance(answers.get("error"), str):
        raise VerificationError(f"{name} rejects the model: {answers['error'][:_SHOWN_ERROR]}")
    if (
        not isinstance(answers, list)
        or len(answers) != len(texts)
        or not all(isinstance(answer, dict) for answer in answers)
        or not all(isinstance(score, int | float) for answer in answers for score in answer.values())
    ):
        raise VerificationError(
            f"{name} printed {line[:_SHOWN_ERROR]!r}, expected probabilities of {counted(len(texts), 'text')}"
        )
    return answers


def _chromium() -> str | None:
    return os.environ.get("TEXTCLF_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def _package() -> str | None:
    folder = os.environ.get("TEXTCLF_TASKS_TEXT")
    return folder if folder and Path(folder, "text_bundle.mjs").is_file() else None


class _Pages(http.server.BaseHTTPRequestHandler):
    """Serves the page, the package, the model and the texts, and receives the results."""

    def __init__(
        self, files: Mapping[str, bytes], package: Path, answers: list[str], done: threading.Event, *rest: Any
    ):
        self._files, self._package, self._answers, self._done = files, package, answers, done
        super().__init__(*rest)

    def do_GET(self) -> None:
        content = self._files.get(self.path)
        file = (self._package / self.path.removeprefix("/package/")).resolve()
        if content is None and file.is_file() and self._package.resolve() in file.parents:
            content = file.read_bytes()
        self.send_response(404 if content is None else 200)
        suffixes = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm", "/": "text/html"}
        kind = next(
            (kind for suffix, kind in suffixes.items() if self.path.endswith(suffix)), "application/octet-stream"
        )
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def do_POST(self) -> None:
        size = self.headers.get("Content-Length", "")
        if not (size.isascii() and size.isdecimal() and len(size) <= 10 and int(size) <= _LONGEST_ANSWER):
            self.send_error(400)
            return
        self._answers.append(self.rfile.read(int(size)).decode(errors="replace"))
        self.send_response(204)
        self.end_headers()
        self._done.set()

    def log_message(self, *_: Any) -> None:
        """Requests are not logged."""


def _run_browser(model: Path, texts: Sequence[str], limit_seconds: float) -> list[Mapping[str, float]]:
    chromium, package = _chromium(), _package()
    if chromium is None or package is None:
        raise VerificationError("browser: needs Chromium and, in TEXTCLF_TASKS_TEXT, the package @mediapipe/tasks-text")
    files = {"/": _PAGE.encode(), "/model.tflite": model.read_bytes(), "/texts.json": json.dumps(list(texts)).encode()}
    answers: list[str] = []
    done = threading.Event()
    handler = functools.partial(_Pages, files, Path(package), answers, done)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, tempfile.TemporaryDirectory() as profile:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        address = f"http://127.0.0.1:{server.server_port}/"
        browser = subprocess.Popen([*command, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            done.wait(limit_seconds)
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
    if not answers:
        raise VerificationError(f"browser did not end within {limit_seconds:g} s")
    return _checked_answers("browser", answers[0], texts)
