"""The output of the graph of a model with several labels per text: a probability for each label, float32 [1, labels]."""

from __future__ import annotations

from textclf.tflite.graph.builder import GraphBuilder


class IndependentProbabilities:
    """The `GraphOutputs` of several labels per text: the sigmoid of each logit, so that the sum need not be 1."""

    kind = "text classifier of several labels"
    every_token = False

    def add(self, graph: GraphBuilder, logits: int) -> dict[int, str]:
        probability = graph.op("probability", "LOGISTIC", [logits], graph.shape(logits))
        return {probability: "probability"}


INDEPENDENT_PROBABILITIES = IndependentProbabilities()
