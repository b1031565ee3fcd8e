"""Minimise a loss with any Optax transformation: `init`, `step` and `run` are pure functions.

Nothing here knows what an image or a style is: the variables may be any pytree.
"""

from jnst.solve.compilation import keep_programs
from jnst.solve.devices import local_mesh
from jnst.solve.lbfgs import fourier_precondition, scale_by_lbfgs
from jnst.solve.optimizers import LBFGS, OPTIMIZERS, SGD, Adam, RMSprop
from jnst.solve.reparametrise import in_laplacian_pyramid, in_units
from jnst.solve.runs import Solution, init, run, step
from jnst.solve.solver import Solver, State

__all__ = [
    "LBFGS",
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "RMSprop",
    "Solution",
    "Solver",
    "State",
    "fourier_precondition",
    "in_laplacian_pyramid",
    "in_units",
    "init",
    "keep_programs",
    "local_mesh",
    "run",
    "scale_by_lbfgs",
    "step",
]
