"""textclf on Dask: labels for a Dask DataFrame, and labels or answers for files of any size with a cluster."""

from textclf.cluster.frames import classify
from textclf.cluster.job import AnswerFolderSummary, FolderSummary, answer_files, classify_files

__all__ = ["AnswerFolderSummary", "FolderSummary", "answer_files", "classify", "classify_files"]
