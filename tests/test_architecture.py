"""Who may import whom. The imports are read from the source, so that nothing has to be run."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BOTTOM = {"boxes", "layers", "losses", "metrics", "regions", "serving", "weights"}

# Part of the project -> the parts that it may import. What is not named here is a verb or serves the verbs.
MAY_IMPORT = {
    "__init__": set(),
    "__main__": {"cli"},
    "catalog": set(),
    "experiment": set(),
    "terminal": set(),
    "memory": set(),
    "replicas": set(),
    "cli": {"catalog", "experiment", "memory", "terminal"},
    "boxes": set(),
    "weights": {"weights"},
    "regions": {"boxes", "regions"},
    "layers": {"boxes", "layers", "regions", "replicas"},
    "losses": {"boxes", "losses", "regions", "replicas"},
    "metrics": {"boxes", "metrics"},
    "serving": {"boxes", "experiment", "layers", "losses", "serving"},
    "models": {"boxes", "layers", "models", "weights"},
    "tasks": {"box_pictures", "charts", "experiment", "replicas", "tasks", *BOTTOM},
    "data": {"box_pictures", "charts", "data", "experiment", "replicas", *BOTTOM},
}
NOT_FOR_VERBS = {"cli", "data", "models", "recipes", "tasks"}
NOT_FOR_RECIPES = {"catalog", "evaluate", "export", "predict", "runs", "show", "terminal", "train", "tune"}


def imports(tree: ast.AST) -> Iterator[str]:
    """The dotted names of all modules that a piece of source imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            if node.module == "kerastoolkit":
                yield from (f"kerastoolkit.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.py")), ids=lambda path: path.stem)
def test_a_recipe_file_imports_this_package_before_keras(path):
    # Run as a program it would start TensorFlow without what kerastoolkit/__init__.py sets.
    names = [name.split(".")[0] for name in imports(ast.parse(path.read_text()))]
    if "keras" in names:
        assert names.index("kerastoolkit") < names.index("keras")


def part(path: Path) -> str:
    """The part that a file belongs to: a folder of the package, a file right in it, or the recipes."""
    relative = path.relative_to(ROOT)
    return "recipes" if relative.parts[0] == "recipes" else relative.with_suffix("").parts[1]


def not_allowed(importer: str, source: str) -> set[str]:
    """The parts that ``source``, a file of the part ``importer``, imports against the rules."""
    names = [name for name in imports(ast.parse(source)) if name.startswith("kerastoolkit.")]
    imported = {name.split(".")[1] for name in names}
    if importer == "recipes":
        return imported & NOT_FOR_RECIPES
    if importer in MAY_IMPORT:
        return imported - MAY_IMPORT[importer]
    return imported & NOT_FOR_VERBS


FILES = sorted([*(ROOT / "kerastoolkit").rglob("*.py"), *(ROOT / "recipes").glob("*.py")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_part_of_the_project_may(path):
    source = path.read_text()
    if part(path) == "cli":
        # The commands import the verbs, and one of them draws a data set, inside their functions.
        source = "\n".join(
            ast.unparse(node) for node in ast.parse(source).body if not isinstance(node, ast.FunctionDef)
        )
    assert not_allowed(part(path), source) == set()


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("models", "from kerastoolkit.losses import focal"),
        ("models", "from kerastoolkit import metrics"),
        ("tasks", "def f():\n    import kerastoolkit.data.images"),
        ("layers", "from kerastoolkit.models.cnn import cnn"),
        ("train", "from kerastoolkit.models import cnn"),
        ("a_new_verb", "from kerastoolkit.tasks.classification import classification"),
        ("recipes", "from kerastoolkit.train import train"),
        ("catalog", "from kerastoolkit.experiment import InputError"),
        ("cli", "from kerastoolkit.train import train"),
    ],
)
def test_the_rules_see_an_import_that_breaks_them(importer, source):
    assert not_allowed(importer, source) != set()


def test_what_must_start_fast_imports_nothing_slow_at_the_top():
    allowed = set(sys.stdlib_module_names) | {"click", "kerastoolkit"}
    for name in ("__init__", "__main__", "catalog", "cli", "experiment", "terminal"):
        body = ast.parse((ROOT / "kerastoolkit" / f"{name}.py").read_text()).body
        top = ast.Module(
            [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))], type_ignores=[]
        )
        assert {module.split(".")[0] for module in imports(top)} - allowed == set(), name


def test_the_catalog_imports_the_standard_library_alone():
    source = (ROOT / "kerastoolkit" / "catalog.py").read_text()
    assert {name.split(".")[0] for name in imports(ast.parse(source))} <= set(sys.stdlib_module_names)


def test_builders_and_losses_are_written_for_every_keras_backend():
    backends = {"tensorflow", "jax", "torch"}
    for path in FILES:
        if part(path) in ("models", "losses", "metrics", "boxes"):
            names = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
            assert names & backends == set(), path


def test_no_verb_asks_which_task_it_has():
    for path in FILES:
        if part(path) not in MAY_IMPORT and part(path) != "recipes":
            compared = [
                ast.unparse(node)
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Compare) and "task.name" in ast.unparse(node)
            ]
            assert compared == [], path


def test_loading_a_model_registers_every_layer_that_it_may_name():
    """A process that only loads has imported nothing else, and Keras cannot find what is not imported there."""
    package = ROOT / "kerastoolkit"
    known = (package / "layers" / "__init__.py").read_text() + (package / "serving" / "model.py").read_text()
    for path in [*package.glob("layers/*.py"), *package.glob("serving/*.py")]:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and any("register_keras" in ast.unparse(each) for each in node.decorator_list):
                place = f"kerastoolkit.serving.{path.stem}\n"
                imported = f"{node.name} as {node.name}" if path.parent.name == "layers" else place
                assert imported in known.replace("  # noqa", "\n"), f"{node.name} of {path} is not imported"
