"""The output of a text classifier's graph: the probabilities of its labels, float32 [1, labels]."""

from __future__ import annotations

from textclf.tflite.graph.builder import GraphBuilder


class Probabilities:
    """The `GraphOutputs` of text classification: the softmax of the logits."""

    kind = "text classifier"
    every_token = False

    def add(self, graph: GraphBuilder, logits: int) -> dict[int, str]:
        probability = graph.op("probability", "SOFTMAX", [logits], graph.shape(logits), options={"beta": 1.0})
        return {probability: "probability"}


PROBABILITIES = Probabilities()
