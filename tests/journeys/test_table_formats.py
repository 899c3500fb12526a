"""One run whose files have five formats: trained, checked, measured and used through the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import run
from tests.table_writers import Rows, write_json_lines, write_parquet, write_table, write_workbook

TOPICS = {
    "transport": "bus tram train driver ticket station".split(),
    "food": "soup pizza menu bread coffee burger".split(),
}


def rows_of(start: int, count: int) -> Rows:
    return [
        {"id": number, "body": f"the {TOPICS[topic][number % 6]} was number {number} again", "topic": topic}
        for number in range(start, start + count)
        for topic in TOPICS
    ]


def write_folder(folder: Path, rows: Rows) -> None:
    for row in rows:
        (folder / row["topic"]).mkdir(parents=True, exist_ok=True)
        (folder / row["topic"] / f"{row['id']}.txt").write_text(row["body"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a recipe, its data and its run."""
    folder = tmp_path_factory.mktemp("formats")
    write_json_lines(folder / "part-1.jsonl", rows_of(0, 30))
    write_parquet(folder / "part-2.parquet", rows_of(30, 30))
    write_workbook(folder / "dev.xlsx", rows_of(60, 15), "Sheet", ["notes"])
    write_folder(folder / "test", rows_of(80, 15))
    (folder / "recipe.yaml").write_text(
        "name: topics\ndataset:\n  train: part-*\n  validation: dev.xlsx\n  test: test\n  text: body\n  label: topic\n"
        "encoder: average-words\ntraining:\n  epochs: 20\n"
    )
    assert run("train", folder / "recipe.yaml", "--run-dir", folder / "run") == 0
    return folder


def test_check_counts_the_rows_of_all_files(folder, capsys):
    assert run("check", folder / "recipe.yaml", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert {split: sum(counts.values()) for split, counts in report["rows"].items()} == {
        "train": 120,
        "validation": 30,
        "test": 30,
    }
    assert "sheet" in {finding["kind"] for finding in report["findings"]}


def test_the_run_records_every_file_and_repeats_from_its_own_recipe(folder, capsys):
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert sorted(metrics["files"]) == ["dev.xlsx", "part-1.jsonl", "part-2.parquet", "test"]
    assert run("check", folder / "run" / "recipe.yaml", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert sum(again["rows"]["train"].values()) == 120


@pytest.mark.parametrize("name", ["more.csv", "more.jsonl.gz", "more.json", "more.parquet", "more.xlsx"])
def test_the_model_is_measured_and_used_on_every_format(folder, tmp_path, capsys, name):
    data = write_table(tmp_path, name, rows_of(100, 20))
    assert run("evaluate", folder / "run", data, "--json") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1.0
    assert run("classify", folder / "run", data, "-o", tmp_path / "out.jsonl", "--where-label") == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["predicted_label"] for line in lines] == [line["topic"] for line in lines]
    assert [int(line["id"]) for line in lines] == [row["id"] for row in rows_of(100, 20)]


def test_measuring_on_a_training_file_of_several_is_warned_about(folder, capsys):
    assert run("evaluate", folder / "run", folder / "part-1.jsonl") == 0
    assert "the model was trained on this file" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", ["data.jsonl", "data.parquet", "data.xlsx", "data.json"])
def test_new_writes_a_recipe_for_every_format(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path, name, [{**row, "body": f"{row['body']}, {row['id'] * 7} times"} for row in rows_of(0, 40)])
    assert run("new", name) == 0
    recipe = next(tmp_path.glob("*.yaml")).read_text()
    assert f"train: {name}" in recipe
    assert "text: body" in recipe
    assert "label: topic" in recipe


def test_new_names_the_sheet_and_the_columns_in_the_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{**row, "body": f"{row['body']}, {row['id'] * 7} times"} for row in rows_of(0, 40)]
    write_workbook(tmp_path / "letters.xlsx", rows, "May", ["notes"])
    assert run("new", "letters.xlsx", "--sheet", "May") == 0
    assert "sheet: May" in (tmp_path / "letters.yaml").read_text()
    lines = "".join(f"{row['id']};{row['body']};{row['topic']}\n" for row in rows)
    (tmp_path / "mails.csv").write_text(lines)
    assert run("new", "mails.csv", "--columns", "id,body,topic") == 0
    assert "columns: [id, body, topic]" in (tmp_path / "mails.yaml").read_text()
