"""Places of remote tables on this machine: a web server with the faults of the network, and a server of S3's protocol."""

from __future__ import annotations

import logging
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.loopback import Answer, Request, Server, file_answer


@dataclass
class Web:
    """Serves `files` by path. What is in `faults` is answered in place of the file, in turn, the last for ever."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Answer]] = field(default_factory=dict)
    ranges: bool = True

    def __call__(self, request: Request) -> Answer:
        faults = self.faults.get(request.path)
        if faults and request.method == "GET":
            return faults.pop(0) if len(faults) > 1 else faults[0]
        if request.path not in self.files:
            return Answer(404, b"nothing here")
        content = self.files[request.path]
        if self.ranges and (found := re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))):
            first, last = int(found[1]), min(int(found[2]), len(content) - 1)
            about = {"Content-Range": f"bytes {first}-{last}/{len(content)}", "ETag": '"1"'}
            return Answer(206, content[first : last + 1], about)
        return file_answer(request, content)


@contextmanager
def web_server(web: Web) -> Iterator[Server]:
    with Server(web).running() as server:
        yield server


@dataclass
class Store:
    """A bucket of an S3 server on this machine."""

    client: Any
    bucket: str = "bucket"

    def put(self, key: str, content: bytes) -> str:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)
        return f"s3://{self.bucket}/{key}"

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content

    def keys(self) -> list[str]:
        return [one["Key"] for one in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])]


@contextmanager
def s3_store() -> Iterator[Store]:
    """An empty server of S3's protocol; the environment has its address and credentials."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    from botocore.session import Session

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # All servers of a process share what they hold, so what other tests stored is dropped.
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "access")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        store = Store(Session().create_client("s3"))
        store.client.create_bucket(Bucket=store.bucket)
        try:
            yield store
        finally:
            server.stop()
