"""The wheel: what is in it, what it tells a package index, and that it runs without the checkout."""

from __future__ import annotations

import ast
import email.message
import email.policy
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.parser import BytesParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import textclf
from tests.conftest import REPOSITORY
from textclf.extras import DISTRIBUTION, EXTRAS

FIXTURES = REPOSITORY / "tests" / "fixtures" / "first_version"
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is written into the checkout."""
    source, place = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(REPOSITORY / name, source / name)
    shutil.copytree(REPOSITORY / "textclf", source / "textclf", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", BUILD, str(place)], cwd=source, check=True, capture_output=True)
    [built] = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def about(wheel: Path) -> email.message.EmailMessage:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return BytesParser(policy=email.policy.compat32).parsebytes(archive.read(name))  # type: ignore[arg-type]


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = (path for path in (REPOSITORY / "textclf").rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert packed == {path.relative_to(REPOSITORY).as_posix() for path in files}


def test_the_wheel_names_the_version_that_the_package_names(about):
    assert about["Name"] == DISTRIBUTION
    assert about["Version"] == textclf.__version__
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(textclf.__version__)}\]", changelog, re.MULTILINE)


def test_the_page_on_a_package_index_has_absolute_links_to_files_that_exist(about):
    page = about.get_payload()
    addresses = dict(value.split(", ", 1) for value in about.get_all("Project-URL"))
    home = addresses["Homepage"]
    links = re.findall(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", page, re.MULTILINE)
    links = [inline or defined for inline, defined in links]
    assert [link for link in links if not link.startswith("https://")] == []
    ours = [link for link in [*links, *addresses.values()] if link.startswith(f"{home}/")]
    assert len(ours) >= 8
    for link in ours:
        kind, _, path = link.removeprefix(f"{home}/").partition("/main/")
        assert kind in ("blob", "raw", "tree") or link == f"{home}/issues"
        assert (REPOSITORY / path.partition("#")[0]).exists(), link


def test_every_package_that_the_code_imports_is_declared(about):
    declared = {_normalised(re.match(r"[\w.-]+", line)[0]) for line in about.get_all("Requires-Dist")}
    distributions = packages_distributions()
    undeclared = {
        f"{path.name} imports {module}"
        for path, module in _imports()
        if module not in sys.stdlib_module_names | {"textclf", "compression"}  # the latter from Python 3.14 on
        and path.name != "worker.py"  # it runs in Model Maker's own environment
        and not declared & {_normalised(name) for name in distributions.get(module, [module])}
    }
    # pydantic installs exactly the pydantic-core that it was made with.
    assert undeclared == {"reading.py imports pydantic_core"}
    assert EXTRAS.keys() <= set(about.get_all("Provides-Extra"))


def _imports() -> Iterator[tuple[Path, str]]:
    """Each file of the package with the top-level names that it imports, those for type checkers left out."""
    for path in (REPOSITORY / "textclf").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from ((path, name.name.split(".")[0]) for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield path, node.module.split(".")[0]


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_wheel_classifies_and_checks_without_the_checkout_and_without_tensorflow(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    empty = tmp_path / "empty"
    empty.mkdir()
    recipe = f"name: reviews\ndataset: {{train: {(FIXTURES / 'train.csv').as_posix()}, text: review, label: mood}}\n"
    (empty / "recipe.yaml").write_text(f"{recipe}encoder: builtin\n", encoding="utf-8")
    model = FIXTURES / "runs" / "reviews" / "model.tflite"
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path / "installed")!r})
sys.modules.update(dict.fromkeys(["tensorflow", "pandas"]))
import textclf
from textclf.cli import main
print(textclf.__file__)
for arguments in (["check", "recipe.yaml"], ["classify", {str(model)!r}, "--text-input", "a good film"], ["--version"]):
    try:
        main(arguments)
    except SystemExit as end:
        assert not end.code, arguments
"""
    # -I: neither the checkout nor PYTHONPATH is on the path.
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=empty, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert Path(lines[0]).is_relative_to(tmp_path)
    assert "Labels: 2" in lines
    assert lines[-2].startswith("good\t")
    assert lines[-1] == f"textclf {textclf.__version__}"
