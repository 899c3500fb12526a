"""The environment in which Model Maker runs: Python 3.9 and 120 pinned packages, in textclf's cache folder.

    <cache>/model-maker/made-by-textclf  marks the folder as textclf's, so that it may be removed
    <cache>/model-maker/environment/     the environment; its `textclf.json` describes it
    <cache>/model-maker/packages/        the downloads, until the environment is complete
    <cache>/model-maker/python/          a Python 3.9, if the machine had none

`set_up` makes it, `status` describes it, and `remove` deletes all of it. It is made under another name, and renamed when
it is complete and tested, so setup may be interrupted at any time and repeated.
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

from textclf.errors import EngineError
from textclf.extras import install_command
from textclf.files.network import cache_folder, is_offline
from textclf.files.writing import locked, write_text
from textclf.model_maker.process import LOG, how_it_ended, last_words, run_process
from textclf.terminal.progress import Progress

PYTHON = "3.9"
FACTS = "textclf.json"
NEEDED_BYTES = 2_500_000_000
# While packages are unpacked, their downloads need space too.
_FREE_BYTES = 3_500_000_000
_SET_UP = "textclf model-maker setup"
_MARKER = "made-by-textclf"
# Everything that setup makes. Nothing else is ever removed.
_OURS = ("environment", "packages", "python", ".unfinished", _MARKER, ".lock")


@dataclass(frozen=True)
class Environment:
    """A complete environment: its interpreter, the versions of its packages, the seconds of its setup, and its size."""

    folder: Path
    python: Path
    requirements_sha256: str
    versions: dict[str, str]
    seconds: float
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "folder": str(self.folder), "python": str(self.python)}


def requirements() -> str:
    """Returns the pinned packages, as in `requirements.txt`."""
    return resources.files("textclf.model_maker").joinpath("requirements.txt").read_text("utf-8")


def place() -> Path:
    """Returns the folder that contains all of it."""
    return cache_folder() / "model-maker"


def worker_script() -> Path:
    """Returns the script that runs in the environment."""
    return Path(__file__).with_name("worker.py")


def worker_command(python: Path, *arguments: str) -> list[str]:
    """Returns a command that imports only the environment's packages, whatever variables or packages the user has set."""
    return [str(python), "-I", "-W", "ignore", "-X", "utf8", str(worker_script()), *arguments]


def find_environment() -> Environment | None:
    """Returns the environment if it is complete and has the packages of this version."""
    found = _read_facts(place() / "environment")
    return found if found is not None and found.requirements_sha256 == _wanted() else None


def require_environment() -> Environment:
    """Returns the environment. Raises EngineError with what to do if there is none."""
    found = find_environment()
    if found is None:
        old = _read_facts(place() / "environment") is not None
        what = "was set up by another version of textclf" if old else "is not set up"
        raise EngineError(
            f"Model Maker {what}: it needs a separate environment ({_gigabytes(NEEDED_BYTES)}); make it once with "
            f"`{_SET_UP}`, or train with training.engine=native"
        )
    return found


def status() -> dict[str, Any]:
    """Returns `state` (ready, outdated, unfinished or absent), the folder, its size in bytes, and the versions."""
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
    """Returns `status` as lines for a terminal."""
    remedy = {
        "ready": "",
        "outdated": f"; its packages are those of another version of textclf: update it with `{_SET_UP}`",
        "unfinished": f"; setup was interrupted: continue with `{_SET_UP}`",
        "absent": f"; make it with `{_SET_UP}` ({_gigabytes(NEEDED_BYTES)})",
    }[values["state"]]
    lines = [f"Model Maker: {values['state']}{remedy}"]
    if values["bytes"]:
        lines.append(f"{values['folder']}: {_gigabytes(values['bytes'])}")
    lines += [f"{name} {version}" for name, version in values["versions"].items()]
    return "\n".join(lines)


def set_up(python: Path | None = None, *, uv: Path | None = None, progress: Progress | None = None) -> Environment:
    """Makes the environment, unless it exists, and returns it.

    `python` is an interpreter of version 3.9 (default: searched for, or else downloaded), `uv` the program that installs
    the packages (default: beside this interpreter, or on the search path). Raises EngineError if the machine cannot run
    Model Maker, if uv or the network is missing, and if a package cannot be installed.
    """
    progress = progress or Progress()
    found = find_environment()
    if found is not None:
        progress.say(f"Model Maker is already set up: {found.folder}")
        return found
    _check_machine()
    program = _find_uv() if uv is None else str(uv)
    folder = place()
    progress.say(
        f"Setting up Model Maker in {folder}: Python {PYTHON}, TensorFlow 2.8 and 118 other packages. It downloads 0.9 GB, "
        f"needs {_gigabytes(NEEDED_BYTES)} of disk and half a minute to ten minutes, depending on the network. "
        "Ctrl-C stops it; the same command continues. `textclf model-maker remove` deletes it."
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_ours(folder)
        free = shutil.disk_usage(folder).free
        if free < _FREE_BYTES:
            raise EngineError(
                f"{folder}: this disk has {_gigabytes(free)} of free space, but setup needs {_gigabytes(_FREE_BYTES)}; free some "
                "space, or set TEXTCLF_CACHE to a folder on another disk"
            )
        with locked(folder / ".lock"):
            write_text(
                folder / _MARKER,
                "textclf model-maker setup made this folder; `textclf model-maker remove` deletes it.\n",
            )
            return _make(program, python, progress)
    except Timeout:
        raise EngineError(
            f"{folder}: another process is setting it up or removing it; wait until it has ended"
        ) from None
    except OSError as error:
        raise EngineError(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}); free some space, or set "
            "TEXTCLF_CACHE to a folder that can be written"
        ) from error


