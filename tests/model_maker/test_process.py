from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from textclf.model_maker.process import how_it_ended, last_words, run_process, tail

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Model Maker runs on Linux only")

_DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def _python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _gone(pid: int, seconds: float = 10) -> bool:
    ends = time.monotonic() + seconds
    while _alive(pid) and time.monotonic() < ends:
        time.sleep(0.05)
    return not _alive(pid)


def test_the_exit_status_and_everything_printed_are_kept(tmp_path: Path) -> None:
    looks = []
    command = _python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)")
    assert run_process(command, tmp_path, on_look=lambda: looks.append(1)) == 7
    assert sorted(last_words(tmp_path).splitlines()) == ["err", "out"]
    assert looks


def test_what_the_process_wrote_last_is_looked_at_after_its_end(tmp_path: Path) -> None:
    seen: list[bool] = []
    command = _python("import time; time.sleep(0.3); open('last', 'w').close()")
    run_process(command, tmp_path, on_look=lambda: seen.append((tmp_path / "last").exists()))
    assert seen[0] is False
    assert seen[-1] is True


def test_a_deaf_process_and_its_child_are_ended_when_looking_on_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textclf.model_maker.process.SECONDS_TO_END", 0.3)
    script = (
        f"import subprocess, sys, os\nchild = subprocess.Popen([sys.executable, '-c', {_DEAF!r}])\n"
        f"open('pids', 'w').write(f'{{os.getpid()}} {{child.pid}}')\n{_DEAF}"
    )

    def fail() -> None:
        if (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().count(" "):
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        run_process(_python(script), tmp_path, on_look=fail)
    for pid in (tmp_path / "pids").read_text().split():
        assert _gone(int(pid))


def test_sigterm_to_us_ends_the_process_as_ctrl_c_does(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def ask_to_end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run_process(
            _python("import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"),
            tmp_path,
            on_look=ask_to_end,
        )
    assert signal.getsignal(signal.SIGTERM) is before
    if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
        assert _gone(int((tmp_path / "pid").read_text()))


def test_the_worker_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    worker = REPOSITORY / "textclf" / "model_maker" / "worker.py"
    child = (
        f"import importlib.util, os, sys, time\n"
        f"spec = importlib.util.spec_from_file_location('worker', {str(worker)!r})\n"
        f"module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        f"module.end_with(int(sys.argv[1])); open('pid', 'w').write(str(os.getpid())); time.sleep(600)\n"
    )
    (tmp_path / "child.py").write_text(child)
    parent = (
        "import os, pathlib, sys\nfrom textclf.model_maker.process import run_process\n"
        "run_process([sys.executable, 'child.py', str(os.getpid())], pathlib.Path('.'), on_look=lambda: None)\n"
    )
    process = subprocess.Popen(_python(parent), cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    pid_file = tmp_path / "pid"
    ends = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < ends:
        time.sleep(0.05)
    pid = int(pid_file.read_text())
    assert _alive(pid)
    process.kill()
    process.wait()
    assert _gone(pid)


def test_a_worker_whose_parent_is_gone_already_does_not_begin(tmp_path: Path) -> None:
    worker = REPOSITORY / "textclf" / "model_maker" / "worker.py"
    (tmp_path / "job.json").write_text('{"parent": 1, "started": 0}')
    ended = subprocess.run(
        [sys.executable, "-I", str(worker), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "the process that started this one has ended" in ended.stderr


def test_only_whole_lines_are_passed_on_and_each_once(tmp_path: Path) -> None:
    events = tail(tmp_path / "events.jsonl")
    assert next(events) == []
    with (tmp_path / "events.jsonl").open("w") as file:
        file.write('{"a": 1}\n{"a": ')
        file.flush()
        assert next(events) == [{"a": 1}]
        file.write("2}\nnonsense\n")
        file.flush()
        assert next(events) == [{"a": 2}]
        assert next(events) == []


def test_last_words_are_few_and_without_redrawn_progress(tmp_path: Path) -> None:
    lines = "".join(f"line {number}\n" for number in range(40))
    (tmp_path / "worker.log").write_text(f"{lines}1/9 [..]\r9/9 [==] - loss 0.5\n{'x' * 1000}\n")
    words = last_words(tmp_path).splitlines()
    assert words[-3:] == ["line 39", "9/9 [==] - loss 0.5", "x" * 400]
    assert len(words) <= 15


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "exit code 0"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-200, "killed by signal 200")],
)
def test_the_end_of_a_process_is_told_in_words(status: int, words: str) -> None:
    assert how_it_ended(status) == words
