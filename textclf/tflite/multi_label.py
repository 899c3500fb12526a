"""What a `.tflite` with several labels per text has besides the labels: a threshold for each, which only textclf reads.

The metadata format has one threshold for all labels (`ScoreThresholdingOptions.global_score_threshold`) and a calibration
file that replaces low scores by a constant. Neither says "this label from this probability on" without changing the scores,
so the thresholds are in `textclf.json`. An app reads them there, or uses the scores as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from textclf.tflite import classification
from textclf.tflite.model_file import TfliteModel

if TYPE_CHECKING:
    from textclf.tflite.metadata import ModelMetadata


def output_problems(metadata: ModelMetadata, graph: TfliteModel) -> Iterator[str]:
    """Yields what keeps runtimes from reading the probabilities and their labels, and textclf from reading the thresholds,
    one line per problem."""
    yield from classification.output_problems(metadata, graph)
    if (problem := threshold_problem(metadata)) is not None:
        yield problem
    made_by = {index: operator.name for operator in graph.operators for index in operator.outputs}
    kinds = {made_by.get(index, "nothing") for index in graph.output_indices}
    if kinds != {"LOGISTIC"}:
        yield (
            f"the output is made by {' and '.join(sorted(kinds))}; a model of several labels per text needs LOGISTIC, a "
            "probability for each label that does not depend on the others"
        )


def threshold_problem(metadata: ModelMetadata) -> str | None:
    """Returns why the thresholds cannot be used; None if there is one for each label."""
    thresholds = (metadata.settings or {}).get("thresholds")
    if thresholds is None:
        return "textclf.json has no thresholds; expected one for each label"
    if len(thresholds) != len(metadata.labels):
        return f"textclf.json has {len(thresholds)} thresholds for {len(metadata.labels)} labels; expected one for each label"
    return None
