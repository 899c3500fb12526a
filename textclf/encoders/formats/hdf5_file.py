"""Reads arrays of Keras' HDF5 weight files: names and shapes first, each array on demand.

The HDF5 library is written in C and trusts the file: a damaged file can crash or hang the process. Therefore a separate
process reads the file and copies its arrays into a safetensors file, which is read here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from textclf.encoders.formats.arrays import RawArray
from textclf.encoders.formats.safetensors_file import index_safetensors
from textclf.errors import EncoderError
from textclf.extras import require

_BEGINNING = b"\x89HDF\r\n\x1a\n"
# The shortest time limit in seconds, and the bytes of the file for each additional second.
LEAST_TIME = 60.0
_BYTES_A_SECOND = 5_000_000
# The copy is as large as the file, or several times as large if the file is compressed.
_MOST_TIMES_LARGER = 16
_LEAST_COPY = 64 * 2**20
_MEMORY_BESIDES = 2 * 2**30
_LONGEST_MESSAGE = 300


def index_hdf5(files: Iterable[Path]) -> dict[str, RawArray]:
    """Returns the arrays of all files by their path inside the file. Links to other files are not followed.

    Raises EncoderError for a file that is damaged, incomplete or of another kind.
    """
    arrays: dict[str, RawArray] = {}
    for file in files:
        with file.open("rb") as stream:
            if stream.read(len(_BEGINNING)) != _BEGINNING:
                raise _damaged(file, "it does not begin as an HDF5 file does")
        with TemporaryDirectory(prefix="textclf-") as folder:
            copy = Path(folder) / "arrays.safetensors"
            _copy_guarded(file, copy)
            # Read now, because the copy is deleted with its folder. Each array is freed when it is no longer needed.
            arrays.update(_read_whole(copy))
    return arrays


def _read_whole(copy: Path) -> dict[str, RawArray]:
    """The arrays of a safetensors file, which is closed afterwards: Windows deletes no open file."""
    return {name: _in_memory(array.read()) for name, array in index_safetensors([copy]).items()}


def _copy_guarded(file: Path, copy: Path) -> None:
    require("h5py", "to read HDF5 files")
    size = file.stat().st_size
    command = [
        sys.executable,
        "-m",
        __name__,
        str(file.absolute()),
        str(copy),
        str(_MOST_TIMES_LARGER * size + _LEAST_COPY),
    ]
    package = str(Path(__file__).resolve().parents[3])
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LEAST_TIME + size / _BYTES_A_SECOND,
            cwd=copy.parent,
            env={**os.environ, "PYTHONPATH": package},
        )
    except subprocess.TimeoutExpired as error:
        raise _damaged(file, "reading it does not end") from error
    if result.returncode == 0 and copy.is_file():
        return
    words = result.stderr.decode(errors="replace").strip().splitlines()
    if result.returncode == 2 and words:
        raise _damaged(file, words[-1][:_LONGEST_MESSAGE])
    raise _damaged(file, f"the HDF5 library ends with code {result.returncode}")


def _in_memory(array: np.ndarray) -> RawArray:
    return RawArray(array.shape, array.dtype.name, lambda: array)


def _damaged(file: Path, what: str) -> EncoderError:
    return EncoderError(f"{file}: cannot be read as HDF5 ({what}); it is damaged or incomplete, get it again")


# --- In the separate process ---------------------------------------------------------------------------------------


def _copy(file: str, copy: str, most_bytes: int) -> None:
    """Copies the arrays of numbers in `file`; raises ValueError for more than `most_bytes` of them."""
    import h5py
    from safetensors.numpy import save_file

    arrays: dict[str, np.ndarray] = {}
    total = 0

    def add(name: str, item: Any) -> None:
        nonlocal total
        # A dataset with its numbers in another file could make this process read any file of this machine.
        if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual or item.dtype.kind not in "fiub":
            return
        total += item.nbytes
        if total > most_bytes:
            raise ValueError(f"it claims more than {most_bytes:,} bytes of numbers")
        arrays[name] = np.ascontiguousarray(item[()])

    with h5py.File(file, "r") as content:
        content.visititems(add)
    save_file(arrays, copy)


def _limit_memory(most_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return
    wanted = 2 * most_bytes + _MEMORY_BESIDES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or wanted < hard:
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    # A crash is an expected result here, so no core file is written.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _main(arguments: list[str]) -> int:
    file, copy, most_bytes = arguments
    _limit_memory(int(most_bytes))
    try:
        _copy(file, copy, int(most_bytes))
    except Exception as error:
        print(" ".join(f"{error or type(error).__name__}".split()), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
