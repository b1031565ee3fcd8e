"""Who imports whom, where third-party packages are confined, and that everything public is documented."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jnst

ROOT = Path(jnst.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))

LAYERS = (
    {"types", "errors"},
    {"solve"},
    {"images", "statistics", "backbones"},
    {"losses", "weights"},
    {"presets", "metrics"},
    {"transfer"},
    {"__init__"},
    {"apps", "__main__"},
)
"""Files and folders of jnst from the ground up. Each imports only what lies below it, or its own parts;"""
NEIGHBOURS = {("metrics", "weights"), ("images", "statistics"), ("weights", "backbones"), ("__main__", "apps")}
"""besides these, (importer, imported), on one layer."""

CORE = {"jax", "numpy", "optax", "jaxtyping"}
CONFINED = {
    "flax": {"backbones", "apps"},
    "flaxmodels": {"backbones"},
    "h5py": {"weights"},
    "safetensors": {"weights", "apps"},
    "ml_dtypes": {"weights"},
    "PIL": {"images", "apps"},
    "pooch": {"weights"},
    "requests": {"weights"},
    "filelock": {"weights"},
}
"""Third-party packages beyond `CORE`, and where they may be imported; any other belongs to the applications."""


def unit_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(source: str) -> Iterator[str]:
    """The modules that a file imports, also within functions; `from jnst import x` as ``jnst.x``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their module in full"
            assert node.module is not None
            yield from (f"jnst.{alias.name}" for alias in node.names) if node.module == "jnst" else [node.module]


def faults(importer: str, source: str) -> list[str]:
    layer = {unit: height for height, units in enumerate(LAYERS) for unit in units}
    found = []
    for module in imports(source):
        package, _, rest = module.partition(".")
        if package == "jnst":
            unit = rest.partition(".")[0] or "__init__"
            unit = unit if unit in layer else "__init__"  # a public name
            if unit != importer and layer[unit] >= layer[importer] and (importer, unit) not in NEIGHBOURS:
                found.append(f"{importer} imports {module}, which does not lie below it")
        elif package not in CORE | sys.stdlib_module_names and importer not in CONFINED.get(package, {"apps"}):
            found.append(f"{importer} imports {package}")
        if "_src" in module.split("."):
            found.append(f"{module} is private")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards_and_packages_stay_where_they_belong(path: Path) -> None:
    late = {"__init__": "jnst.apps"}  # on first use of a name, and for type checkers
    assert [
        fault for fault in faults(unit_of(path), path.read_text()) if late.get(unit_of(path), "-") not in fault
    ] == []


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("solve", "from jnst.losses import Gram"),
        ("solve", "from jnst.images import resize"),
        ("images", "import jnst.transfer.api"),
        ("losses", "def late():\n    from jnst.presets import preset"),
        ("transfer", "import jnst.apps.io"),
        ("transfer", "from jnst import load_image"),
        ("losses", "from PIL import Image"),
        ("losses", "import flax.linen as nn"),
        ("solve", "from jax._src import core"),
    ],
)
def test_a_wrong_import_is_found(importer: str, source: str) -> None:
    assert faults(importer, source)


def test_the_tree_is_the_one_described() -> None:
    entries = {path.name for path in ROOT.iterdir() if path.name != "__pycache__"}
    assert {name.removesuffix(".py") for name in entries} - {"py.typed"} == {unit for units in LAYERS for unit in units}
    assert len(entries) < 16


def test_importing_the_library_imports_no_application_and_changes_nothing() -> None:
    script = """
import os, signal, sys
before = (dict(os.environ), {n: signal.getsignal(n) for n in signal.valid_signals()}, sys.stdin, sys.stdout, sys.stderr)
import jax, flax.linen, optax
environ = dict(os.environ)
import jnst
assert before[1:] == ({n: signal.getsignal(n) for n in signal.valid_signals()}, sys.stdin, sys.stdout, sys.stderr)
assert environ == dict(os.environ)
print([name for name in sys.modules if name.startswith("jnst.apps")])
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def public(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{prefix}{node.name}.")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_everything_public_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    assert [name for name, node in public(tree) if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("name", jnst.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(jnst, name) is not None
