"""What a task adds to the graph of an encoder, after the products of the head."""

from __future__ import annotations

from typing import Protocol

from textclf.tflite.graph.builder import GraphBuilder


class GraphOutputs(Protocol):
    """How the outputs of a graph are made from the head's. `PROBABILITIES` are those of text classification."""

    @property
    def kind(self) -> str:
        """What a model with these outputs is, for the description of the graph: `text classifier`."""

    @property
    def every_token(self) -> bool:
        """Whether the head reads the state of every token, or only the pooled output."""

    def add(self, graph: GraphBuilder, logits: int) -> dict[int, str]:
        """Adds operations after `logits`, float32 [rows, columns of the head], and returns the outputs' names by tensor.

        There is a row for each token, or one row for the text.
        """
