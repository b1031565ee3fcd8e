"""`jnst.save_state` and `load_state`: a run that goes on from a file ends like one that never stopped, bit for bit."""

import dataclasses
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checkpoint_runs import RUNS, make, same_bits
from safetensors.numpy import load_file, save_file

import jnst
from jnst.apps.checkpoint import fitted, leaves_of
from jnst.solve import run as optimize

pytestmark = pytest.mark.usefixtures("unoptimised")


@pytest.mark.parametrize("name", RUNS)
def test_going_on_from_every_step_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    def keep(report: optimize.Report) -> None:
        jnst.save_state(tmp_path / f"{report.first}", report)

    whole = make(name, callback=keep)
    assert len(whole.losses) == 5
    for step in range(1, 6):
        rest = make(name, state=jnst.load_state(tmp_path / f"{step}"))
        assert same_bits(rest.state, whole.state)
        assert np.array_equal(rest.image, whole.image)
        assert np.array_equal(rest.losses, whole.losses[step:])


def test_another_process_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    """From the last step at the first size, so that the other one enlarges what it was handed."""
    wholes = {}
    for name in RUNS:

        def keep(report: optimize.Report, name: str = name) -> None:
            if report.first == 3:
                jnst.save_state(tmp_path / name, report)

        wholes[name] = make(name, callback=keep)
    script = Path(__file__).with_name("checkpoint_runs.py")
    # Where the script's folder is kept off the module path it is put there.
    environment = {**os.environ, "PYTHONPATH": str(script.parent)}
    words = [sys.executable, script, tmp_path]
    finished = subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment)
    assert finished.returncode == 0, finished.stderr
    for name, whole in wholes.items():
        found = jnst.load_state(tmp_path / f"{name}.end")
        assert same_bits(fitted(found.leaves, whole.state), whole.state)
        assert np.array_equal(found.records["image"], whole.image)


def test_a_finished_run_makes_no_step_but_more_can_be_asked_for(tmp_path: Path) -> None:
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
def test_states_of_any_optax_transformation_survive(name: str, tmp_path: Path) -> None:
    def loss(image: Any, args: Any, step: Any) -> Any:
        total = jnp.sum((image - args) ** 2)
        return total, {"squares": total}

    method = optimize.Method(loss, OPTIMIZERS[name], keep_best=True, average=0.9)
    image, wanted = jnp.full((3, 4, 3), 0.25), jnp.linspace(0, 1, 36).reshape(3, 4, 3)
    half = optimize.minimise(method, optimize.start(image, method), wanted, num_steps=3).state
    whole = optimize.minimise(method, half, wanted, num_steps=6).state
    jnst.save_state(tmp_path / "state", half)
    like = jax.eval_shape(partial(optimize.start, method=method), image)
    loaded = fitted(jnst.load_state(tmp_path / "state").leaves, like)
    assert same_bits(loaded, half)
    assert same_bits(optimize.minimise(method, loaded, wanted, num_steps=6).state, whole)


TREE = {
    "brain float": jnp.asarray([1.5, -0.0, jnp.inf, 3e38], jnp.bfloat16),
    "eight bits": jnp.asarray([0.5, 448.0], jnp.float8_e4m3fn),
    "not a number": np.asarray([0x7FC00001, 0xFFC12345], np.uint32).view(np.float32),
    "truth": np.asarray([True, False]),
    "nothing": None,
    "empty": jnp.zeros((0, 3)),
    "number": jnp.int32(-7),
    "long": np.asarray(2**62 + 1, np.int64),
    "double": np.asarray([0.1], np.float64),
    "by rows": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "weak": jnp.broadcast_to(jnp.asarray(0.3), (2,)),
    "nested": ({"a.b['c']": jnp.float16(2.5)}, [np.uint8(3)]),
}


def test_every_type_survives_bit_for_bit(tmp_path: Path) -> None:
    jnst.save_state(tmp_path / "tree", TREE)
    leaves = jnst.load_state(tmp_path / "tree").leaves
    expected = leaves_of(TREE)
    assert set(leaves) == set(expected)
    for name, leaf in expected.items():
        assert (leaves[name].dtype, leaves[name].shape) == (leaf.dtype, leaf.shape), name
        assert np.asarray(leaves[name]).tobytes() == np.asarray(leaf).tobytes(), name
        assert getattr(leaves[name], "weak_type", False) == getattr(leaf, "weak_type", False), name


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_random_keys_survive(kind: str, tmp_path: Path) -> None:
    keys = {"one": jax.random.key(3, impl=kind), "many": jax.random.split(jax.random.key(4, impl=kind), 3)}
    jnst.save_state(tmp_path / "keys", keys)
    leaves = jnst.load_state(tmp_path / "keys").leaves
    assert np.array_equal(jax.random.uniform(leaves["['one']"], (4,)), jax.random.uniform(keys["one"], (4,)))
    assert leaves["['many']"].shape == (3,)
    assert leaves["['many']"].dtype == keys["many"].dtype


