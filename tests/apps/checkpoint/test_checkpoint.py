"""`jnst.save_state` and `jnst.load_state`: a run that continues from a file equals an uninterrupted run bit for bit."""

import dataclasses
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import checkpoint_runs
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checkpoint_runs import RUNS, make, same_bits
from safetensors.numpy import load_file, save_file

import jnst
from jnst.solve.saved import SavedState, leaves_of, restore

pytestmark = pytest.mark.usefixtures("unoptimised")
TESTS = Path(__file__).parents[2]


@pytest.mark.parametrize("name", RUNS)
def test_continuing_from_every_step_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    def keep(report: jnst.Report) -> None:
        jnst.save_state(tmp_path / f"{report.first}", report.state)

    whole = make(name, callback=keep)
    assert len(whole.losses) == 5
    for step in range(1, 6):
        rest = make(name, state=jnst.load_state(tmp_path / f"{step}"))
        assert same_bits(rest.state, whole.state)
        assert np.array_equal(rest.image, whole.image)
        assert np.array_equal(rest.losses, whole.losses[step:])


def test_another_process_continues_with_the_same_bits(tmp_path: Path) -> None:
    """From the last step at the first size, so that the other process enlarges the loaded state."""
    wholes = {}
    for name in RUNS:

        def keep(report: jnst.Report, name: str = name) -> None:
            if report.first == 3:
                jnst.save_state(tmp_path / name, report.state)

        wholes[name] = make(name, callback=keep)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    words = [sys.executable, checkpoint_runs.__file__, tmp_path]
    finished = subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment)
    assert finished.returncode == 0, finished.stderr
    for name, whole in wholes.items():
        found = jnst.load_state(tmp_path / f"{name}.end")
        assert same_bits(restore(found.leaves, whole.state), whole.state)
        assert np.array_equal(found.records["image"], whole.image)


def test_a_finished_run_makes_no_step_unless_more_are_asked_for(tmp_path: Path) -> None:
    jnst.save_state(tmp_path / "end", make("adam").state)
    again = make("adam", state=jnst.load_state(tmp_path / "end"))
    assert len(again.losses) == 0
    more, whole = (make("adam", state=state, num_steps=(3, 4)) for state in (jnst.load_state(tmp_path / "end"), None))
    assert same_bits(more.state, whole.state)
    assert len(more.losses) == 2


