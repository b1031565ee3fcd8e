"""The house's rules: who imports whom, how long things may be, and that everything public says what it is."""

import ast
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import jnst

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "jnst").rglob("*.py"))
ALL_SOURCES = sorted(path for folder in ("jnst", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))

FLOORS = (
    ("types", "errors", "starting"),
    ("compilation", "pace"),
    ("statistics", "image", "colour", "demo_images", "files", "thinning", "bases", "quasi_newton"),
    ("losses", "guidance", "backbones", "weights", "optimize", "optimizers", "images", "colour_control", "parallel"),
    ("objective", "metrics", "lanes", "checkpoint"),
    ("targets", "presets"),
    ("plan",),
    ("fitting", "jobs"),
    ("memory",),
    ("coarse_to_fine", "variations"),
    ("together",),
    ("batches",),
    ("stylize", "stylize_many"),
    ("cli", "io", "demo", "training", "hosts", "report", "catalogue", "animate", "preview"),
    ("jnst",),
    ("__main__",),
)
"""Files and folders of jnst from the ground up, "jnst" its `__init__.py`. Each imports floors below its own only,"""
NEIGHBOURS = {
    ("weights", "backbones"),
    ("cli", "io"),
    ("cli", "jnst"),
    ("training", "io"),
    ("cli", "training"),
    ("cli", "demo"),
    ("cli", "hosts"),
    ("cli", "catalogue"),
    ("cli", "report"),
    ("cli", "animate"),
    ("cli", "preview"),
    ("animate", "io"),
    ("catalogue", "io"),
    ("catalogue", "report"),
    ("report", "io"),
}
"""but for these: (importer, imported) on one floor, and the version number for the command line."""
KEPT_APART = {("objective", "optimize"), ("objective", "optimizers")} | {
    (solver, unit) for solver in ("optimize", "optimizers", "lanes", "parallel") for unit in ("statistics", "image")
}
"""(importer, imported) that may not be although the floors would allow it: what minimises knows nothing of style."""

EDGE = {"cli", "io", "demo", "training", "report", "animate", "preview"}
EVERYWHERE = {unit for floor in FLOORS for unit in floor}
PACKAGES = {
    ("jax", "numpy", "optax", "jaxtyping"): EVERYWHERE,
    ("flax", "flaxmodels"): {"backbones", "training"},
    ("h5py", "safetensors", "ml_dtypes", "filelock"): {"weights"} | EDGE,
    ("orbax",): {"checkpoint"},
    ("PIL", "matplotlib", "rich", "tyro", "png", "tifffile"): EDGE,
}
"""Third-party packages, and where they may be imported, inside functions too."""
ALLOWED = {package: units for packages, units in PACKAGES.items() for package in packages}

MOST_LINES, MOST_LINES_OF_A_FUNCTION = 300, 60
FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "misc", "_src"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def unit_of(path: Path) -> str:
    """The first part of a file's name inside jnst: "losses" for jnst/losses/gram.py, "jnst" for jnst/__init__.py."""
    part = path.relative_to(ROOT / "jnst").parts[0].removesuffix(".py")
    return "jnst" if part == "__init__" else part


