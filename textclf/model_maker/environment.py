"""The environment in which Model Maker runs: Python 3.9 and 120 pinned packages, in textclf's cache folder.

    <cache>/model-maker/made-by-textclf  says that the folder is textclf's, so that it may be removed
    <cache>/model-maker/environment/     the environment; `textclf.json` in it says what it is
    <cache>/model-maker/packages/        what was downloaded, until the environment is complete
    <cache>/model-maker/python/          a Python 3.9, where the machine had none

`set_up` makes it, `status` tells about it, `remove` takes everything away. It is made under another name and renamed
when it is complete and was tried, so a set-up may be interrupted at any moment and repeated.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from filelock import Timeout

from textclf.encoders.sources.cache import cache_folder, is_offline
from textclf.errors import EngineError
from textclf.extras import install_command
from textclf.files.writing import locked, write_text
from textclf.model_maker.process import LOG, how_it_ended, last_words, run_process
from textclf.terminal.progress import Progress

PYTHON = "3.9"
FACTS = "textclf.json"
NEEDED_BYTES = 2_500_000_000
# While packages are unpacked, what was downloaded of them lies beside.
_FREE_BYTES = 3_500_000_000
_SET_UP = "textclf model-maker setup"
_MARKER = "made-by-textclf"
# All that a set-up makes. Nothing else is ever removed.
_OURS = ("environment", "packages", "python", ".unfinished", _MARKER, ".lock")


@dataclass(frozen=True)
class Environment:
    """A complete environment: its interpreter, the versions in it, the seconds that making it took, its size."""

    folder: Path
    python: Path
    requirements_sha256: str
    versions: dict[str, str]
    seconds: float
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "folder": str(self.folder), "python": str(self.python)}


def requirements() -> str:
    """The pinned packages, as `requirements.txt` has them."""
    return resources.files("textclf.model_maker").joinpath("requirements.txt").read_text("utf-8")


def place() -> Path:
    """The folder that holds all there is of it."""
    return cache_folder() / "model-maker"


def worker_script() -> Path:
    """The script that runs in the environment."""
    return Path(__file__).with_name("worker.py")


def worker_command(python: Path, *arguments: str) -> list[str]:
    """Neither variables of the environment nor packages of the user change what it imports."""
    return [str(python), "-I", "-W", "ignore", "-X", "utf8", str(worker_script()), *arguments]


def find_environment() -> Environment | None:
    """The environment if it is complete and of this version's packages."""
    found = _read_facts(place() / "environment")
    return found if found is not None and found.requirements_sha256 == _wanted() else None


def require_environment() -> Environment:
    """As `find_environment`; raises EngineError with what to do where there is none."""
    found = find_environment()
    if found is None:
        old = _read_facts(place() / "environment") is not None
        what = "was set up by another version of textclf" if old else "is not set up"
        raise EngineError(
            f"Model Maker {what}: it needs an environment of its own ({_gigabytes(NEEDED_BYTES)}); make it once with "
            f"`{_SET_UP}`, or train with training.engine=native"
        )
    return found


def status() -> dict[str, Any]:
    """`state` is ready, outdated, unfinished or absent; then the folder, the bytes in it, the versions."""
    folder = place()
    found = _read_facts(folder / "environment")
    if found is not None:
        state = "ready" if found.requirements_sha256 == _wanted() else "outdated"
    else:
        state = "unfinished" if _unfinished().exists() or (folder / "packages").exists() else "absent"
    return {
        "state": state,
        "folder": str(folder),
        "bytes": _size(folder),
        "python": str(found.python) if found else None,
        "versions": found.versions if found else {},
        "setup_seconds": found.seconds if found else None,
    }


def status_text(values: Mapping[str, Any]) -> str:
    """`status` for a terminal."""
    remedy = {
        "ready": "",
        "outdated": f"; its packages are of another version of textclf: renew it with `{_SET_UP}`",
        "unfinished": f"; a set-up was interrupted: go on with `{_SET_UP}`",
        "absent": f"; make it with `{_SET_UP}` ({_gigabytes(NEEDED_BYTES)})",
    }[values["state"]]
    lines = [f"Model Maker: {values['state']}{remedy}"]
    if values["bytes"]:
        lines.append(f"{values['folder']}: {_gigabytes(values['bytes'])}")
    lines += [f"{name} {version}" for name, version in values["versions"].items()]
    return "\n".join(lines)


