"""Recipes, builders and data sets are found by reading source, and settings are checked by signature."""

import hashlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

from kerastoolkit import catalog
from kerastoolkit.catalog import CatalogError, find_recipe, load, parse_overrides, recipes

RECIPE = '''"""Networks on pebbles (A. Author 1999)."""

def pebbles_cnn(*, epochs: int = 3, learning_rate: float = 1e-3, data: str = "pebbles", noisy: bool = False,
                filters: tuple[int, ...] = (8, 16), size: tuple[int, int] = (4, 4),
                rates: "tuple[float, ...]" = (), limit: int | None = None, width=2) -> Experiment:
    """A small network; 3 % error.

    More of it.
    """
    return "built"

def helper(epochs: int = 3) -> dict:
    """Not a recipe."""

def _private() -> Experiment:
    """Not a recipe either."""
'''


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty checkout in place of the project: a package and a recipes folder beside it."""
    for folder in ("recipes", "kerastoolkit/models", "kerastoolkit/data"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(catalog, "PACKAGE_FOLDER", tmp_path / "kerastoolkit")
    return tmp_path


@pytest.fixture
def pebbles(project):
    (project / "recipes" / "pebbles.py").write_text(RECIPE)
    return find_recipe("pebbles-cnn")


def write(path: Path, body: str) -> Path:
    path.write_text(body)
    return path


def test_only_public_functions_that_return_an_experiment_are_recipes(pebbles):
    assert [recipe.name for recipe in recipes()] == ["pebbles-cnn"]


def test_a_recipe_knows_where_it_stands_and_what_it_says(pebbles, project):
    assert pebbles.path == project / "recipes" / "pebbles.py"
    assert pebbles.function == "pebbles_cnn"
    assert pebbles.summary == "A small network; 3 % error."
    assert pebbles.documentation.startswith("Networks on pebbles (A. Author 1999).\n\nA small network")
    assert pebbles.documentation.endswith("More of it.")
    assert pebbles.source_sha256 == hashlib.sha256(RECIPE.encode()).hexdigest()


def test_a_recipes_parameters_are_its_signature_in_order(pebbles):
    assert list(pebbles.parameters)[:3] == ["epochs", "learning_rate", "data"]
    assert pebbles.parameters["learning_rate"] == catalog.Parameter("learning_rate", "float", 0.001)
    assert pebbles.parameters["rates"].annotation == "tuple[float, ...]"
    assert pebbles.parameters["limit"].annotation == "int | None"
    assert pebbles.parameters["width"].annotation == "int", (
        "taken from the default where there is no annotation"
    )


@pytest.mark.parametrize("returns", ["Experiment", "experiment.Experiment", "'Experiment'"])
def test_the_return_annotation_may_be_dotted_or_quoted(project, returns):
    write(project / "recipes" / "a.py", f"def a() -> {returns}:\n    'A.'\n")
    assert [recipe.name for recipe in recipes()] == ["a"]


def test_recipes_inside_the_package_come_before_those_beside_it(pebbles, project):
    (project / "kerastoolkit" / "recipes").mkdir()
    write(project / "kerastoolkit" / "recipes" / "a.py", "def installed() -> Experiment:\n    'A.'\n")
    assert [recipe.name for recipe in recipes()] == ["installed"]


def test_recipes_are_sorted_by_name_whatever_file_they_are_in(project):
    write(project / "recipes" / "a.py", "def zebra() -> Experiment: ...\ndef ant() -> Experiment: ...\n")
    write(project / "recipes" / "b.py", "def mole() -> Experiment: ...\n")
    assert [recipe.name for recipe in recipes()] == ["ant", "mole", "zebra"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def a() -> Experiment:\n    x = = 1\n", "a.py, line 2: invalid syntax"),
        ("def a(*, epochs: int) -> Experiment: ...", "epochs has none"),
        ("def a(*, epochs: int = 2 * N) -> Experiment: ...", "the default of epochs must be a plain value"),
        ("def a(**settings) -> Experiment: ...", "need names"),
        ("def a() -> Experiment: ...\ndef a() -> Experiment: ...", "two recipes are called a"),
    ],
)
def test_a_recipe_file_that_cannot_be_right_is_named_with_the_reason(project, source, message):
    write(project / "recipes" / "a.py", source)
    with pytest.raises(CatalogError, match="a.py") as caught:
        recipes()
    assert message in str(caught.value)


def test_a_recipe_is_found_by_its_name_with_either_kind_of_dash(pebbles):
    assert find_recipe("pebbles_cnn") == find_recipe("pebbles-cnn") == pebbles


def test_an_unknown_recipe_gets_the_closest_names(pebbles):
    with pytest.raises(CatalogError, match="no recipe peble-cnn; did you mean pebbles-cnn?"):
        find_recipe("peble-cnn")


def test_a_name_like_no_recipe_gets_the_command_that_lists_them(pebbles):
    with pytest.raises(CatalogError, match="kerastoolkit list recipes"):
        find_recipe("zzz")


def test_a_recipe_in_a_file_of_ones_own_is_found_by_path_and_function(tmp_path):
    path = write(
        tmp_path / "mine.py", "def first() -> Experiment: ...\ndef second_one() -> Experiment: ...\n"
    )
    for text in (f"{path}:second_one", f"{path}:second-one"):
        assert (find_recipe(text).name, find_recipe(text).path) == ("second-one", path)


def test_a_file_with_one_recipe_needs_no_function(tmp_path):
    path = write(tmp_path / "mine.py", "def only() -> Experiment: ...\n")
    assert find_recipe(str(path)).function == "only"


def test_a_file_with_several_recipes_asks_for_one_of_them(tmp_path):
    path = write(tmp_path / "mine.py", "def first() -> Experiment: ...\ndef second() -> Experiment: ...\n")
    with pytest.raises(CatalogError, match="mine.py:first or .*mine.py:second"):
        find_recipe(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere.py", "there is no file nowhere.py"),
        ("empty.py", "has no recipe: a public function annotated -> Experiment"),
        ("mine.py:oly", "did you mean only"),
    ],
)
def test_a_wrong_file_or_function_is_told_in_one_line(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "empty.py", "x = 1\n")
    write(tmp_path / "mine.py", "def only() -> Experiment: ...\n")
    with pytest.raises(CatalogError, match=message) as caught:
        find_recipe(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs=30", 30),
        ("epochs = 30", 30),
        ("learning_rate=1", 1.0),
        ("learning_rate=5e-2", 0.05),
        ("data=a folder/with = signs", "a folder/with = signs"),
        ("noisy=true", True),
        ("noisy=False", False),
        ("filters=(4, 8)", (4, 8)),
        ("filters=4,8", (4, 8)),
        ("filters=4", (4,)),
        ("filters=()", ()),
        ("size=2,3", (2, 3)),
        ("rates=0.5,1", (0.5, 1.0)),
        ("limit=none", None),
        ("limit=7", 7),
    ],
)
def test_a_setting_becomes_a_value_of_the_annotated_type(pebbles, setting, value):
    ((_, got),) = parse_overrides(pebbles, [setting]).items()
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs=many", "epochs must be int, got 'many'"),
        ("epochs=1.5", "epochs must be int"),
        ("epochs=", "epochs must be int"),
        ("epochs=none", "epochs must be int"),
        ("learning_rate=fast", "learning_rate must be float"),
        ("learning_rate=nan", "learning_rate must be float"),
        ("noisy=1", "noisy must be bool"),
        ("filters=4,x", r"filters must be tuple\[int, \.\.\.\]"),
        ("size=1,2,3", r"size must be tuple\[int, int\], such as 4,4, got '1,2,3'"),
        ("limit=x", r"limit must be int \| None"),
        ("epoch=3", r"no setting epoch; did you mean epochs\? \(it has: epochs, learning_rate, data, "),
        ("epochs", "must be NAME=VALUE, got epochs"),
        ("=3", "must be NAME=VALUE"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_would_be_right(pebbles, setting, message):
    with pytest.raises(CatalogError, match=message):
        parse_overrides(pebbles, [setting])


def test_a_setting_given_twice_is_refused(pebbles):
    with pytest.raises(CatalogError, match="epochs is given twice"):
        parse_overrides(pebbles, ["epochs=3", "epochs=3"])


def test_arguments_are_the_defaults_with_the_overrides_in_their_place(pebbles):
    arguments = catalog.arguments(pebbles, {"epochs": 9, "limit": None})
    assert arguments["epochs"] == 9
    assert arguments["data"] == "pebbles"
    assert list(arguments) == list(pebbles.parameters)


def test_loading_a_recipe_gives_its_function(project):
    write(project / "recipes" / "loaded.py", "def loaded() -> 'Experiment':\n    return 'built'\n")
    function = load(find_recipe("loaded"))
    assert function() == "built"
    assert function.__module__ == "kerastoolkit.recipes.loaded"
    del sys.modules["kerastoolkit.recipes.loaded"]


def test_a_file_of_ones_own_may_import_its_neighbour_and_be_called_like_a_library(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    write(tmp_path / "neighbour_of_mine.py", "answer = 42\n")
    path = write(
        tmp_path / "json.py",
        "import neighbour_of_mine\ndef f() -> 'Experiment':\n    return neighbour_of_mine.answer\n",
    )
    assert load(find_recipe(str(path)))() == 42
    import json

    assert json.loads("1") == 1, "the library of that name is still the library"


def test_a_file_that_fails_to_import_is_not_left_half_loaded(tmp_path):
    path = write(tmp_path / "broken.py", "def f() -> 'Experiment': ...\nraise RuntimeError('half')\n")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="half"):
            load(find_recipe(str(path)))


def test_a_file_that_is_running_is_not_run_again(tmp_path, monkeypatch):
    path = write(tmp_path / "running.py", "def f() -> 'Experiment': ...\n")
    running = types.SimpleNamespace(__file__=str(path), f=lambda: "the running one")
    monkeypatch.setitem(sys.modules, "__main__", running)
    assert load(find_recipe(str(path)))() == "the running one"


def test_builders_and_data_sets_are_listed_by_what_they_return(project):
    write(
        project / "kerastoolkit/models/net.py",
        "def net(*, depth: int) -> keras.Model:\n    'A net.'\ndef f() -> int: ...\n",
    )
    write(project / "kerastoolkit/models/_blocks.py", "def block() -> keras.Model: ...\n")
    write(
        project / "kerastoolkit/data/stones.py",
        "def stones(*, seed=0) -> Data:\n    'Stones.'\ndef from_folder(path) -> Data: ...\n"
        "def keyword(*, path) -> Data: ...\n",
    )
    assert [(entry.name, entry.summary) for entry in catalog.models()] == [("net", "A net.")]
    assert [(entry.name, entry.summary) for entry in catalog.data_sets()] == [("stones", "Stones.")]


def test_the_projects_own_builders_and_data_sets_each_say_what_they_are():
    entries = [*catalog.models(), *catalog.data_sets()]
    assert {"cnn", "digits"} <= {entry.name for entry in entries}
    assert [entry.name for entry in entries if not entry.summary] == []


def test_the_catalog_needs_nothing_but_the_standard_library():
    root = Path(catalog.__file__).parents[1]
    without_packages = [sys.executable, "-S", "-E", "-m", "kerastoolkit.catalog"]
    done = subprocess.run(without_packages, cwd=root, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [recipe.name for recipe in recipes()]
