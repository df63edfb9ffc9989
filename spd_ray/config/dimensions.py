"""One dimension of a search: a range or a list of choices, as written in a search space's YAML."""

import math
from random import Random
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from spd_ray.config.section import Section, refuse

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
    def _check_ends(self) -> "Range":
        if self.low > self.high:
            raise refuse(f"low <= high must hold, but got {self.low:g} > {self.high:g}", "low", "high")
        if self.log and self.low <= 0:
            raise refuse(f"low must be above 0 with log, but got {self.low:g}", "low")
        if self.log and self.step is not None:
            raise refuse("log and step do not go together; give one of them", "log", "step")
        if self.step is not None and self.step <= 0:
            raise refuse(f"step must be above 0, but got {self.step:g}", "step")
        if self.step is not None and abs(self._last_step() - self.high) > SLACK * self.step:
            raise refuse(
                f"steps of {self.step:g} from low {self.low:g} do not reach high {self.high:g}, "
                f"the last is {self._last_step():g}",
                "low",
                "step",
                "high",
            )
        return self

    def _last_step(self) -> float:
        assert self.step is not None
        return tidy(self.low + math.floor((self.high - self.low) / self.step + SLACK) * self.step)

    def count(self) -> int | None:
        """How many values it has; None: more than can be counted."""
        if self.low == self.high:
            return 1
        return None if self.step is None else round((self.high - self.low) / self.step) + 1

    def value(self, index: int) -> Value:
        """The value `index` of a range that can be counted."""
        value = self.low + index * (self.step or 0)
        return value if isinstance(value, int) else tidy(value)

    def draw(self, random: Random) -> Value:
        """A value, each as likely as any other (in the logarithm, with log)."""
        count = self.count()
        if count is not None:
            return self.value(random.randrange(count))
        if self.log:
            value = math.exp(random.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = random.uniform(self.low, self.high)
        return tidy(min(max(value, self.low), self.high))

    def contains(self, value: Value | None) -> bool:
        off = SLACK * max(abs(self.low), abs(self.high))
        if value is None or isinstance(value, bool | str) or not self.low - off <= value <= self.high + off:
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return abs(steps - round(steps)) <= 1e-6

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
    def _check_choices_differ(self) -> "Choices":
        for index, value in enumerate(self.choices):
            if value in self.choices[:index]:
                raise refuse(f"choices must differ, but got {value} twice", "choices")
        return self

    def count(self) -> int:
        """How many values it has."""
        return len(self.choices)

    def value(self, index: int) -> Value:
        """The value `index`, in the order of the file."""
        return self.choices[index]

    def draw(self, random: Random) -> Value:
        """One of them, each as likely as any other."""
        return random.choice(self.choices)

    def contains(self, value: Value | None) -> bool:
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
