"""What every section of the YAML is made of: strict, frozen models, and the types of their values."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


def _make_absolute(path: str) -> str:
    """Workers run in other folders than the driver."""
    return str(Path(path).expanduser().absolute())


LocalPath = Annotated[str, AfterValidator(_make_absolute)]


class Section(BaseModel):
    """A section of the YAML: unknown keys are refused, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def refuse(message: str, *keys: str) -> PydanticCustomError:
    """The error of a validator that looks at several keys: `keys` of its section ("student.init": of one below).

    Of those that were written down, the one that an override has set is blamed, else the first.
    """
    return refuse_at(message, *(tuple(key.split(".")) for key in keys))


def refuse_at(message: str, *paths: tuple[str | int, ...]) -> PydanticCustomError:
    """As `refuse`, with whole key paths, counted from the section that raises it."""
    return PydanticCustomError("refused", "{message}", {"message": message, "paths": paths})
