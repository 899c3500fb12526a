"""Makes Python behave as on Windows, as far as this can be done elsewhere: modules and functions of POSIX are missing,
and no file can be renamed, replaced or deleted while this process has it open or mapped, nor a folder with such a file.

Python imports this module when it starts, if its folder is on PYTHONPATH, in child processes too.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

MODULES = ("fcntl", "grp", "posix_spawn", "pty", "pwd", "resource", "syslog", "termios", "tty")

FUNCTIONS = """
chown fchmod fchown fork forkpty getegid geteuid getgid getloadavg getpgid getpgrp getsid getuid initgroups killpg lchown
major mkfifo mknod nice posix_fadvise posix_fallocate posix_spawn posix_spawnp pread preadv pwrite register_at_fork
sched_getaffinity sched_setaffinity sched_yield setegid seteuid setgid setpgid setsid setuid sync sysconf
wait wait3 wait4 waitid
"""

SIGNALS = "SIGALRM SIGBUS SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2"


def open_files() -> set[str]:
    """The files that this process has open or mapped into memory."""
    names = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            names.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue  # the one that listed the folder
    with open("/proc/self/maps", encoding="utf-8") as maps:
        names.update(re.findall(r" (/.*)$", maps.read(), re.MULTILINE))
    return names


def refusing(function: Callable[..., Any], paths: int) -> Callable[..., Any]:
    """The function, which refuses its first `paths` arguments if they are open or hold something open."""

    @functools.wraps(function)
    def checked(*arguments: Any, **options: Any) -> Any:
        for path in map(os.fsdecode, arguments[:paths]):
            real = os.path.realpath(path)
            if used := [name for name in open_files() if name == real or name.startswith(real + os.sep)]:
                raise PermissionError(13, f"The process cannot access the file because it is open: {used[0]}", path)
        return function(*arguments, **options)

    return checked


for module in MODULES:
    sys.modules[module] = None  # type: ignore[assignment]
for name in FUNCTIONS.split():
    if hasattr(os, name):
        delattr(os, name)
for name in SIGNALS.split():
    if hasattr(signal, name):
        delattr(signal, name)
if os.path.exists("/proc/self/maps"):
    for name, paths in {"rename": 2, "replace": 2, "unlink": 1, "remove": 1}.items():
        setattr(os, name, refusing(getattr(os, name), paths))
