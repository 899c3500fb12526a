"""Run folders: complete or absent, never silently replaced, one writer at a time."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from textclf.errors import RunError
from textclf.training.saved.run_folder import RunFolder, RunLog, load_state, open_run_folder, read_metrics, save_state


def test_the_folder_appears_when_it_is_finished(tmp_path):
    target = tmp_path / "runs" / "one"
    with open_run_folder(target, force=False, resume=False) as folder:
        (folder.path / "model.tflite").write_bytes(b"model")
        assert not target.exists()
        folder.finish()
    assert (target / "model.tflite").read_bytes() == b"model"
    assert not folder.path.exists()


def write_run(folder: Path, **changes: object) -> Path:
    """What a finished run leaves, with empty files; its metrics are of the first textclf unless `changes` say otherwise."""
    (folder / "checkpoints" / "best").mkdir(parents=True)
    for name in ("model.tflite", "model-int4.tflite", "labels.txt", "recipe.yaml", "log.jsonl", "log-seed-3.jsonl"):
        (folder / name).touch()
    for name in ("config.json", "encoder.safetensors", "head.safetensors", "vocab.txt"):
        (folder / "checkpoints" / "best" / name).touch()
    metrics = dict.fromkeys(("name", "versions", "labels", "history", "export", "recipe"))
    (folder / "metrics.json").write_text(json.dumps({**metrics, **changes}))
    (folder / "MODEL_CARD.md").write_text("old")
    return folder


def train_into(target: Path, **how: bool) -> RunFolder:
    """A run that ends at once."""
    with open_run_folder(target, **{"force": False, "resume": False, **how}) as folder:
        if folder.finished is None:
            write_run(folder.path / "new")
            for path in (folder.path / "new").iterdir():
                if path.name != "checkpoints":
                    path.rename(folder.path / path.name)
            (folder.path / "new" / "checkpoints" / "best").rename(folder.path / "checkpoints" / "best")
            (folder.path / "new" / "checkpoints").rmdir()
            (folder.path / "new").rmdir()
            (folder.path / "MODEL_CARD.md").write_text("new")
            folder.finish()
    return folder


def content(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def refusal(target: Path, **how: Any) -> str:
    """What is said against a run that is refused, after which everything is as it was before."""
    around = target.parent if target.parent.is_dir() else target.parent.parent
    before = content(around)
    with (
        pytest.raises(RunError) as caught,
        open_run_folder(target, **{"force": False, "resume": False, **how}) as folder,
    ):
        folder.finish()
    assert content(around) == before
    return str(caught.value)


def test_an_existing_run_is_replaced_only_by_force_and_only_at_the_end(tmp_path):
    target = write_run(tmp_path / "one")
    assert re.search("exists already.*--force", refusal(target))
    with open_run_folder(target, force=True, resume=False) as folder:
        assert (target / "MODEL_CARD.md").read_text() == "old"
        folder.finish()
    assert not (target / "MODEL_CARD.md").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one"]


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ("notes.txt", "notes.txt"),
        ("thesis/chapter.txt", "thesis/"),
        (".git/HEAD", ".git/"),
        ("checkpoints/mine/weights", "checkpoints/mine/"),
        ("checkpoints/best/notes.txt", "checkpoints/best/notes.txt"),
        ("other-run/metrics.json", "other-run/"),
        ("labelled.csv", "labelled.csv"),
    ],
)
def test_a_run_that_holds_something_else_is_not_replaced_even_by_force(tmp_path, entry, shown):
    target = write_run(tmp_path / "one")
    (target / entry).parent.mkdir(parents=True, exist_ok=True)
    (target / entry).write_text("years of work")
    message = refusal(target, force=True)
    assert "holds what textclf did not write" in message
    assert shown in message
    assert "run_dir (--run-dir)" in message


def test_links_in_a_run_count_as_somebody_elses(tmp_path):
    target = write_run(tmp_path / "one")
    (tmp_path / "big disk").mkdir()
    (target / "report.html").symlink_to(tmp_path / "big disk")
    assert "report.html" in refusal(target, force=True)


@pytest.mark.parametrize(
    "files",
    [
        {"chapter1.txt": "years"},
        {"metrics.json": '{"accuracy": 0.9}', "model.tflite": ""},
        {"metrics.json": "not JSON", "recipe.yaml": ""},
        {"metrics.json": "[" * 100_000, "recipe.yaml": ""},
        {"comparison.json": '{"format": "textclf-comparison"}'},
    ],
)
def test_a_folder_that_is_no_run_is_not_replaced_even_by_force(tmp_path, files):
    target = tmp_path / "mine"
    target.mkdir()
    for name, text in files.items():
        (target / name).write_text(text)
    for force in (False, True):
        message = refusal(target, force=force)
        assert "is not the folder of a run of textclf" in message
        assert next(iter(files)) in message


def test_an_empty_folder_and_what_file_managers_leave_are_no_reason_to_refuse(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "exists already" in refusal(tmp_path / "empty")
    train_into(tmp_path / "empty", force=True)
    (tmp_path / "empty" / ".DS_Store").touch()
    (tmp_path / "empty" / "checkpoints" / ".DS_Store").touch()
    train_into(tmp_path / "empty", force=True)


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and POSIX modes")
def test_a_link_to_a_run_stays_a_link_and_its_target_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    write_run(tmp_path / "disk" / "real")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "real")
    train_into(tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "real" / "MODEL_CARD.md").read_text() == "new"
    assert sorted(path.name for path in (*tmp_path.iterdir(), *(tmp_path / "disk").iterdir())) == [
        "disk",
        "link",
        "real",
    ]


@pytest.mark.parametrize("force", [False, True])
def test_places_where_no_run_can_stand_are_refused_before_anything_is_made(tmp_path, monkeypatch, force):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for place, words in {
        tmp_path / "file": "is a file, but a run is a folder",
        tmp_path / "file" / "run": f"{tmp_path / 'file'} is a file, so no folder can be made in it",
        tmp_path / "dangling": "is a link to nowhere, which does not exist",
        tmp_path / "loop": "is a link to loop",
        tmp_path / ("n" * 250): "cannot be made",
        tmp_path / "a\0b": "cannot be made",
        Path("."): "is the current folder",
        Path(""): "is the current folder",
        Path(".."): "holds the current folder",
        Path("/"): "holds the current folder",
        tmp_path: "holds the current folder",
    }.items():
        with pytest.raises(RunError, match=re.escape(words)), open_run_folder(place, force=force, resume=False):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file", "here", "loop"]
    deep = tmp_path.joinpath(*["d" * 200] * 30)
    with pytest.raises(RunError, match="cannot be made"), open_run_folder(deep, force=force, resume=False):
        pass


def test_a_path_that_only_becomes_too_long_inside_the_run_is_refused_at_the_start(tmp_path):
    room = 4096 - len(str(tmp_path)) - 60
    deep = tmp_path.joinpath(*["d" * 200] * (room // 201), "e" * (room % 201))
    with pytest.raises(RunError, match="cannot be made"), open_run_folder(deep, force=False, resume=False):
        pass


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_parent_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(RunError, match="permission denied"), open_run_folder(tmp_path / "a", force=False, resume=False):
        pass


def test_a_mount_point_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path / "disk")
    (tmp_path / "disk").mkdir()
    assert "a disk is mounted there" in refusal(tmp_path / "disk", force=True)


def test_what_a_run_reads_must_not_lie_in_the_folder_that_it_replaces(tmp_path):
    target = write_run(tmp_path / "one")
    message = refusal(target, force=True, inputs=[target / "checkpoints" / "best"])
    assert "is read by this run and lies in the folder that the run would replace" in message
    assert refusal(target, force=True, inputs=[target])
    train_into(target, force=True, inputs=[tmp_path / "train.csv", tmp_path])


def test_a_failure_before_anything_was_saved_leaves_nothing(tmp_path):
    def fail() -> None:
        with open_run_folder(tmp_path / "runs" / "deep" / "one", force=False, resume=False) as folder:
            folder.log.touch()
            raise RunError("no data")

    with pytest.raises(RunError, match="no data"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_errors_about_other_files_are_not_blamed_on_the_run(tmp_path):
    elsewhere = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "data.csv"))
    with pytest.raises(PermissionError), open_run_folder(tmp_path / "one", force=False, resume=False):
        raise elsewhere
    with (
        pytest.raises(RunError, match=r"log\.jsonl: the disk is full.*run the command again"),
        open_run_folder(tmp_path / "one", force=False, resume=False) as folder,
    ):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder.log))


# --- Interrupted while it replaces ---------------------------------------------------------------------------------


def interrupted(target: Path, **how: bool) -> None:
    """A run that was stopped with a saved state."""
    with open_run_folder(target, **{"force": False, "resume": False, **how}) as folder:
        save_state(folder.last_state, {"a": np.ones(2)}, {})


def test_a_run_that_may_replace_another_is_resumed_and_replaces_it_at_the_end(tmp_path):
    target = write_run(tmp_path / "one")
    interrupted(target, force=True)
    assert re.search("exists already, and an unfinished run.*--resume", refusal(target))
    assert (target / "MODEL_CARD.md").read_text() == "old"
    with open_run_folder(target, force=False, resume=True) as folder:
        assert folder.last_state.is_file()
    train_into(target, resume=True)
    assert (target / "MODEL_CARD.md").read_text() == "new"


def test_a_run_that_may_not_replace_another_does_not_when_it_is_resumed(tmp_path):
    interrupted(tmp_path / "one")
    write_run(tmp_path / "one")
    assert re.search("was not started with force=True.*move .*one away", refusal(tmp_path / "one", resume=True))


def test_what_appears_at_the_place_during_the_training_is_kept_and_so_is_the_training(tmp_path):
    target = tmp_path / "one"

    def finish_late() -> None:
        with open_run_folder(target, force=False, resume=False) as folder:
            (folder.path / "MODEL_CARD.md").write_text("new")
            write_run(target)
            folder.finish()

    with pytest.raises(RunError, match=r"waits in .*\.one\.unfinished: move .* away, then continue with resume=True"):
        finish_late()
    assert (target / "MODEL_CARD.md").read_text() == "old"
    target.rename(tmp_path / "away")
    write_metrics = {"format": "textclf-metrics", "version": 1, "name": "x"}
    (tmp_path / ".one.unfinished" / "metrics.json").write_text(json.dumps(write_metrics))
    with open_run_folder(target, force=False, resume=True) as folder:
        assert folder.finished == write_metrics
    assert (target / "MODEL_CARD.md").read_text() == "new"


def test_notes_put_into_the_old_run_during_the_training_are_kept_and_so_is_the_training(tmp_path):
    target = write_run(tmp_path / "one")

    def finish_late() -> None:
        with open_run_folder(target, force=True, resume=False) as folder:
            (target / "notes.txt").write_text("mine")
            folder.finish()

    with pytest.raises(RunError, match=r"notes\.txt.*Nothing is lost.*waits in"):
        finish_late()
    (target / "notes.txt").rename(tmp_path / "notes.txt")
    write_run(tmp_path / "x").joinpath("metrics.json").rename(tmp_path / ".one.unfinished" / "metrics.json")
    with open_run_folder(target, force=False, resume=True) as folder:
        assert folder.finished is not None
    assert not (target / "MODEL_CARD.md").exists()


RENAMES = ["before the first", "between the two", "after the second"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process to kill")
@pytest.mark.parametrize("kill", RENAMES)
@pytest.mark.parametrize("how", [{}, {"resume": True}, {"force": True}])
def test_a_kill_around_the_two_renames_loses_nothing_and_is_repaired(tmp_path, monkeypatch, kill, how):
    target = write_run(tmp_path / "one")
    rename, removed = Path.rename, []

    def killed(path: Path, to: Path) -> Path:
        if kill == "before the first":
            os._exit(9)
        result = rename(path, to)
        if (kill == "between the two") == (Path(to).name == ".one.replaced"):
            os._exit(9)
        return result

    def replace_it() -> None:
        with open_run_folder(target, force=True, resume=False) as folder:
            write_run(folder.path / "x").joinpath("metrics.json").replace(folder.path / "metrics.json")
            shutil.rmtree(folder.path / "x")
            (folder.path / "MODEL_CARD.md").write_text("new")
            folder.finish()

    # In a process of its own, which ends without cleaning up, as after a signal.
    child = os.fork()
    if child == 0:
        try:
            monkeypatch.setattr(Path, "rename", killed)
            replace_it()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    said: list[str] = []
    try:
        with open_run_folder(target, **{"force": False, "resume": False, **how}, say=said.append) as folder:
            removed.append(folder.finished)
    except RunError as error:
        said.append(str(error))
    if kill == "between the two":
        assert "was complete but not yet in its place; it was moved there" in said[0]
    if kill != "before the first" or how == {"resume": True}:
        assert (target / "MODEL_CARD.md").read_text() == "new"
    else:
        assert (target / "MODEL_CARD.md").read_text() == "old", "with force, the training starts again"
    assert not (tmp_path / ".one.replaced").exists()
    if how == {"resume": True} and kill != "after the second":
        assert removed[0]["name"] is None
    if how == {} and kill == "before the first":
        assert "unfinished run of this name was found; continue it with resume=True" in said[0]


def test_a_run_that_was_moved_away_for_one_that_never_came_is_moved_back(tmp_path):
    write_run(tmp_path / "one").rename(tmp_path / ".one.replaced")
    said: list[str] = []
    with (
        pytest.raises(RunError, match="exists already"),
        open_run_folder(tmp_path / "one", force=False, resume=False, say=said.append),
    ):
        pass
    assert (tmp_path / "one" / "MODEL_CARD.md").read_text() == "old"
    assert "moved back to its place" in said[0]


def test_an_unfinished_folder_of_the_first_textclf_is_complete_when_its_last_file_is_there(tmp_path):
    write_run(tmp_path / ".one.unfinished")
    write_run(tmp_path / ".one.replaced")
    (tmp_path / ".one.lock").touch()
    with open_run_folder(tmp_path / "one", force=False, resume=True) as folder:
        assert folder.finished is not None
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_an_unfinished_folder_of_a_newer_textclf_or_with_other_things_in_it_is_left_alone(tmp_path):
    interrupted(tmp_path / "one")
    (tmp_path / ".one.unfinished" / "notes.txt").touch()
    assert "notes.txt" in refusal(tmp_path / "one", force=True)
    (tmp_path / ".one.unfinished" / "unfinished.json").write_text('{"format": "textclf-unfinished", "version": 9}')
    for how in ({}, {"resume": True}):
        assert "version 9, expected 1" in refusal(tmp_path / "one", **how)


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
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "absent", tmp_path / "empty"):
        assert "so there is nothing to resume" in refusal(target, resume=True)
    assert "the run is complete, there is nothing to resume" in refusal(write_run(tmp_path / "b"), resume=True)


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


def test_states_of_the_first_textclf_are_read_and_those_of_a_newer_one_refused(tmp_path):
    file = tmp_path / "head.safetensors"
    save_file({"a": np.ones(2)}, file, metadata={"facts": '{"step": 1}'})
    assert load_state(file)[1] == {"step": 1}
    for copy in ("a", "b"):
        save_state(tmp_path / copy, {"a": np.ones(2)}, {"step": 1, "epoch": 2})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    for metadata in ({"facts": '{"state_version": 2}'}, {"facts": "[1]"}, {"facts": "null"}, {}):
        save_file({"a": np.ones(2)}, file, metadata=metadata)
        with pytest.raises(RunError, match=r"head\.safetensors"):
            load_state(file)


@pytest.mark.skipif(not hasattr(os, "fchmod"), reason="needs POSIX modes")
def test_a_state_has_the_mode_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        save_state(tmp_path / "state.safetensors", {"a": np.ones(2)}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state.safetensors").stat().st_mode) == 0o640


def test_a_file_that_may_not_be_read_is_said_to_be_so(tmp_path, monkeypatch):
    save_state(tmp_path / "state.safetensors", {"a": np.ones(2)}, {})
    write_run(tmp_path / "run")

    def denied(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(RunError, match=r"state\.safetensors: cannot be read \(permission denied\)"):
        load_state(tmp_path / "state.safetensors")
    with pytest.raises(RunError, match=r"metrics\.json: cannot be read \(permission denied\)"):
        read_metrics(tmp_path / "run")


def test_metrics_without_a_version_are_read_and_newer_or_foreign_ones_refused(tmp_path):
    assert read_metrics(write_run(tmp_path / "old"))["name"] is None
    with pytest.raises(RunError, match="has version 2, but this textclf reads version 1"):
        read_metrics(write_run(tmp_path / "new", format="textclf-metrics", version=2))
    (tmp_path / "old" / "metrics.json").write_text('{"accuracy": 1}')
    with pytest.raises(RunError, match="are not those of a run of textclf"):
        read_metrics(tmp_path / "old")


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
