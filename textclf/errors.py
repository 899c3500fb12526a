"""The exceptions that a user can cause. Each message names the fault, its place, what was expected and what to do."""

from __future__ import annotations


class TextclfError(Exception):
    """A fault that the user can fix: shown without a traceback, exit code 2."""


class MissingPackageError(TextclfError, ImportError):
    """A package of one of textclf's extras that is needed and not installed."""


class RecipeError(TextclfError):
    """A recipe that cannot be used; the message lists every problem as `file:line:column: problem; remedy`."""


class DataError(TextclfError):
    """A data file that cannot be used."""


class ArgumentError(TextclfError, ValueError):
    """An argument of the Python API, or the option of the same meaning, that cannot be used."""


class EncoderError(TextclfError):
    """An encoder that cannot be found, read or supported."""


class ModelError(TextclfError):
    """A `.tflite` model that cannot be read, or that is not a supported text classifier."""


class RunError(TextclfError):
    """A run folder that cannot be written or resumed."""


class VerificationError(TextclfError):
    """An exported model that answers differently from the trained one."""


class EngineError(TextclfError):
    """A training engine other than our own that is not set up, or that failed."""


class TrainingError(TextclfError):
    """A training that cannot continue: it diverged, its numbers are not finite, or the memory is full."""


class StreamError(TextclfError):
    """A standard input or output that is closed, or that cannot be written."""
