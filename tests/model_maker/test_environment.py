"""Making Model Maker's environment, with a stand-in for uv that makes folders instead of fetching packages."""

from __future__ import annotations

import json
import os
import platform
import re
import stat
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.command import run
from textclf.errors import EngineError
from textclf.model_maker import environment
from textclf.model_maker.environment import find_environment, place, require_environment, requirements, set_up, status
from textclf.terminal.progress import Progress

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Model Maker runs on Linux only")

# `uv venv … FOLDER` makes an interpreter that answers the trial; `uv pip sync` says what uv says, or as it is told.
_UV = """#!/bin/sh
echo "$@" >> "$FAKE_UV_CALLS"
case "$1 $2" in
  "python find") exit 1 ;;
  "venv "*)
    for last; do :; done
    mkdir -p "$last/bin"
    printf '#!/bin/sh\\necho noise\\necho "{\\\\"tflite-model-maker\\\\": \\\\"0.4.3\\\\"}"\\n' > "$last/bin/python"
    chmod +x "$last/bin/python" ;;
  "pip sync")
    mkdir -p "$UV_CACHE_DIR/wheels"
    echo "Resolved 120 packages in 5ms"
    echo " + zipp==1"
    if [ "$FAKE_UV" = fail ]; then echo "error: no route to the index" >&2; exit 2; fi
    if [ "$FAKE_UV" = wait ]; then echo $$ > "$FAKE_UV_CALLS.pid"; exec sleep 600; fi ;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which every call of the stand-in is a line; the cache folder is an empty one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    uv = folder / "uv"
    uv.write_text(_UV)
    uv.chmod(uv.stat().st_mode | stat.S_IXUSR)
    calls = tmp_path / "calls"
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr("textclf.model_maker.process.SECONDS_TO_END", 0.5)
    monkeypatch.setenv("TEXTCLF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "no-pyenv"))
    monkeypatch.setenv("FAKE_UV_CALLS", str(calls))
    monkeypatch.delenv("UV_CACHE_DIR", raising=False)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**10}))
    return calls


def _set_up(python: Path | None = None, *, quiet: bool = True) -> environment.Environment:
    uv = Path(os.environ["FAKE_UV_CALLS"]).with_name("bin") / "uv"
    return set_up(python, uv=uv, progress=Progress(quiet=quiet))


def test_it_is_made_tried_and_found_again(calls: Path) -> None:
    assert status()["state"] == "absent"
    made = _set_up()
    assert made.versions == {"tflite-model-maker": "0.4.3"}
    assert made.python == place() / "environment" / "bin" / "python"
    assert find_environment() == made
    assert status()["state"] == "ready"
    assert sorted(path.name for path in place().iterdir()) == ["environment", "made-by-textclf"]
    count = len(calls.read_text().splitlines())
    _set_up()
    assert len(calls.read_text().splitlines()) == count, "a second set-up has nothing to do"


def test_it_says_what_it_will_take_before_it_starts(calls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _set_up(quiet=False)
    said = capsys.readouterr().err
    before, _, after = said.partition("Resolved 120 packages")
    assert "2.5 GB of disk" in before
    assert "textclf model-maker remove" in before
    assert "Testing the environment" in after
    assert "zipp" not in said


def test_a_set_up_that_fails_tells_why_and_goes_on_when_it_is_repeated(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_UV", "fail")
    with pytest.raises(EngineError, match=r"(?s)exit code 2.*no route to the index.*run the command again"):
        _set_up()
    assert status()["state"] == "unfinished"
    assert (place() / "packages" / "wheels").is_dir(), "what was downloaded is kept"
    assert find_environment() is None
    monkeypatch.setenv("FAKE_UV", "")
    _set_up()
    assert status()["state"] == "ready"
    assert not (place() / "packages").exists()


def test_ctrl_c_ends_uv_and_the_set_up_can_be_repeated(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_UV", "wait")
    pid_file = calls.with_name("calls.pid")

    def interrupt() -> None:
        while not (pid_file.exists() and pid_file.read_text().strip()):
            time.sleep(0.05)
        os.kill(os.getpid(), 2)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        _set_up()
    assert not Path(f"/proc/{pid_file.read_text().strip()}").exists()
    monkeypatch.setenv("FAKE_UV", "")
    _set_up()
    assert status()["state"] == "ready"


def test_an_environment_that_cannot_import_model_maker_is_not_taken(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "worker_command", lambda *_: ["sh", "-c", "echo libusb is missing >&2; exit 1"])
    with pytest.raises(EngineError, match=r"(?s)cannot be imported \(exit code 1\).*libusb is missing"):
        _set_up()
    assert find_environment() is None


def test_other_packages_than_this_versions_are_outdated(calls: Path) -> None:
    made = _set_up()
    facts = json.loads((made.folder / "textclf.json").read_text())
    (made.folder / "textclf.json").write_text(json.dumps({**facts, "requirements_sha256": "of an older textclf"}))
    assert status()["state"] == "outdated"
    with pytest.raises(EngineError, match=r"another version of textclf.*textclf model-maker setup"):
        require_environment()
    _set_up()
    assert status()["state"] == "ready"


def test_a_python_that_is_named_is_used_and_else_one_of_pyenv_or_one_that_uv_fetches(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def venv_call() -> str:
        return [line for line in calls.read_text().splitlines() if line.startswith("venv")][-1]

    _set_up()
    assert "--python 3.9 " in venv_call()
    run("model-maker", "remove")
    pyenv = tmp_path / "no-pyenv" / "versions" / "3.9.18" / "bin" / "python3.9"
    pyenv.parent.mkdir(parents=True)
    pyenv.touch()
    _set_up()
    assert f"--python {pyenv} " in venv_call()
    run("model-maker", "remove")
    _set_up(python=tmp_path / "mine")
    assert f"--python {tmp_path / 'mine'} " in venv_call()


def test_remove_takes_everything_away(calls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _set_up()
    assert run("model-maker", "remove") == 0
    assert not place().exists()
    assert run("model-maker", "remove") == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_a_folder_that_set_up_did_not_make_is_neither_removed_nor_set_up_in(calls: Path) -> None:
    place().mkdir(parents=True)
    (place() / "notes.txt").write_text("mine")
    (place() / "environment").mkdir()
    with pytest.raises(
        EngineError, match=r"contains files that textclf did not make: environment/, notes\.txt; move them"
    ):
        environment.remove()
    with pytest.raises(EngineError, match=r"contains files that textclf did not make"):
        _set_up()
    assert sorted(path.name for path in place().iterdir()) == ["environment", "notes.txt"]
    assert run("model-maker", "remove") == 2


def test_what_a_person_put_beside_the_environment_is_not_removed(calls: Path, tmp_path: Path) -> None:
    _set_up()
    (place() / "notes.txt").write_text("mine")
    with pytest.raises(EngineError, match=r"did not make: notes\.txt"):
        environment.remove()
    assert status()["state"] == "ready"
    (place() / "notes.txt").rename(tmp_path / "notes.txt")
    (tmp_path / "big disk" / "kept").mkdir(parents=True)
    (place() / "packages").symlink_to(tmp_path / "big disk")
    assert environment.remove() > 0
    assert not place().exists()
    assert (tmp_path / "big disk" / "kept").exists()


def test_a_set_up_of_the_first_textclf_which_left_no_marker_is_removed(calls: Path) -> None:
    _set_up()
    (place() / "made-by-textclf").unlink()
    environment.remove()
    assert not place().exists()


def test_status_is_told_as_text_and_as_json(calls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("model-maker", "status") == 0
    assert "absent; make it with `textclf model-maker setup`" in capsys.readouterr().out
    _set_up()
    assert run("model-maker", "status", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == "ready"
    assert found["versions"] == {"tflite-model-maker": "0.4.3"}


def test_a_disk_that_is_too_full_is_told_before_anything_is_fetched(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**9}))
    with pytest.raises(EngineError, match=r"this disk has 1\.0 GB of free space.*TEXTCLF_CACHE"):
        _set_up()
    assert not calls.exists()


def test_another_machine_than_it_exists_for_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTCLF_CACHE", str(tmp_path))
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(EngineError, match=r"aarch64.*Linux on x86-64 only"):
        set_up(progress=Progress(quiet=True))


def test_every_package_is_pinned_and_no_host_is_named() -> None:
    lines = [line for line in requirements().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", line) for line in lines)
    assert {"tflite-model-maker==0.4.3", "tensorflow==2.8.1"} <= set(lines)
    assert any(line.startswith("libusb-package==") for line in lines)
    assert "://" not in requirements()
