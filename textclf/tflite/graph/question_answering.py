"""The outputs of a question answerer's graph: for each token, how well an answer ends and starts with it."""

from __future__ import annotations

from textclf.tflite.graph.builder import GraphBuilder


class SpanLogits:
    """The `GraphOutputs` of question answering: `end_logits` and `start_logits`, float32 [1, length], in this order.

    Runtimes that do not look at names take the first for the end, as in Model Maker's files. The head's columns are the
    start and the end.
    """

    kind = "question answerer"
    every_token = True

    def add(self, graph: GraphBuilder, logits: int) -> dict[int, str]:
        start, end = graph.split("head/parts", logits, 2)
        return {
            graph.reshape("end_logits", end, [1, -1]): "end_logits",
            graph.reshape("start_logits", start, [1, -1]): "start_logits",
        }


SPAN_LOGITS = SpanLogits()
