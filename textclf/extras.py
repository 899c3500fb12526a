"""Packages that only an extra installs. Where one is missing, one line names it and the command that adds it."""

from __future__ import annotations

from importlib.util import find_spec

from textclf.errors import MissingPackageError

DISTRIBUTION = "textclf-tflite"
"""The name under which package indexes know textclf."""

EXTRAS = {
    "dask": ("dask", "distributed"),
    "excel": ("openpyxl",),
    "model-maker": ("uv",),
    "onnx": ("onnx", "onnxruntime"),
    "parquet": ("pyarrow",),
    "remote": ("aiohttp", "fsspec"),
    "serve": ("prometheus_client", "starlette", "uvicorn"),
    "tensorboard": ("tensorboard",),
    "train": ("google_crc32c", "h5py", "jinja2", "matplotlib", "requests", "tensorflow"),
    "verify": ("mediapipe",),
}
"""The modules that each extra adds, which nothing else brings."""


def install_command(extra: str) -> str:
    """Returns the command that adds an extra, in the quotation marks that every shell understands."""
    return f'pip install "{DISTRIBUTION}[{extra}]"'


def require(module: str, purpose: str) -> None:
    """Raises MissingPackageError unless a module of an extra can be imported. `purpose` follows "needed", as "to train"."""
    if find_spec(module) is None:
        extra = next(extra for extra, modules in EXTRAS.items() if module in modules)
        raise MissingPackageError(
            f"{module} is not installed, which is needed {purpose}; run: {install_command(extra)}"
        )