OPTIMIZERS = {
    "adam": optax.adam(0.1),
    "rates in the state": optax.inject_hyperparams(optax.adam)(learning_rate=optax.linear_schedule(0.1, 0.01, 5)),
    "named parts": optax.named_chain(("clip", optax.clip(1.0)), ("adam", optax.adam(0.1))),
    "counts that skip": optax.apply_if_finite(optax.sgd(0.1, momentum=0.9), 3),
    "accumulated": optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_states_of_any_optax_transformation_can_be_saved(name: str, tmp_path: Path) -> None:
    def loss(image: Any, args: Any, step: Any) -> Any:
        total = jnp.sum((image - args) ** 2)
        return total, {"squares": total}

    solver = jnst.Solver(OPTIMIZERS[name], keep_best=True)
    image, wanted = jnp.full((3, 4, 3), 0.25), jnp.linspace(0, 1, 36).reshape(3, 4, 3)
    half = jnst.solve.run(loss, solver, image, wanted, num_steps=3).state
    assert half is not None
    whole = jnst.solve.run(loss, solver, half, wanted, num_steps=3).state
    jnst.save_state(tmp_path / "state", half)
    loaded = restore(
        jnst.load_state(tmp_path / "state").leaves, jax.eval_shape(partial(jnst.solve.init, loss, solver), image)
    )
    assert same_bits(loaded, half)
    assert same_bits(jnst.solve.run(loss, solver, loaded, wanted, num_steps=3).state, whole)


TREE = {
    "bfloat16": jnp.asarray([1.5, -0.0, jnp.inf, 3e38], jnp.bfloat16),
    "float8": jnp.asarray([0.5, 448.0], jnp.float8_e4m3fn),
    "NaN": np.asarray([0x7FC00001, 0xFFC12345], np.uint32).view(np.float32),
    "bool": np.asarray([True, False]),
    "None": None,
    "empty": jnp.zeros((0, 3)),
    "scalar": jnp.int32(-7),
    "int64": np.asarray(2**62 + 1, np.int64),
    "float64": np.asarray([0.1], np.float64),
    "complex": np.asarray([1 + 2j], np.complex64),
    "Fortran order": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "weak": jnp.broadcast_to(jnp.asarray(0.3), (2,)),
    "nested": ({"a.b['c']": jnp.float16(2.5)}, [np.uint8(3)]),
}


def test_every_type_is_kept_bit_for_bit(tmp_path: Path) -> None:
    jnst.save_state(tmp_path / "tree", TREE)
    leaves = jnst.load_state(tmp_path / "tree").leaves
    expected = leaves_of(TREE)
    assert set(leaves) == set(expected)
    for name, leaf in expected.items():
        assert (leaves[name].dtype, leaves[name].shape) == (leaf.dtype, leaf.shape), name
        assert np.asarray(leaves[name]).tobytes() == np.asarray(leaf).tobytes(), name
        assert getattr(leaves[name], "weak_type", False) == getattr(leaf, "weak_type", False), name


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_random_keys_are_kept(kind: str, tmp_path: Path) -> None:
    keys = {"one": jax.random.key(3, impl=kind), "many": jax.random.split(jax.random.key(4, impl=kind), 3)}
    jnst.save_state(tmp_path / "keys", keys)
    leaves = jnst.load_state(tmp_path / "keys").leaves
    assert np.array_equal(jax.random.uniform(leaves["['one']"], (4,)), jax.random.uniform(keys["one"], (4,)))
    assert leaves["['many']"].shape == (3,)
    assert leaves["['many']"].dtype == keys["many"].dtype


def test_other_programs_can_read_the_file(tmp_path: Path) -> None:
    solution = make("adam")
    assert solution.state is not None
    jnst.save_state(
        tmp_path / "state", solution.state, about={"by": "me", "n": [1, 2]}, records={"a/ü": solution.losses}
    )
    arrays = load_file(tmp_path / "state")
    assert np.array_equal(arrays["state.image"], solution.state.image)
    assert np.array_equal(arrays["records/a/ü"], solution.losses)
    loaded = jnst.load_state(tmp_path / "state")
    assert loaded.about == {"by": "me", "n": [1, 2]}
    assert np.array_equal(loaded.records["a/ü"], solution.losses)
    assert (tmp_path / "state").read_bytes() == _saved_again(tmp_path, loaded)


def _saved_again(folder: Path, loaded: SavedState) -> bytes:
    """The bytes of a loaded state that is saved: the same content is the same bytes."""
    jnst.save_state(folder / "again", loaded, about=loaded.about, records=loaded.records)
    return (folder / "again").read_bytes()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("lbfgs", {}, r"it lacks `.optimizer.*; this run has no .*`.optimizer.*"),
        ("adam", {"size": 30}, r"holds an image of \(10, 12\), but this run has the sizes"),
        ("adam", {"average": 0.0}, r"this run has no `.average`"),
    ],
)
def test_a_state_of_another_run_is_refused(name: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    def keep(report: jnst.Report) -> bool:
        jnst.save_state(tmp_path / "state", report.state)
        return True

    state = make("adam", callback=keep).state
    for given in (state, jnst.load_state(tmp_path / "state")):
        with pytest.raises(jnst.JnstError, match=message) as caught:
            make(name, state=given, **changes)
        assert "\n" not in str(caught.value)


def test_a_leaf_of_another_shape_or_type_is_named(tmp_path: Path) -> None:
    state = make("lbfgs").state
    assert state is not None
    jnst.save_state(tmp_path / "state", state)
    with pytest.raises(jnst.JnstError, match=r"`.optimizer.*memory` is float32 \(3, .*expected float32 \(4, "):
        make("lbfgs", state=jnst.load_state(tmp_path / "state"), optimizer=jnst.LBFGS(memory_size=4))
    odd: Any = np.int64(3)
    jnst.save_state(tmp_path / "odd", dataclasses.replace(state, step=odd))
    with pytest.raises(jnst.JnstError, match=r"`.step` is int64 \(\), expected int32 \(\)"):
        make("lbfgs", state=jnst.load_state(tmp_path / "odd"))


@pytest.mark.parametrize("tree", [{"a": np.zeros(3)}, {".image": np.zeros(3)}, ()])
def test_other_pytrees_are_refused(tree: Any, tmp_path: Path) -> None:
    jnst.save_state(tmp_path / "tree", tree)
    with pytest.raises(jnst.JnstError, match="`state` is no state of a run"):
        make("adam", state=jnst.load_state(tmp_path / "tree"))


def test_types_that_the_format_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(jnst.JnstError, match="`state` has type complex128: expected one of bool, uint8"):
        jnst.save_state(tmp_path / "tree", np.zeros(3, np.complex128))
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"", b"\x89PNG" + bytes(60), b"\2" + bytes(7) + b"[]"):
        path.write_bytes(content)
        with pytest.raises(jnst.ArgumentError, match=r"file' cannot be read \("):
            jnst.load_state(path)
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(jnst.ArgumentError, match="file' cannot be read"):
        jnst.load_state(path)
    with pytest.raises(jnst.ArgumentError, match="there is no such file"):
        jnst.load_state(tmp_path / "missing")


def test_saving_does_not_change_the_run(tmp_path: Path) -> None:
    saving = make("lbfgs", callback=lambda report: jnst.save_state(tmp_path / "state", report.state))
    assert same_bits(saving.state, make("lbfgs").state)
