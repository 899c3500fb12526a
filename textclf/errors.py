"""The errors that a user can cause. Each message says what is wrong, where, what was expected and what to do."""

from __future__ import annotations


class TextclfError(Exception):
    """An error that the user can fix. A command shows it without a traceback and ends with exit code 2."""


class MissingPackageError(TextclfError, ImportError):
    """A package of one of textclf's extras that is needed and not installed."""


class RecipeError(TextclfError):
    """A recipe that cannot be used; the message lists every problem as `file:line:column: problem; remedy`."""


class DataError(TextclfError):
    """A data file that cannot be used."""


class ArgumentError(TextclfError, ValueError):
    """An argument of the Python API, or the corresponding option of a command, that cannot be used."""


class EncoderError(TextclfError):
    """An encoder that cannot be found or read, or that is not supported."""


class ModelError(TextclfError):
    """A `.tflite` model that cannot be read, or that is not a supported text classifier."""


class RunError(TextclfError):
    """A run folder that cannot be written or resumed."""


class VerificationError(TextclfError):
    """An exported model whose predictions differ from those of the trained model."""


class EngineError(TextclfError):
    """A training engine, other than the native one, that is not set up or has failed."""


class TrainingError(TextclfError):
    """A training that cannot continue: it diverged, its numbers are not finite, or memory ran out."""


class StreamError(TextclfError):
    """A standard input or output that is closed or cannot be written."""
