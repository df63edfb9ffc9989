"""One dimension of a search: a range or a list of choices, as written in a search space's YAML."""

import math
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from spd_ray.config.section import Section

Value = bool | int | float | str
SLACK = 1e-9  # of a step, or relative: what binary fractions may be off by


def tidy(value: float) -> float:
    """`value` without the last digits of binary fractions: 0.2 + 2 * 0.2 is 0.6."""
    return float(f"{value:.12g}")


class Range(Section):
    """From `low` to `high`, both included; `step` makes it discrete, `log` draws in the logarithm."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low > self.high:
            raise ValueError(f"low <= high must hold, but got {self.low:g} > {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be above 0 with log, but got {self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("log and step do not go together; give one of them")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step must be above 0, but got {self.step:g}")
        if self.step is not None and abs(self.last(self.high) - self.high) > SLACK * self.step:
            raise ValueError(
                f"steps of {self.step:g} from low {self.low:g} do not reach high {self.high:g}, "
                f"the last is {self.last(self.high):g}"
            )
        return self

    def last(self, end: float) -> float:
        """The largest value of the range that is not beyond `end`, at least `low`."""
        end = max(self.low, min(self.high, end))
        if self.step is None:
            return end
        return tidy(self.low + math.floor((end - self.low) / self.step + SLACK) * self.step)

    def values(self) -> list[Value]:
        """The values of a range with a step (or with one value)."""
        if self.low == self.high:
            return [self.low]
        assert self.step is not None
        count = round((self.high - self.low) / self.step) + 1
        exact = isinstance(self.low, int) and isinstance(self.step, int)
        values = [self.low + index * self.step for index in range(count)]
        return list(values) if exact else [tidy(value) for value in values]

    def contains(self, value: Value) -> bool:
        if isinstance(value, bool | str) or not self.low <= value <= self.high:
            return False
        return self.step is None or abs(self.last(value) - value) <= 1e-6 * self.step

    def extremes(self) -> list[tuple[tuple[str | int, ...], Value]]:
        """The values that decide whether every value is allowed, each with the key to blame."""
        second = [] if self.step is None else [(("step",), min(self.low + self.step, self.high))]
        return [(("low",), self.low), (("high",), self.high), *second]

    def __str__(self) -> str:
        step = "" if self.step is None else f" in steps of {self.step:g}"
        return f"{self.low:g} to {self.high:g}{step}"


class Choices(Section):
    """One of the values listed."""

    choices: tuple[Value, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _different(self) -> "Choices":
        for index, value in enumerate(self.choices):
            if value in self.choices[:index]:
                raise ValueError(f"choices must differ, but got {value} twice")
        return self

    def last(self, end: float) -> Value:
        """The largest choice that is not beyond `end`; all choices must be numbers."""
        return max(value for value in self.choices if float(value) <= end * (1 + SLACK))

    def values(self) -> list[Value]:
        return list(self.choices)

    def contains(self, value: Value) -> bool:
        return value in self.choices

    def extremes(self) -> list[tuple[tuple[str | int, ...], Value]]:
        return [(("choices", index), value) for index, value in enumerate(self.choices)]

    def __str__(self) -> str:
        return ", ".join(map(str, self.choices))


def _kind(value: Any) -> str:
    return "choices" if isinstance(value, Choices) or (isinstance(value, dict) and "choices" in value) else "range"


Dimension = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")],
    Discriminator(_kind),
]
