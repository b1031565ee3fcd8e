"""What a run's steps came to, through several starts of the program."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from jnst.errors import ArgumentError
from jnst.solve.run import Report

_TOTAL, _SECONDS, _SCALE, _PARTS = "total", "seconds", "scale", "parts/"


class Records:
    """The total, its parts, the seconds and the size of every step so far, as arrays that can be saved."""

    def __init__(self) -> None:
        self._columns: dict[str, list[np.ndarray]] = {}

    @classmethod
    def loaded(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """From what `arrays` returned.

        Raises:
            ArgumentError: They are none.
        """
        lengths = {array.shape for array in arrays.values()}
        if arrays and (not {_TOTAL, _SECONDS, _SCALE} <= set(arrays) or len(lengths) > 1 or len(*lengths) != 1):
            raise ArgumentError("the checkpoint has no losses of its steps: expected one that `jnst` made, name another")
        records = cls()
        records._columns = {name: [np.asarray(array)] for name, array in arrays.items()}
        return records

    def add(self, report: Report) -> None:
        """Add what is reported."""
        new = {_TOTAL: report.total, **{f"{_PARTS}{name}": values for name, values in report.parts.items()}}
        new |= {_SECONDS: np.full(len(report.total), report.seconds)}
        new |= {_SCALE: np.full(len(report.total), report.scale, np.int32)}
        for name, values in new.items():
            self._columns.setdefault(name, []).append(values)

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, ``(n,)`` each."""
        # Joined once: what comes later is appended to one array, not to thousands.
        self._columns = {name: [np.concatenate(values)] for name, values in self._columns.items()}
        return {name: values for name, (values,) in self._columns.items()}

    @property
    def total(self) -> np.ndarray:
        """The total at each step, ``(n,)``."""
        return self.arrays().get(_TOTAL, np.zeros(0, np.float32))

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """Its weighted parts by name, each ``(n,)``."""
        return {name.removeprefix(_PARTS): array for name, array in self.arrays().items() if name.startswith(_PARTS)}

    @property
    def seconds(self) -> float:
        """How long they took together."""
        return float(self._columns[_SECONDS][-1][-1]) if self._columns else 0.0

    def reports(self) -> Iterator[Report]:
        """Every step's report again, without the states."""
        gone: Any = None
        columns, total, parts = self.arrays(), self.total, self.parts
        for i in range(len(total)):
            part = {name: values[i : i + 1] for name, values in parts.items()}
            seconds, scale = float(columns[_SECONDS][i]), int(columns[_SCALE][i])
            yield Report(i + 1, len(total), total[i : i + 1], part, seconds, gone, gone, scale)

    def odd_steps(self, scale: int, num_steps: Sequence[int]) -> list[str]:
        """What makes these the steps of another run, in words.

        Args:
            scale: The size at which the run stands; 0 for the first.
            num_steps: What is asked for at each size; the last number holds for all further ones.
        """
        made = np.bincount(self.arrays().get(_SCALE, np.zeros(0, np.int32)), minlength=scale + 1)
        odd = list[str]()
        for index in range(scale + 1):
            there, here = int(made[index]), num_steps[min(index, len(num_steps) - 1)]
            if there > here or (there < here and index < scale):
                odd.append(f"steps at size {index + 1}: {there} there, {here} here")
        return odd
