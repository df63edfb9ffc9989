"""What a check says: a level, what was seen, how to mend it."""

from collections.abc import Callable
from typing import NamedTuple

from spd_ray.base.errors import UserError

OK, WARNING, FAILED = "ok", "warning", "failed"


class Finding(NamedTuple):
    """What a check found, and how to fix it."""

    level: str
    check: str
    text: str
    mend: str = ""


def run_check(name: str, check: Callable[[], Finding]) -> Finding:
    """`check`, or a failed finding for whatever it raises; a `UserError` says itself how to mend it."""
    try:
        return check()
    except UserError as error:
        return Finding(FAILED, name, str(error))
    except Exception as error:
        return Finding(FAILED, name, describe_error(error), "see the error")


def describe_error(error: BaseException) -> str:
    """An error's type and first line."""
    lines = str(getattr(error, "cause", None) or error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
