"""What a user can mend: one line, exit code 2."""

import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(ValueError):
    """A wrong input. The message is one line: which file, key and value, and what would be right."""


def run_main(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's `main`; a `UserError` becomes one line on stderr and exit code 2."""
    try:
        code = main()
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        code = 2
    sys.exit(code or 0)