def remove() -> int:
    """Deletes everything that `set_up` made and returns the number of freed bytes.

    Raises EngineError, and deletes nothing, if `set_up` did not make the folder or it contains anything else.
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
        raise EngineError(f"{folder}: another process is setting it up; wait until it has ended, or end it") from None
    except OSError as error:
        raise EngineError(
            f"{error.filename or folder}: cannot be removed ({error.strerror or error}); check its permissions"
        ) from error
    return freed


def _check_ours(folder: Path) -> None:
    """Raises EngineError unless the folder is empty, or contains only what `set_up` made."""
    entries = sorted(os.listdir(folder))
    made_by_set_up = any(
        os.path.lexists(file) for file in (folder / _MARKER, folder / "environment" / FACTS, folder / ".lock")
    )
    others = [name for name in entries if name not in _OURS] if made_by_set_up else entries
    if others:
        shown = ", ".join(f"{name}/" if (folder / name).is_dir() else name for name in others[:4])
        more = f" and {len(others) - 4} more" if len(others) > 4 else ""
        raise EngineError(
            f"{folder}: contains files that textclf did not make: {shown}{more}; move them to another place, or set "
            "TEXTCLF_CACHE to another folder. Nothing was changed"
        )


def _remove(path: Path) -> None:
    """Removes a file or a folder. If it is a link, only the link is removed."""
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
        progress.say(f"No Python {PYTHON} was found on this machine; downloading one")
        variables["UV_PYTHON_INSTALL_DIR"] = str(folder / "python")
    wanted = str(base) if base is not None else PYTHON
    environment = unfinished / "environment"
    interpreter = environment / "bin" / "python"
    _uv([uv, "venv", "--no-project", "--relocatable", "--python", wanted, str(environment)], variables, progress)
    (unfinished / "requirements.txt").write_text(requirements(), encoding="utf-8")
    install = [uv, "pip", "sync", "--python", str(interpreter), "requirements.txt"]
    _uv(install, variables, progress)
    progress.say("Testing the environment")
    versions = _try(interpreter)
    target = folder / "environment"
    _remove(target)
    # A package in uv's cache and in the environment is one file with two names. It is counted after the cache is removed.
    if own_cache:
        shutil.rmtree(folder / "packages", ignore_errors=True)
    seconds = round(time.monotonic() - begun, 1)
    made = Environment(target, target / "bin" / "python", _wanted(), versions, seconds, _size(environment))
    (environment / FACTS).write_text(json.dumps(made.as_dict(), indent=1) + "\n", encoding="utf-8")
    environment.rename(target)
    shutil.rmtree(unfinished, ignore_errors=True)
    progress.say(f"Model Maker is set up: {_gigabytes(made.bytes)}, {made.seconds:.0f} s")
    return made


def _check_machine() -> None:
    """Raises EngineError if Model Maker cannot run on this machine."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise EngineError(
            f"this is {platform.system()} on {platform.machine()}, but Model Maker 0.4.3's packages exist for Linux on "
            "x86-64 only; train with training.engine=native"
        )


def _find_uv() -> str:
    """Returns the path of uv. Raises EngineError if it is not installed."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if os.access(beside, os.X_OK) else shutil.which("uv")
    if uv is None:
        raise EngineError(
            "uv was not found. It installs Model Maker's packages in seconds, while pip needs many minutes; install it with: "
            f"{install_command('model-maker')}"
        )
    return uv


def _find_python(uv: str, variables: Mapping[str, str]) -> Path | None:
    """Returns a Python 3.9 of this machine: one that uv finds, or one of pyenv, which is not on the search path."""
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
    """Runs a command of uv in the unfinished folder, and shows its lines about downloads as they are printed."""
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
            f"what was downloaded is kept. If it finds no Python {PYTHON}, pass the path of one in python (--python)"
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
            f"Model Maker was installed but cannot be imported ({how_it_ended(answer.returncode)}):\n{lines}\n"
            "Install what is missing there, then run the command again"
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
    """Returns the bytes on disk of a folder's files. A file with several names is counted once."""
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