def set_up(python: Path | None = None, *, progress: Progress | None = None) -> Environment:
    """Makes the environment, unless it is there, and returns it.

    `python` is an interpreter of version 3.9; without it one is looked for and, if there is none, fetched. Raises
    EngineError where the machine cannot run Model Maker, uv is missing, the network is, or a package fails.
    """
    progress = progress or Progress()
    found = find_environment()
    if found is not None:
        progress.say(f"Model Maker is set up already: {found.folder}")
        return found
    uv = _check_machine()
    folder = place()
    progress.say(
        f"Setting up Model Maker in {folder}: Python {PYTHON}, TensorFlow 2.8 and 118 packages more. It downloads 0.9 GB, "
        f"needs {_gigabytes(NEEDED_BYTES)} of disk and half a minute to ten minutes, depending on the network. "
        "Ctrl-C stops it; the same command continues. `textclf model-maker remove` deletes it."
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_ours(folder)
        free = shutil.disk_usage(folder).free
        if free < _FREE_BYTES:
            raise EngineError(
                f"{folder}: {_gigabytes(free)} are free there, but the set-up needs {_gigabytes(_FREE_BYTES)}; make room, "
                "or set TEXTCLF_CACHE to a folder on another disk"
            )
        with locked(folder / ".lock"):
            write_text(
                folder / _MARKER,
                "textclf model-maker setup made this folder; `textclf model-maker remove` deletes it.\n",
            )
            return _make(uv, python, progress)
    except Timeout:
        raise EngineError(f"{folder}: another process is setting it up or removing it; wait for it") from None
    except OSError as error:
        raise EngineError(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}); make room, or set TEXTCLF_CACHE "
            "to a folder that can be written"
        ) from error


def remove() -> int:
    """Deletes everything that `set_up` made; returns the bytes that were freed.

    Raises EngineError, with nothing deleted, where the folder is not of textclf's making or holds other things too.
    """
    folder = place()
    try:
        if not os.path.lexists(folder) or not os.listdir(folder):
            return 0
        _check_ours(folder)
        with locked(folder / ".lock"):
            freed = _size(folder)
            # The marker goes last, so that an interrupted removal can be repeated.
            for name in _OURS[:-1]:
                _remove(folder / name)
        with suppress(OSError):
            folder.rmdir()
    except Timeout:
        raise EngineError(f"{folder}: another process is setting it up; wait for it, or end it") from None
    except OSError as error:
        raise EngineError(f"{error.filename or folder}: cannot be removed ({error.strerror or error})") from error
    return freed


def _check_ours(folder: Path) -> None:
    """Raises EngineError unless the folder is empty or was made by `set_up`, and nothing else was put into it."""
    entries = sorted(os.listdir(folder))
    made_by_set_up = any(
        os.path.lexists(file) for file in (folder / _MARKER, folder / "environment" / FACTS, folder / ".lock")
    )
    others = [name for name in entries if name not in _OURS] if made_by_set_up else entries
    if others:
        shown = ", ".join(f"{name}/" if (folder / name).is_dir() else name for name in others[:4])
        more = f" and {len(others) - 4} more" if len(others) > 4 else ""
        raise EngineError(
            f"{folder}: holds what textclf did not make: {shown}{more}; move it to another place, or set TEXTCLF_CACHE to "
            "another folder. Nothing was changed"
        )