def imported_modules(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "imports name their module in full"
            assert node.level == 0, "imports name their module in full"
            # `from jnst import losses` imports jnst.losses, not what jnst/__init__.py offers.
            is_root = node.module == "jnst"
            yield from (f"jnst.{alias.name}" if is_root else node.module for alias in node.names)


def import_faults(importer: str, source: str) -> list[str]:
    floor = {unit: height for height, units in enumerate(FLOORS) for unit in units}
    if importer not in floor:
        return [f"{importer} has no floor: add it to FLOORS in tests/test_architecture.py"]
    faults = []
    for module in imported_modules(source):
        package, _, rest = module.partition(".")
        if package != "jnst":
            if package not in sys.stdlib_module_names and importer not in ALLOWED.get(package, set()):
                faults.append(f"{importer} imports {package}: see PACKAGES in tests/test_architecture.py")
            continue
        unit = rest.partition(".")[0] or "jnst"
        below = unit in floor and floor[unit] < floor[importer] and (importer, unit) not in KEPT_APART
        if unit != importer and not below and (importer, unit) not in NEIGHBOURS:
            faults.append(f"{importer} imports jnst.{rest}, which is not on a floor below it")
    return faults


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards_and_packages_stay_where_they_belong(path: Path):
    assert import_faults(unit_of(path), path.read_text()) == []


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("image", "import jnst.transfer.stylize"),
        ("losses", "from jnst.backbones import BACKBONES"),
        ("losses", "from jnst import optimize"),
        ("backbones", "import jnst.weights"),
        ("objective", "from jnst.solve.run import minimise"),
        ("optimizers", "from jnst.statistics import gram_matrix"),
        ("presets", "from jnst.transfer.stylize import stylize"),
        ("plan", "from jnst.transfer.coarse_to_fine import carry_out"),
        ("stylize", "import jnst.apps.io"),
        ("stylize", "import jnst"),
        ("stylize", "from jnst import load_image"),
        ("image", "def late():\n    from PIL import Image"),
        ("objective", "import flax.linen as nn"),
        ("losses", "import h5py"),
        ("weights", "import torch"),
        ("newcomer", ""),
    ],
)
def test_a_wrong_import_is_found(importer: str, source: str):
    assert import_faults(importer, source)


def test_every_floor_and_package_of_the_tables_is_real():
    assert {unit_of(path) for path in SOURCES} == EVERYWHERE
    used = {module.partition(".")[0] for path in SOURCES for module in imported_modules(path.read_text())}
    assert set(ALLOWED) <= used


@pytest.mark.parametrize("path", ALL_SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short_and_well_named(path: Path):
    source = path.read_text()
    assert len(source.splitlines()) <= MOST_LINES, "it asks to be two files"
    too_long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(source))
        if isinstance(node, Function)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_LINES_OF_A_FUNCTION
    }
    assert too_long == {}, "they ask to be two functions each"
    assert FORBIDDEN_NAMES.isdisjoint(part.removesuffix(".py") for part in path.relative_to(ROOT).parts)


def public_definitions(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Public functions, classes and methods, each with its dotted name."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node, f"{prefix}{node.name}.")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_everything_public_has_a_docstring_and_a_required_key_comes_first(path: Path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    for name, node in public_definitions(tree):
        assert isinstance(node, Function | ast.ClassDef)
        assert ast.get_docstring(node), f"{name} has no docstring"
        if isinstance(node, Function):
            assert key_fault(node) is None, f"{name}: {key_fault(node)}"


def key_fault(function: Function) -> str | None:
    """What is wrong with a function's random key, if it requires one."""
    positional = function.args.posonlyargs + function.args.args
    required = positional[: len(positional) - len(function.args.defaults)]
    keywords = [
        argument
        for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
        if default is None
    ]
    keys = [
        argument
        for argument in required + keywords
        if argument.annotation is not None and "Key" in ast.unparse(argument.annotation)
    ]
    first = [argument for argument in required if argument.arg not in ("self", "cls")][:1]
    if not keys or keys == first:
        return None
    return f"the random key `{keys[0].arg}` is not the first argument"


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("def noise(key: RandomKey, shape): ...", False),
        ("def init(self, key: RandomKey, x=0): ...", False),
        ("def stylize(content, *, key: RandomKey | None = None): ...", False),
        ("def noise(shape, key: RandomKey): ...", True),
        ("def noise(shape, *, key: RandomKey): ...", True),
    ],
)
def test_a_misplaced_key_is_found(source: str, wrong: bool):
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    assert (key_fault(function) is not None) == wrong


@pytest.mark.parametrize("name", jnst.__all__)
def test_every_public_name_exists_and_says_what_it_is(name: str):
    value = getattr(jnst, name)
    if callable(value) or isinstance(value, types.ModuleType):
        assert (value.__doc__ or "").strip()
