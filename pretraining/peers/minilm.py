"""all-MiniLM-L6-v2 in PyTorch and transformers: the mean of the last states over the tokens of a text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from pretraining.peers.job import Rows
from pretraining.teacher_files import installed_minilm

MAX_LENGTH = 128

_BATCH = 64

# What /proc/cpuinfo calls the instructions that multiply bfloat16.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


class MiniLM(torch.nn.Module):
    """The encoder on a GPU, if there is one, or the processor, with bfloat16 products where these are computed in hardware."""

    def __init__(self) -> None:
        super().__init__()
        folder = installed_minilm()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.device_name = torch.cuda.get_device_name() if self.device.type == "cuda" else None
        self.bfloat16 = self.device.type == "cuda" or _processor_multiplies_bfloat16()
        self.sha256 = sha256_of_weights()
        self.tokenizer = AutoTokenizer.from_pretrained(str(folder))
        self.network = AutoModel.from_pretrained(str(folder)).to(self.device)
        self.width: int = self.network.config.hidden_size

    def tokens(self, rows: Rows) -> list[dict[str, list[int]]]:
        """Returns ids and segments of each row, at most MAX_LENGTH tokens."""
        columns = [list(texts) for texts in zip(*rows.texts, strict=True)]
        encoded = self.tokenizer(*columns, truncation=True, max_length=MAX_LENGTH, return_attention_mask=True)
        return [{name: values[row] for name, values in encoded.items()} for row in range(len(rows.texts))]

    def forward(self, rows: Sequence[dict[str, list[int]]]) -> torch.Tensor:
        """Rows → their mean vectors, float32 [rows, width]."""
        padded = self.tokenizer.pad(list(rows), return_tensors="pt").to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            states = self.network(**padded).last_hidden_state
        mask = padded["attention_mask"][..., None].float()
        return (states.float() * mask).sum(1) / mask.sum(1)

    @torch.no_grad()
    def vectors(self, rows: Sequence[dict[str, list[int]]]) -> np.ndarray:
        """Returns the mean vectors without dropout, float32 [rows, width]."""
        self.eval()
        found: np.ndarray = np.zeros((len(rows), self.width), np.float32)
        for places in by_length(rows):
            found[places] = self([rows[place] for place in places]).cpu().numpy()
        return found


def sha256_of_weights() -> str:
    """The SHA-256 of the file with the weights."""
    return hashlib.sha256((installed_minilm() / "model.safetensors").read_bytes()).hexdigest()


def by_length(rows: Sequence[dict[str, list[int]]]) -> Iterator[list[int]]:
    """Batches of rows of similar length."""
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]["input_ids"]))
    for start in range(0, len(order), _BATCH):
        yield order[start : start + _BATCH]


def _processor_multiplies_bfloat16() -> bool:
    info = Path("/proc/cpuinfo")
    return info.is_file() and not _BFLOAT16_FLAGS.isdisjoint(info.read_text(encoding="utf-8", errors="replace").split())
