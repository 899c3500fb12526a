"""Run folders: complete or absent, never silently replaced, one writer at a time."""

from __future__ import annotations

import numpy as np
import pytest

from textclf.errors import RunError
from textclf.run_folder import RunLog, load_state, open_run_folder, save_state


def test_the_folder_appears_when_it_is_finished(tmp_path):
    target = tmp_path / "runs" / "one"
    with open_run_folder(target, force=False, resume=False) as folder:
        (folder.path / "model.tflite").write_bytes(b"model")
        assert not target.exists()
        folder.finish()
    assert (target / "model.tflite").read_bytes() == b"model"
    assert not folder.path.exists()


def test_an_existing_run_is_replaced_only_by_force_and_only_at_the_end(tmp_path):
    target = tmp_path / "one"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(RunError, match=r"exists already.*--force"), open_run_folder(target, force=False, resume=False):
        pass
    with open_run_folder(target, force=True, resume=False) as folder:
        assert (target / "old").exists()
        folder.finish()
    assert not (target / "old").exists()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["one"]


def test_an_unfinished_run_is_continued_or_started_again_but_never_dropped_silently(tmp_path):
    target = tmp_path / "one"
    with open_run_folder(target, force=False, resume=False) as folder:
        save_state(folder.last_state, {"a": np.ones(2)}, {})
    with pytest.raises(RunError, match=r"unfinished run.*--resume"), open_run_folder(target, force=False, resume=False):
        pass
    with open_run_folder(target, force=False, resume=True) as folder:
        assert folder.last_state.exists()
    with open_run_folder(target, force=True, resume=False) as folder:
        assert not folder.last_state.exists()


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(RunError, match="nothing to resume"), open_run_folder(tmp_path / "a", force=False, resume=True):
        pass
    (tmp_path / "b").mkdir()
    with (
        pytest.raises(RunError, match="the run is complete"),
        open_run_folder(tmp_path / "b", force=False, resume=True),
    ):
        pass


def test_two_processes_cannot_write_one_run(tmp_path):
    with (
        open_run_folder(tmp_path / "one", force=False, resume=False),
        pytest.raises(RunError, match="another process"),
        open_run_folder(tmp_path / "one", force=True, resume=False),
    ):
        pass


def test_a_saved_state_comes_back_whole(tmp_path):
    arrays = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3)}
    save_state(tmp_path / "state.safetensors", arrays, {"step": 7})
    restored, facts = load_state(tmp_path / "state.safetensors")
    np.testing.assert_array_equal(restored["weights"], arrays["weights"])
    assert facts == {"step": 7}
    (tmp_path / "state.safetensors").write_bytes(b"torn")
    with pytest.raises(RunError, match="cannot be read"):
        load_state(tmp_path / "state.safetensors")


def test_a_resumed_log_forgets_what_will_be_done_again(tmp_path):
    path = tmp_path / "log.jsonl"
    log = RunLog(path, keep_steps=0)
    for step in (1, 2, 3):
        log.write("step", step, loss=1.0)
    log.close()
    with path.open("a") as file:
        file.write('{"event": "step", "st')
    RunLog(path, keep_steps=2).close()
    assert path.read_text().count("\n") == 2
    assert '"step": 2' in path.read_text()
    assert '"step": 3' not in path.read_text()
