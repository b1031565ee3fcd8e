"""What `import jnst` loads, and what it leaves alone."""

import importlib.metadata
import importlib.resources
import subprocess
import sys

import jnst

HEAVY = ("PIL", "h5py", "matplotlib", "flaxmodels", "torch", "tyro", "safetensors", "png", "tifffile")

# An audit hook sees sockets that are opened from C, and names that are looked up, as well.
BEFORE = f"""
import sys

def refuse(event, arguments):
    if event.startswith("socket."):
        raise AssertionError(f"{{event}} {{arguments}}")

sys.addaudithook(refuse)
heavy = {HEAVY!r}
"""


def run(script: str) -> str:
    finished = subprocess.run([sys.executable, "-c", BEFORE + script], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_import_loads_nothing_heavy_and_touches_no_network():
    assert run("import jnst\nprint([name for name in heavy if name in sys.modules])") == "[]"


def test_a_socket_would_have_been_noticed():
    script = "import socket\ntry:\n    socket.socket()\nexcept AssertionError:\n    print('noticed')"
    assert run(script) == "noticed"


def test_a_backbone_loads_nothing_heavy_either():
    script = "import jnst\njnst.make_backbone('vgg19')\nprint([name for name in heavy if name in sys.modules])"
    assert run(script) == "[]"


def test_images_are_loaded_lazily_and_work(tmp_path):
    path = tmp_path / "grey.png"
    script = f"""
import jnst
assert "PIL" not in sys.modules
jnst.save_image({str(path)!r}, jnst.resize(jax.numpy.full((4, 6, 3), 0.2), (2, 3)))
assert "PIL" in sys.modules
image = jnst.load_image({str(path)!r})
print(image.shape, float(image.min()) == float(image.max()) == float(jax.numpy.float32(51) / 255))
"""
    assert run("import jax\n" + script) == "(2, 3, 3) True"


def test_star_import_gives_every_public_name():
    namespace: dict[str, object] = {}
    exec("from jnst import *", namespace)
    assert set(jnst.__all__) <= set(namespace)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(jnst, "load_images")


def test_the_installed_package_is_typed_and_has_the_version_that_it_says():
    assert (importlib.resources.files("jnst") / "py.typed").is_file()
    assert importlib.metadata.version("jnst") == jnst.__version__
