"""The exceptions that a user can cause. Every message says what is wrong, where, what was expected and what to do."""

from __future__ import annotations


class TextclfError(Exception):
    """Something that the user can mend: shown without a traceback, exit code 2."""


class RecipeError(TextclfError):
    """A recipe that cannot be used; the message lists every problem as `file:line:column: what; remedy`."""


class DataError(TextclfError):
    """A data file that cannot be used."""


class ArgumentError(TextclfError, ValueError):
    """An argument of the Python API, or the option of the same meaning, that cannot be used."""


class EncoderError(TextclfError):
    """An encoder that cannot be found, read or supported."""


class ModelError(TextclfError):
    """A `.tflite` model that cannot be read, or is not a text classifier that we understand."""


class RunError(TextclfError):
    """A run folder that cannot be written or resumed."""


class VerificationError(TextclfError):
    """An exported model that does not do what the trained one does."""


class EngineError(TextclfError):
    """A training engine other than our own that is not set up, or failed."""


class TrainingError(TextclfError):
    """A training that cannot go on: it diverged, its numbers are none, or the memory ended."""