def _remove(path: Path) -> None:
    """Of a link, only the link."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


# --- Making it -------------------------------------------------------------------------------------------------------


def _make(uv: str, python: Path | None, progress: Progress) -> Environment:
    begun = time.monotonic()
    folder, unfinished = place(), _unfinished()
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    own_cache = "UV_CACHE_DIR" not in os.environ
    variables = {
        **{
            name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
        },
        **({"UV_CACHE_DIR": str(folder / "packages")} if own_cache else {}),
        **({"UV_OFFLINE": "1"} if is_offline() else {}),
    }
    base = python or _find_python(uv, variables)
    if base is None:
        progress.say(f"No Python {PYTHON} was found here: fetching one")
        variables["UV_PYTHON_INSTALL_DIR"] = str(folder / "python")
    wanted = str(base) if base is not None else PYTHON
    environment = unfinished / "environment"
    interpreter = environment / "bin" / "python"
    _uv([uv, "venv", "--no-project", "--relocatable", "--python", wanted, str(environment)], variables, progress)
    (unfinished / "requirements.txt").write_text(requirements(), encoding="utf-8")
    install = [uv, "pip", "sync", "--python", str(interpreter), "requirements.txt"]
    _uv(install, variables, progress)
    progress.say("Trying it")
    versions = _try(interpreter)
    target = folder / "environment"
    _remove(target)
    # A package that is in uv's cache and here is one file with two names: counted after the cache is gone.
    if own_cache:
        shutil.rmtree(folder / "packages", ignore_errors=True)
    seconds = round(time.monotonic() - begun, 1)
    made = Environment(target, target / "bin" / "python", _wanted(), versions, seconds, _size(environment))
    (environment / FACTS).write_text(json.dumps(made.as_dict(), indent=1) + "\n", encoding="utf-8")
    environment.rename(target)
    shutil.rmtree(unfinished, ignore_errors=True)
    progress.say(f"Model Maker is set up: {_gigabytes(made.bytes)}, {made.seconds:.0f} s")
    return made


def _check_machine() -> str:
    """The path of uv; raises EngineError where Model Maker cannot run at all or uv is missing."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise EngineError(
            f"this is {platform.system()} on {platform.machine()}, but Model Maker 0.4.3's packages exist for Linux on "
            "x86-64 only; train with training.engine=native"
        )
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if os.access(beside, os.X_OK) else shutil.which("uv")
    if uv is None:
        raise EngineError(
            "uv was not found, which resolves Model Maker's packages in seconds where pip takes many minutes; install "
            f"it with: {install_command('model-maker')}"
        )
    return uv


def _find_python(uv: str, variables: Mapping[str, str]) -> Path | None:
    """A Python 3.9 of this machine: one that uv knows, or one of pyenv's, which stands on no search path."""
    asked = [uv, "python", "find", "--no-project", PYTHON]
    answer = subprocess.run(
        asked, env={**variables, "UV_PYTHON_DOWNLOADS": "never"}, capture_output=True, text=True, check=False
    )
    if answer.returncode == 0 and answer.stdout.strip():
        return Path(answer.stdout.strip())
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(versions.glob(f"{PYTHON}.*/bin/python{PYTHON}"))
    return found[-1] if found else None


def _uv(command: Sequence[str], variables: Mapping[str, str], progress: Progress) -> None:
    """One command of uv in the unfinished folder, its lines about downloads shown as they come."""
    folder = _unfinished()
    shown = 0

    def show() -> None:
        nonlocal shown
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        for line in lines[shown:]:
            if re.match(r" *(Using|Resolved|Downloading|Building|Installed) ", line):
                progress.say(f"  {line.strip()}")
        shown = len(lines)

    (folder / LOG).unlink(missing_ok=True)
    returned = run_process(command, folder, on_look=show, environment=variables)
    show()
    if returned != 0:
        raise EngineError(
            f"`{' '.join(command[:3])}` failed ({how_it_ended(returned)}), so Model Maker is not set up:\n"
            f"{last_words(folder)}\n"
            "If it cannot reach something, check the network or the configured package index, then run the command again: "
            f"what was downloaded is kept. If it finds no Python {PYTHON}, name one with python (--python)"
        )


def _try(interpreter: Path) -> dict[str, str]:
    """Imports Model Maker in the new environment and returns the versions."""
    command = worker_command(interpreter, "--check")
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_unfinished())
    try:
        return dict(json.loads(answer.stdout.strip().splitlines()[-1]))
    except (ValueError, IndexError):
        lines = "\n".join(answer.stderr.strip().splitlines()[-5:])
        raise EngineError(
            f"Model Maker was installed but cannot be imported ({how_it_ended(answer.returncode)}):\n{lines}"
        ) from None


# --- Facts -----------------------------------------------------------------------------------------------------------


def _unfinished() -> Path:
    return place() / ".unfinished"


def _wanted() -> str:
    return hashlib.sha256(requirements().encode()).hexdigest()


def _read_facts(folder: Path) -> Environment | None:
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        found = Environment(**{**facts, "folder": folder, "python": folder / "bin" / "python"})
    except (OSError, ValueError, TypeError):
        return None
    return found if os.access(found.python, os.X_OK) else None


def _size(folder: Path) -> int:
    """Bytes on disk below a folder, a file with several names counted once."""
    sizes = {}
    for parent, _, files in os.walk(folder):
        for file in files:
            try:
                facts = os.lstat(os.path.join(parent, file))
            except FileNotFoundError:
                continue
            sizes[facts.st_dev, facts.st_ino] = facts.st_blocks * 512
    return sum(sizes.values())


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
