"""What every section of the YAML is made of: strict, frozen models, and the types of their values."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


def _absolute(path: str) -> str:
    """Workers run in other folders than the driver."""
    return str(Path(path).expanduser().absolute())


LocalPath = Annotated[str, AfterValidator(_absolute)]


class Section(BaseModel):
    """A section of the YAML: unknown keys are refused, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")
