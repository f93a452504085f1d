"""Finds recipes, builders and data sets by reading source code, never by importing it.

Importing Keras takes seconds, and a list of names must not. So this file needs the standard library alone. It
works before anything is installed: ``python -m kerastoolkit.catalog`` prints the recipes' names for make.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE_FOLDER = Path(__file__).resolve().parent


class CatalogError(ValueError):
    """A name, a setting or a recipe file is wrong; the message is one line, with what would be right."""


@dataclass(frozen=True)
class Parameter:
    """One setting of a recipe: its name, its annotation as written, and its default."""

    name: str
    annotation: str
    default: Any


@dataclass(frozen=True)
class Recipe:
    """A public function in a recipe file whose return annotation is ``Experiment``.

    Attributes:
        name: what it is called on the command line, the function's name with - for _.
        path: the file it stands in.
        function: the function's name.
        summary: the first line of the function's docstring.
        documentation: the file's docstring and the function's.
        parameters: name -> Parameter, in the order of the signature.
    """

    name: str
    path: Path
    function: str
    summary: str
    documentation: str
    parameters: dict[str, Parameter]

    @property
    def source_sha256(self) -> str:
        """The hash of the recipe's file, which tells whether it has changed since a run began."""
        import hashlib

        return hashlib.sha256(self.path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """A builder or a data set: its name, the first line of its docstring and the file it stands in."""

    name: str
    summary: str
    path: Path


def recipes_folder() -> Path:
    """Where the project's recipes are: inside an installed package, or beside the package in a checkout."""
    inside = PACKAGE_FOLDER / "recipes"
    return inside if inside.is_dir() else PACKAGE_FOLDER.parent / "recipes"


def recipes() -> list[Recipe]:
    """Every recipe of the project, by name."""
    found: dict[str, Recipe] = {}
    for path in _sources(recipes_folder()):
        for recipe in _recipes_in(path):
            if recipe.name in found:
                other = found[recipe.name].path
                raise CatalogError(f"two recipes are called {recipe.name}: in {other} and {path}")
            found[recipe.name] = recipe
    return [found[name] for name in sorted(found)]


def find_recipe(text: str) -> Recipe:
    """The recipe that ``text`` names.

    Args:
        text: the name of one of the project's recipes, ``mine.py:function``, or ``mine.py`` with one recipe.
    Raises:
        CatalogError: there is no such recipe or file; the message has the closest names.
    """
    head, _, function = text.rpartition(":")
    if head.endswith(".py"):
        return _find_in_file(Path(head), function)
    if text.endswith(".py"):
        return _find_in_file(Path(text), None)
    known = {recipe.name: recipe for recipe in recipes()}
    name = text.replace("_", "-")
    if name not in known:
        hint = closest(name, known) or "; `kerastoolkit list recipes` shows them all"
        raise CatalogError(f"there is no recipe {text}{hint}")
    return known[name]


def models() -> list[Entry]:
    """Every public builder, by name."""
    return _entries("models", "Model", needs_no_arguments=False)


def data_sets() -> list[Entry]:
    """Every data set that is made without arguments, by name."""
    return _entries("data", "Data", needs_no_arguments=True)


def parse_overrides(recipe: Recipe, settings: Iterable[str]) -> dict[str, Any]:
    """Turns ``["epochs=30"]`` into ``{"epochs": 30}``, in the types that the recipe's signature asks for.

    Raises:
        CatalogError: a setting is not NAME=VALUE, is unknown to the recipe, has another type, or comes twice.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip()
        if not equals or not name:
            raise CatalogError(f"a setting must be NAME=VALUE, got {setting}")
        if name not in recipe.parameters:
            valid = ", ".join(recipe.parameters) or "none"
            hint = closest(name, recipe.parameters)
            raise CatalogError(f"{recipe.name} has no setting {name}{hint} (it has: {valid})")
        if name in values:
            raise CatalogError(f"{name} is given twice")
        values[name] = _value_of(recipe.parameters[name], text.strip())
    return values


def arguments(recipe: Recipe, overrides: dict[str, Any]) -> dict[str, Any]:
    """All settings of the recipe: its defaults, and the overrides in their place."""
    return {name: overrides.get(name, parameter.default) for name, parameter in recipe.parameters.items()}


def load(recipe: Recipe) -> Callable[..., Any]:
    """Imports the recipe's file and returns its function."""
    return getattr(_module(recipe.path), recipe.function)


def closest(name: str, names: Iterable[str]) -> str:
    """The names most like ``name`` as the end of an error message, or nothing where none is like it."""
    near = difflib.get_close_matches(name, list(names), n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _module(path: Path) -> Any:
    running = sys.modules.get("__main__")
    # `python mine.py` has run the file already; a second time would register its layers twice.
    if getattr(running, "__file__", None) and Path(running.__file__).resolve() == path:
        return running
    if path.parent == recipes_folder():
        name = f"kerastoolkit.recipes.{path.stem}"
    else:
        name = f"_recipe_{path.stem}"  # never the bare stem: a file may be called keras.py
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))  # as `python mine.py` does: it may import its neighbours
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _find_in_file(path: Path, function: str | None) -> Recipe:
    if not path.is_file():
        raise CatalogError(f"there is no file {path}")
    found = {recipe.function: recipe for recipe in _recipes_in(path.resolve())}
    if not found:
        raise CatalogError(f"{path} has no recipe: a public function annotated -> Experiment")
    if function is None and len(found) == 1:
        return next(iter(found.values()))
    if function is None:
        choices = " or ".join(f"{path}:{name}" for name in found)
        raise CatalogError(f"{path} has several recipes; name one: {choices}")
    name = function.replace("-", "_")
    if name not in found:
        hint = closest(name, found)
        raise CatalogError(f"{path} has no recipe {function}{hint} (it has: {', '.join(found)})")
    return found[name]


