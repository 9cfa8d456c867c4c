"""One distribution, one import package, and every folder of code is in it."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {
    "schemas": "skeet.schemas",
    "streams": "skeet.streams",
    "agents": "skeet.agents",
    "projections": "skeet.projections",
}


def packages_on_disk() -> set[str]:
    found = {
        ".".join(("skeet", *path.parent.relative_to(ROOT / "src/skeet").parts))
        for path in (ROOT / "src/skeet").rglob("*.py")
    }
    for folder, package in ROOMS.items():
        found |= {
            ".".join((package, *path.parent.relative_to(ROOT / folder).parts)) for path in (ROOT / folder).rglob("*.py")
        }
    return found


def test_the_package_list_names_every_folder_of_code() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["setuptools"]["packages"]) == packages_on_disk()


def test_files_that_are_not_code_are_shipped_too() -> None:
    package_data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    shipped = {ROOT / path for path in _matches(package_data)}
    strays = [path for path in _data_files() if path not in shipped]
    assert not strays, f"name them in pyproject.toml [tool.setuptools.package-data]: {strays}"


def _folder_of(package: str) -> Path:
    for folder, name in ROOMS.items():
        if package == name or package.startswith(name + "."):
            return ROOT / folder / Path(*package.split(".")[2:])
    return ROOT / "src" / Path(*package.split("."))


def _matches(package_data: dict[str, list[str]]) -> set[Path]:
    return {
        path for package, globs in package_data.items() for glob in globs for path in _folder_of(package).glob(glob)
    }


def _data_files() -> list[Path]:
    folders = [ROOT / "src/skeet", *(ROOT / folder for folder in ROOMS)]
    # Golden files are the tests' memory, not the product's.
    return [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and "golden" not in path.parts
    ]
