"""Programs compiled for a device, and kept on disk."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jnst.errors import ResourceError
from jnst.solve import compilation
from jnst.solve.compilation import Jit, keep_programs, supported_options
from jnst.solve.devices import platform_of


def test_it_computes_what_the_function_does_and_compiles_once() -> None:
    double = Jit(lambda x, times: times * x, static_argnames="times")
    assert double._cache_size() == 0
    assert [float(double(jnp.float32(value), times=2)) for value in (1, 3)] == [2, 6]
    assert double._cache_size() == 1
    assert double.lower(jnp.float32(1), times=2).compile() is not None


def test_within_another_program_it_is_a_part_of_that() -> None:
    double = Jit(lambda x, times: times * x, static_argnames="times")
    assert float(jax.jit(lambda x: double(x, times=3) + 1)(1.0)) == 4
    assert jax.eval_shape(lambda y: double(2.0, times=y), jnp.float32(1)).shape == ()
    assert double._cache_size() == 0


def test_the_platform_is_that_of_the_first_array() -> None:
    assert platform_of({"a": "static", "b": jnp.zeros(1)}) == "cpu"
    assert platform_of(()) == jax.default_backend()


def test_a_compiler_without_the_options_compiles_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(compilation.OPTIONS, "cpu", {"xla_cpu_no_such_option": "1"})
    supported_options.cache_clear()
    assert supported_options("cpu") == {}
    assert float(Jit(jnp.sin)(0.0)) == 0
    supported_options.cache_clear()


def test_this_compiler_knows_the_options() -> None:
    assert supported_options("cpu") == compilation.OPTIONS["cpu"]


PROGRAM = """
import sys, jax, jax.numpy as jnp
from pathlib import Path
from jnst.solve.compilation import keep_programs
keep_programs(Path(sys.argv[1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((8, 8)))
print(hits.count("/jax/compilation_cache/cache_hits"))
"""


def test_a_second_process_finds_the_programs_of_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "programs"
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    found = [int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(2)]
    assert found[0] == 0
    assert found[1] > 0
    assert folder.stat().st_mode & 0o777 == 0o700


def test_programs_are_not_taken_from_where_others_can_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ResourceError, match="others can write into it"):
        keep_programs(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot keep compiled programs"):
        keep_programs(tmp_path / "file")