def test_other_programs_can_read_the_file(tmp_path: Path) -> None:
    solution = make("adam")
    jnst.save_state(
        tmp_path / "state", solution.state, about={"by": "me", "n": [1, 2]}, records={"a/ü": solution.losses}
    )
    arrays = load_file(tmp_path / "state")
    assert np.array_equal(arrays["state.run.image"], solution.state.run.image)
    assert np.array_equal(arrays["records/a/ü"], solution.losses)
    loaded = jnst.load_state(tmp_path / "state")
    assert loaded.about == {"by": "me", "n": [1, 2]}
    assert np.array_equal(loaded.records["a/ü"], solution.losses)
    assert (tmp_path / "state").read_bytes() == _saved_again(tmp_path, loaded)


def _saved_again(folder: Path, loaded: jnst.SavedState) -> bytes:
    """What was loaded can be saved, and the same content is the same bytes."""
    jnst.save_state(folder / "again", loaded, about=loaded.about, records=loaded.records)
    return (folder / "again").read_bytes()


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (
            "lbfgs",
            {},
            r"it lacks `.run.optimizer\[0\].factor`, .*; this run has no .*`.run.optimizer\[0\].count`",
        ),
        ("adam", {"size": 30}, r"an image of \(10, 12\) at size 1 of its pyramid, but this run has the sizes"),
        ("adam", {"average": 0.0}, r"this run has no `.run.average`"),
        ("adam", {"keep_best": True}, r"it lacks `.run.best\[0\]`, `.run.best\[1\]`\)"),
    ],
)
def test_a_state_of_another_run_is_refused(name: str, changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    def keep(report: optimize.Report) -> bool:
        jnst.save_state(tmp_path / "state", report)
        return True

    state = make("adam", callback=keep).state
    for given in (state, jnst.load_state(tmp_path / "state")):
        with pytest.raises(jnst.JnstError, match=said) as caught:
            make(name, state=given, **changes)
        assert "\n" not in str(caught.value)


def test_a_leaf_of_another_shape_or_type_is_named(tmp_path: Path) -> None:
    state = make("lbfgs").state
    jnst.save_state(tmp_path / "state", state)
    with pytest.raises(
        jnst.JnstError, match=r"`.run.optimizer\[1\].diff_params_memory` is float32 \(3, .*expected float32 \(4, "
    ):
        make("lbfgs", state=jnst.load_state(tmp_path / "state"), optimizer=jnst.LBFGS(memory_size=4))
    run = dataclasses.replace(state.run, step=np.int64(3))
    jnst.save_state(tmp_path / "odd", dataclasses.replace(state, run=run))
    with pytest.raises(jnst.JnstError, match=r"`.run.step` is int64 \(\), expected int32 \(\)"):
        make("lbfgs", state=jnst.load_state(tmp_path / "odd"))


@pytest.mark.parametrize("tree", [{"a": np.zeros(3)}, {".scale": np.zeros(3)}, ()])
def test_what_is_no_state_of_a_run_is_refused(tree: Any, tmp_path: Path) -> None:
    jnst.save_state(tmp_path / "tree", tree)
    with pytest.raises(jnst.JnstError, match="`state` is not that of a run"):
        make("adam", state=jnst.load_state(tmp_path / "tree"))


def test_types_that_the_format_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(jnst.JnstError, match="`state` is of type complex128: expected one of bool, uint8"):
        jnst.save_state(tmp_path / "tree", np.zeros(3, np.complex128))
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_no_states(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content, said in (
        (b"", "it ends too early"),
        (b"\x89PNG" + bytes(60), "it ends too early"),
        (b"\2" + bytes(7) + b"[]", ""),
    ):
        path.write_bytes(content)
        with pytest.raises(jnst.JnstError, match=rf"file' cannot be read .*{said}"):
            jnst.load_state(path)
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(jnst.JnstError, match="file' cannot be read"):
        jnst.load_state(path)
    with pytest.raises(jnst.JnstError, match="there is no such file"):
        jnst.load_state(tmp_path / "missing")


def test_nothing_slows_the_state_down_or_changes_it(tmp_path: Path) -> None:
    """Saving reads the arrays of a step: they are the ones of a run that saves nothing."""
    saving = make("lbfgs", callback=lambda report: jnst.save_state(tmp_path / "state", report))
    assert same_bits(saving.state, make("lbfgs").state)
