"""textclf on Dask: labels for a Dask DataFrame, and for files of any size with a cluster."""

from textclf.cluster.frames import classify
from textclf.cluster.job import FolderSummary, classify_files

__all__ = ["FolderSummary", "classify", "classify_files"]
