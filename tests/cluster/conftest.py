"""A Dask cluster of two processes on this machine, and a small model, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.classify.test_classifier import write_tiny_model

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("cluster") / "model.tflite")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as started:
        yield started


@pytest.fixture(scope="session")
def scheduler(cluster: Any) -> str:
    return str(cluster.scheduler_address)
