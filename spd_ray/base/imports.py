"""Imports that take seconds: without what nobody needs of them, and beside other work.

Why so: docs/decisions.md #the-first-step-in-seconds.
"""

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from threading import Thread
from types import ModuleType


def import_quickly(module: str) -> ModuleType:
    """The module. Modules are no garbage, and an import takes a quarter less time without looking for it."""
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def imported_beside(modules: Sequence[str]) -> Iterator[None]:
    """Import the modules in a thread of their own while the block runs; they are imported when it ends in order.

    The block may import none of what they import in a circle. An import that fails does so again where it is next
    asked for, which says why.
    """

    def import_all() -> None:
        for module in modules:
            try:
                import_quickly(module)
            except Exception:  # not lost: see above
                return

    thread = Thread(target=import_all, name="imports")
    thread.start()
    yield
    thread.join()


@contextmanager
def as_if_missing(module: str) -> Iterator[None]:
    """For imports of other packages that take `module` where it is installed; one that is loaded already stays.

    No other thread may want it meanwhile.
    """
    loaded = module in sys.modules
    if not loaded:
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not loaded:
            del sys.modules[module]
