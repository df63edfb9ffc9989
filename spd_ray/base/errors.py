"""Errors that a user can fix: one line on stderr, exit code 2.

Why so: docs/decisions.md #one-line-and-exit-code-2.
"""

import difflib
import errno
import gc
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

INTERRUPTED = 130  # the exit code of what Ctrl-C stopped
_WORDS = {
    "Input should be": "must be",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid boolean": "true or false",
    "a valid dictionary": "a mapping",
    "a valid array": "a list",
    "be an object": "be a mapping",
    "Tuple should have at least 1 item after validation, not 0": "must have at least one item",
    "String should match pattern '^[A-Za-z0-9_-]+$'": "must be letters, digits, - and _",
}
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # what is fixed outside of this program


def counted(count: int, noun: str) -> str:
    """The count with its noun.

    >>> counted(1, "seed"), counted(1200, "trial")
    ('1 seed', '1,200 trials')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


class UserError(ValueError):
    """A wrong input. The message is one line: which file, key and value, and what would be right."""


class StorageError(OSError):
    """An object store refused to store, return or delete something. The message is the reason."""


def storage_refusal(error: BaseException | None) -> str | None:
    """Why the storage refuses writes (full, over quota, read-only, unreachable), if that is what caused `error`.

    Libraries in C++ and Rust raise errors of their own, which give the reason in their message alone.

    >>> storage_refusal(OSError(errno.ENOSPC, "No space left on device"))
    'No space left on device'
    """
    while error is not None:
        if isinstance(error, StorageError):
            return str(error)
        for number in _REFUSALS:
            words = os.strerror(number)
            if (isinstance(error, OSError) and error.errno == number) or words in str(error):
                return words
        error = error.__cause__ or error.__context__
    return None


def run_main(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's `main`; a `UserError` becomes one line on stderr and exit code 2."""
    try:
        code = main()
    except UserError as error:
        print("error: " + without_passwords(" ".join(str(error).split())), file=sys.stderr)
        code = 2
    gc.freeze()  # else the interpreter spends seconds on collecting garbage among all modules before it exits
    sys.exit(code or 0)


def without_passwords(text: str) -> str:
    """`text` with the passwords of the URIs in it masked.

    >>> without_passwords("http://me:secret@host:5000 refuses")
    'http://me:***@host:5000 refuses'
    """
    return re.sub(r"(://[^/@\s:]*:)[^/@\s]*@", r"\1***@", text)


def nearest(word: str, words: Iterable[str]) -> str:
    """`did you mean p0?`, or all of `words` if none is similar."""
    words = list(words)
    close = difflib.get_close_matches(word, words, n=1)
    return f"did you mean {close[0]}?" if close else f"it must be one of {', '.join(words)}"


def plain(message: str) -> str:
    """Pydantic's message in this project's words.

    >>> plain("Input should be a valid integer, got a number with a fractional part")
    'must be a whole number, got a number with a fractional part'
    """
    message = message.removeprefix("Value error, ")
    for pydantic_words, words in _WORDS.items():
        message = message.replace(pydantic_words, words)
    return message
