"""What reaches a terminal, whatever the data holds and whatever the standard streams of a process are."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import run
from textclf.errors import StreamError
from textclf.terminal import door as terminal
from textclf.terminal.door import json_text, printable, printable_lines, write_message, write_result
from textclf.terminal.native_log import start_litert
from textclf.terminal.progress import Progress

REPOSITORY = Path(__file__).resolve().parents[2]
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")


def shell(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of shell in which `textclf` is this checkout's command."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **variables}
    line = command.replace("textclf", f"{sys.executable} -m textclf", 1)
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment, check=False)


# --- Text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünïcode, 請求 😀", "plain, ünïcode, 請求 😀"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\nb\tc\r", r"a\x0ab\x09c\x0d"),
        ("\x9b2J", r"\x9b2J"),
        ("safe\u202egnp.exe", r"safe\u202egnp.exe"),
        ("a\u2028b\u200bc\ufeff", r"a\u2028b\u200bc\ufeff"),
        ("file\udcff", r"file\udcff"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_an_escape(text, shown):
    assert printable(text) == shown


def test_joiners_stay_where_writing_needs_them_and_are_shown_elsewhere():
    assert printable("می\u200cشود 👩\u200d🔬\x07") == "می\u200cشود 👩\u200d🔬\\x07"
    assert printable("spam\u200d") == r"spam\u200d"
    assert printable("sp\u200cam") == r"sp\u200cam"


def test_line_breaks_and_tabs_of_a_message_stay():
    assert printable_lines("a\n\tb\x1b[2J\r\nc") == "a\n\tb\\x1b[2J\\x0d\nc"


def test_json_shows_nothing_hidden_and_decodes_to_the_same_values():
    values = {"label": "\x1b[31m\u202e\u200b\x9b é 請 😀\U000e0041", "list": ["a\nb"]}
    text = json_text(values)
    assert all(character.isprintable() for character in text.replace("\n", ""))
    assert "é 請 😀" in text
    assert json.loads(text) == values


# --- Streams ---------------------------------------------------------------------------------------------------------


def test_a_result_for_a_closed_output_is_an_error_and_a_message_is_not(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(StreamError, match=r"standard output is closed; connect it, for example to a file: > FILE"):
        write_result("a label")
    write_result("a summary", needed=False)
    write_message("a message")


def test_a_message_that_cannot_be_written_does_not_end_the_work(monkeypatch):
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    write_message("lost")
    Progress().say("lost too")


@POSIX
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("textclf --version >&-", 2, "Error: standard output is closed"),
        ("textclf --help >/dev/full", 2, "Error: standard output cannot be written (No space left on device)"),
        ("textclf --version 2>&- <&-", 0, ""),
        ("textclf check nosuch.yaml 2>&-", 2, ""),
        ("textclf --version >&- 2>&- <&-", 2, ""),
    ],
)
def test_closed_and_full_streams_end_in_one_line(command, code, said):
    done = shell(command)
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == (1 if said else 0)


@POSIX
def test_with_closed_streams_no_file_takes_their_number():
    reader, writer = os.pipe()
    code = (
        "import os; from textclf.terminal import door as terminal\n"
        f"with terminal.surroundings(): os.write({writer}, b'%d' % os.open(os.devnull, os.O_RDONLY))"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        pass_fds=[writer],
        preexec_fn=lambda: [os.close(number) for number in range(3)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=True,
    )
    os.close(writer)
    with os.fdopen(reader) as said:
        assert int(said.read()) > 2


def test_an_output_that_knows_ascii_only_gets_valid_json(tmp_path):
    code = "from textclf.terminal.door import json_text, write_result; write_result(json_text({'label': '請\\x1b'}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert json.loads(done.stdout.decode("ascii")) == {"label": "請\x1b"}


# --- One door --------------------------------------------------------------------------------------------------------

# These run in processes of their own; what they print is read by a program.
_CHILDREN = (
    "model_maker/worker.py",
    "runs/comparison/measured_run.py",
    "model_maker/process.py",
    "encoders/formats/hdf5_file.py",
    "tflite/trial/probe_child.py",
)


def _printing(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = ast.unparse(node) if isinstance(node, ast.Call | ast.Attribute) else ""
        called = text.split("(")[0]
        if isinstance(node, ast.Call) and called in ("print", "input", "click.echo", "click.secho", "echo", "os.write"):
            found.append(f"{path.name}:{node.lineno}: {called}")
        if isinstance(node, ast.Attribute) and text in ("sys.stdout", "sys.stderr", "sys.stdin"):
            found.append(f"{path.name}:{node.lineno}: {text}")
    return found


def test_only_the_module_of_the_terminal_prints():
    package = REPOSITORY / "textclf"
    allowed = {package / name for name in (*_CHILDREN, "terminal/door.py", "terminal/native_log.py")}
    apps = package / "runs/app/templates"  # programs for others
    files = [path for path in sorted(package.rglob("*.py")) if path not in allowed and apps not in path.parents]
    assert len(files) > 50
    assert [line for path in files for line in _printing(path)] == []


def test_errors_show_control_characters_of_arguments_and_file_names(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["check", "\x1b[31mred.yaml"],
        ["\x1b]0;title\x07"],
        ["train", "--\x1b[2J"],
        ["inspect", "\x9b.tflite"],
    ):
        assert run(*arguments) == 2
        said = capsys.readouterr().err
        assert said.startswith("Error: ")
        assert printable(said[:-1]) == said[:-1]
        assert r"\x" in said


def test_a_command_shows_what_the_library_logs_and_a_program_sees_nothing_of_it(capsys):
    log = logging.getLogger("textclf.something")
    log.info("unseen")
    log.warning("unseen")
    assert capsys.readouterr().err == ""
    with terminal.surroundings():
        log.info("fetching \x1b[31m")
        log.warning("slow")
        logging.getLogger("other").warning("of another library: %s", "\x07")
        logging.getLogger("other").info("unseen")
    log.warning("unseen")
    assert capsys.readouterr().err.splitlines() == [
        r"fetching \x1b[31m",
        "Warning: slow",
        r"Warning: of another library: \x07",
    ]


def test_progress_shows_text_as_it_is_and_nothing_when_quiet(capsys):
    Progress().say("label :bug: [red]x[/red] \x1b[31m")
    Progress(quiet=True).say("unseen")
    with Progress(quiet=True).bar("Epoch [1/3]", 3) as bar:
        bar.advance("loss [/]")
    assert capsys.readouterr().err == "label :bug: [red]x[/red] \\x1b[31m\n"


# --- Native code -----------------------------------------------------------------------------------------------------

CRASH = """
import ctypes, faulthandler, os, sys
from textclf.terminal.native_log import start_litert, without_chatter
faulthandler.enable(2)
def last_words():
    os.write(2, b"I0000 00:00:1.2    3 port.cc:31] chatter\\nF0000 00:00:1.2    3 x.cc:1] Check failed: a > b\\n")
    ctypes.CDLL(None).abort()
