"""Where programs of before import load_dataset from; see `textclf.data.dataset`."""

from textclf.data.dataset import load_dataset

__all__ = ["load_dataset"]
