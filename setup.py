"""Copies the example recipes, their data and the JSON Schema of a recipe into the wheel; pyproject.toml has the rest.

They are top-level folders of the repository. `textclf/files/package_data.py` finds them in both places.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

EXAMPLES = ("recipes/*.yaml", "datasets/*.csv", "datasets/*.json", "datasets/README.md", "docs/recipe.schema.json")


class BuildWithExamples(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable installation reads them where they are
            for source, target in self._examples().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *self._examples().values()]

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *self._examples()]

    def _examples(self) -> dict[str, str]:
        """The target of each file. The schema is beside the folders `recipes` and `datasets`."""
        here = Path(__file__).parent
        sources = [path.relative_to(here).as_posix() for pattern in EXAMPLES for path in sorted(here.glob(pattern))]
        folder = Path(self.build_lib, "textclf", "examples")
        return {source: str(folder / source.removeprefix("docs/")) for source in sources}


setup(cmdclass={"build_py": BuildWithExamples})