"""


@POSIX
@pytest.mark.parametrize("place", ["with without_chatter(): last_words()", "start_litert(); last_words()"])
def test_a_crash_of_native_code_shows_its_last_words(place):
    done = subprocess.run(
        [sys.executable, "-c", CRASH + place],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert done.returncode == -6
    assert "Check failed: a > b" in done.stderr
    assert "Fatal Python error: Aborted" in done.stderr


@POSIX
def test_what_native_code_says_beside_its_chatter_is_passed_on():
    code = (
        "import os\nfrom textclf.terminal.native_log import without_chatter\n"
        "with without_chatter():\n"
        "    os.write(2, b'INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\nERROR: kept\\nno line end')\n"
        "os.write(2, b'|after')"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stderr == "ERROR: kept\nno line end|after"


def test_the_first_interpreter_is_made_in_silence(capfd):
    start_litert()
    assert capfd.readouterr() == ("", "")


QUIET = """
import sys, textclf
from tests.tiny import write_reviews
from pathlib import Path
folder = Path(sys.argv[1])
write_reviews(folder / "train.csv", 60)
(folder / "r.yaml").write_text("name: r\\ndataset: {train: train.csv, text: review, label: mood}\\nencoder: average-words\\n")
run = textclf.train(textclf.load_recipe(folder / "r.yaml", ["training.epochs=1"]), folder / "run", quiet=True)
textclf.Classifier(run.model_path).classify(["good film"])
"""


def test_a_quiet_training_and_a_classifier_print_nothing_at_all(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", QUIET, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