def _recipes_in(path: Path) -> list[Recipe]:
    tree = _parsed(path)
    of_file = ast.get_docstring(tree) or ""
    found = []
    for node in _functions(tree, "Experiment"):
        of_function = ast.get_docstring(node) or ""
        found.append(
            Recipe(
                name=node.name.replace("_", "-"),
                path=path,
                function=node.name,
                summary=_first_line(of_function),
                documentation=f"{of_file}\n\n{of_function}".strip(),
                parameters=_parameters(node, path),
            )
        )
    return found


def _entries(folder: str, returns: str, *, needs_no_arguments: bool) -> list[Entry]:
    found = []
    for path in _sources(PACKAGE_FOLDER / folder):
        for node in _functions(_parsed(path), returns):
            if needs_no_arguments and any(default is None for _, default in _arguments(node)):
                continue
            found.append(Entry(node.name, _first_line(ast.get_docstring(node) or ""), path))
    return sorted(found, key=lambda entry: entry.name)


def _sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise CatalogError(f"{path}, line {error.lineno}: {error.msg}") from None
    except (OSError, ValueError) as error:
        raise CatalogError(f"cannot read {path}: {error}") from None


def _functions(tree: ast.Module, returns: str) -> Iterator[ast.FunctionDef]:
    """The public functions of a file that return ``returns``, however that is imported or quoted."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.returns is not None and not node.name.startswith("_"):
            if _text(node.returns).split(".")[-1] == returns:
                yield node


def _arguments(node: ast.FunctionDef) -> list[tuple[ast.arg, ast.expr | None]]:
    """Each argument with its default; None stands for no default."""
    positional = [*node.args.posonlyargs, *node.args.args]
    without = len(positional) - len(node.args.defaults)
    defaults = [*[None] * without, *node.args.defaults, *node.args.kw_defaults]
    return list(zip([*positional, *node.args.kwonlyargs], defaults, strict=True))


def _parameters(node: ast.FunctionDef, path: Path) -> dict[str, Parameter]:
    where = f"{path}: {node.name}"
    if node.args.vararg or node.args.kwarg or node.args.posonlyargs:
        raise CatalogError(f"{where}: a recipe's settings need names, not *args, **kwargs or /")
    found = {}
    for argument, default in _arguments(node):
        if default is None:
            raise CatalogError(f"{where}: a recipe's settings need defaults, and {argument.arg} has none")
        try:
            value = ast.literal_eval(default)
        except ValueError:
            raise CatalogError(
                f"{where}: the default of {argument.arg} must be a plain value, got {ast.unparse(default)}"
            ) from None
        annotation = _text(argument.annotation) if argument.annotation else type(value).__name__
        found[argument.arg] = Parameter(argument.arg, annotation, value)
    return found


def _text(annotation: ast.expr) -> str:
    """An annotation as written, without the quotes that it may stand in."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation)


def _first_line(docstring: str) -> str:
    return docstring.strip().partition("\n")[0]


def _value_of(parameter: Parameter, text: str) -> Any:
    kinds = [kind.strip() for kind in parameter.annotation.split("|")]
    if "None" in kinds and text.lower() == "none":
        return None
    for kind in kinds:
        try:
            return _value(kind, text)
        except ValueError:
            continue
    several = isinstance(parameter.default, tuple) and parameter.default
    example = f", such as {','.join(map(str, parameter.default))}" if several else ""
    raise CatalogError(f"{parameter.name} must be {parameter.annotation}{example}, got {text!r}")


def _value(kind: str, text: str) -> Any:
    """``text`` as a value of the type ``kind``; ValueError where it is not one."""
    if kind.startswith("tuple["):
        kinds = [item.strip() for item in kind[len("tuple[") : -1].split(",")]
        texts = [item.strip() for item in text.strip("()[] ").split(",") if item.strip()]
        if kinds[-1] == "...":
            kinds = kinds[:1] * len(texts)
        return tuple(_value(*pair) for pair in zip(kinds, texts, strict=True))
    if kind == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind == "int":
        return int(text)
    if kind == "float" and math.isfinite(float(text)):
        return float(text)
    if kind == "str":
        return text
    raise ValueError(f"{text!r} is not {kind}")


if __name__ == "__main__":
    try:
        chosen = [find_recipe(name) for name in sys.argv[1:]] or recipes()
    except CatalogError as error:
        sys.exit(f"error: {error}")
    for recipe in chosen:
        print(recipe.name)
