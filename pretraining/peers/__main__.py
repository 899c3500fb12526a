"""Takes a job as JSON on standard input and prints what was measured as JSON; see `calling.py`."""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module

from pretraining.peers.job import Job
from pretraining.results import processor

# The modules import the packages that only their peer needs.
PEERS = {
    "tf-idf": "pretraining.peers.tf_idf",
    "all-minilm-l6-v2": "pretraining.peers.fine_tuned",
    "all-minilm-l6-v2 head": "pretraining.peers.embedded",
    "setfit": "pretraining.peers.set_fit",
}


def main() -> None:
    job = Job.read(json.load(sys.stdin))
    peer = import_module(PEERS[job.peer])
    from sklearn.metrics import accuracy_score, f1_score

    started = time.monotonic()
    answer = peer.run(job)
    measured = {
        "accuracy": float(accuracy_score(job.test.labels, answer.predicted)),
        "macro_f1": float(f1_score(job.test.labels, answer.predicted, average="macro", zero_division=0)),
        "seconds": round(time.monotonic() - started, 1),
        "chosen": answer.chosen,
        "sha256": answer.sha256,
        "processor": answer.device or processor(),
        "bfloat16": answer.bfloat16,
    }
    print("\n" + json.dumps(measured))


if __name__ == "__main__":
    main()
