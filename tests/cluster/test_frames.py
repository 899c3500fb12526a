"""`textclf.dask.classify`: a lazy step that gives what `classify_frame` gives, on each of Dask's schedulers."""

from __future__ import annotations

import pandas as pd
import pytest

from textclf.classify.classifier import Classifier
from textclf.cluster import frames
from textclf.dask import classify
from textclf.errors import ArgumentError, DataError

dd = pytest.importorskip("dask.dataframe")


@pytest.fixture
def ddf():
    texts = [None if number % 7 == 0 else f"the film was {'good' * (number % 3)} {number}" for number in range(40)]
    columns = {"text": texts, "count": range(40), "kind": pd.Categorical(["a", "b"] * 20)}
    return dd.from_pandas(pd.DataFrame(columns, index=pd.Index(range(100, 140), name="key")), npartitions=4)


@pytest.mark.parametrize("kind", ["sync", "threads", "distributed"])
def test_each_scheduler_gives_the_frame_of_one_machine(model, ddf, kind, request):
    labelled = classify(ddf, model, scores=True, column_prefix="p_")
    expected = Classifier(model).classify_frame(ddf.compute(), scores=True, column_prefix="p_")
    expected = expected.astype({"p_predicted_label": labelled.dtypes["p_predicted_label"]})
    if kind == "distributed":
        from distributed import Client

        with Client(request.getfixturevalue("scheduler"), set_as_default=False) as client:
            computed = client.compute(labelled).result()
    else:
        computed = labelled.compute(scheduler=kind)
    pd.testing.assert_frame_equal(computed, expected)
    assert (labelled.dtypes == computed.dtypes).all()
    assert labelled.divisions == ddf.divisions


def test_a_partition_without_any_label_has_the_types_of_the_others(model):
    frame = dd.from_pandas(pd.DataFrame({"text": ["good", "bad", None, " "]}), npartitions=2)
    labelled = classify(frame, model)
    types = {
        str(part.dtypes.to_dict()) for part in (labelled.partitions[0].compute(), labelled.partitions[1].compute())
    }
    assert types == {str(labelled.dtypes.to_dict())}


def test_a_process_opens_the_model_once(model, ddf, monkeypatch):
    opened: list[int] = []
    of_content = Classifier.of_content
    monkeypatch.setattr(Classifier, "of_content", lambda *words: opened.append(1) or of_content(*words))
    frames._OPEN.clear()
    labelled = classify(ddf, model)
    assert opened == []  # nothing is computed yet
    labelled.compute(scheduler="threads")
    assert opened == [1]


def test_what_cannot_be_classified_is_refused_before_anything_is_computed(model, ddf):
    with pytest.raises(ArgumentError, match="ddf is a DataFrame, expected a Dask DataFrame"):
        classify(ddf.compute(), model)
    with pytest.raises(DataError, match="message"):
        classify(ddf, model, "message")
    with pytest.raises(DataError, match="predicted_label"):
        classify(classify(ddf, model), model)
