"""What is installed is what is on the disk, and setup.cfg is where that is said."""

import ast
import configparser
import fnmatch
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import kerastoolkit
from kerastoolkit import catalog

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def folder_of(package: str) -> Path:
    """Where a package's files are, by the mapping of setup.cfg."""
    return ROOT / "recipes" if package == "kerastoolkit.recipes" else ROOT / package.replace(".", "/")


def test_every_folder_with_python_files_is_a_listed_package_and_every_listed_package_is_there(setup):
    listed = set(lines(setup["options"]["packages"]))
    folders = {path.parent for path in (ROOT / "kerastoolkit").rglob("*.py")} | {ROOT / "recipes"}
    assert folders - {folder_of(package) for package in listed} == set(), "not listed in setup.cfg"
    assert {package for package in listed if not folder_of(package).is_dir()} == set(), (
        "listed, but not there"
    )


def test_recipes_are_installed_inside_the_package(setup):
    assert lines(setup["options"]["package_dir"]) == ["kerastoolkit.recipes = recipes"]


def test_every_other_file_of_the_package_is_installed_too(setup):
    patterns = [each.strip() for each in setup["options.package_data"]["*"].split(",")]
    others = [
        path
        for folder in (ROOT / "kerastoolkit", ROOT / "recipes")
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    missed = [path for path in others if not any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)]
    assert missed == []
    in_no_package = [path for path in others if not any(path.parent.glob("*.py"))]
    assert in_no_package == [], "setuptools takes data files from packages' own folders"


def test_the_version_has_one_home(setup):
    assert setup["metadata"]["version"] == "attr: kerastoolkit.__version__"
    assert kerastoolkit.__version__.count(".") == 2


def test_the_command_is_the_command_lines_main(setup):
    assert lines(setup["options.entry_points"]["console_scripts"]) == ["kerastoolkit = kerastoolkit.cli:main"]
    from kerastoolkit.cli import main

    assert callable(main)


def test_pyproject_says_how_to_build_and_nothing_else():
    assert list(tomllib.loads((ROOT / "pyproject.toml").read_text())) == ["build-system"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_has_a_target_for_every_recipe_that_hands_on_its_settings():
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    variables |= {"DATA": "never from the environment"}

    def commands(*arguments):
        command = ["make", "--no-print-directory", "-n", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True
        ).stdout

    names = [recipe.name for recipe in catalog.recipes()]
    every = commands(*names)
    assert [name for name in names if f"kerastoolkit train {name} " not in every] == []
    asked = commands("digits-cnn", "SET=epochs=30 dense=8,4", "OUT=a folder", "SEED=3")
    assert "--set 'epochs=30' --set 'dense=8,4'" in asked
    assert "--out 'a folder' --seed '3'" in asked
    assert "--data" not in asked
    assert "kerastoolkit evaluate" in asked


def test_the_continuous_integration_lints_and_runs_the_tests_as_the_readme_says():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-2:] == ["make lint", "make test"]
    assert "make test" in (ROOT / "README.md").read_text()


def test_every_top_level_package_that_the_project_imports_is_required(setup):
    names = {"PIL": "pillow", "sklearn": "scikit-learn", "keras_hub": "keras-hub"}
    names |= {"tensorflow_datasets": "tensorflow-datasets", "yaml": "pyyaml"}
    names |= {"ai_edge_litert": "ai-edge-litert"}
    # Two commands need more than the others, and say so where it is missing.
    extras = setup["options.extras_require"]
    given = [setup["options"]["install_requires"], *(extras[name] for name in ("tune", "onnx", "litert"))]
    required = [line.split(">")[0].split("=")[0] for text in given for line in lines(text)]
    imported = set()
    for path in [*(ROOT / "kerastoolkit").rglob("*.py"), *(ROOT / "recipes").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    third_party = imported - set(sys.stdlib_module_names) - {"kerastoolkit"}
    with_another = {
        "h5py",
        "tensorflow_text",
    }  # keras writes its weights with one, keras-hub tokenises with the other
    assert {names.get(name, name) for name in third_party} - {*required, *with_another} == set()
