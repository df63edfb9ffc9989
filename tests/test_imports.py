"""Imports beside other work, and without what nobody needs of them."""

import gc
import sys
import threading

import pytest

from spd_ray.base.imports import as_if_missing, import_quickly, imported_beside


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module, which is then to be found by its name."""

    def write(name: str, code: str) -> str:
        (tmp_path / f"{name}.py").write_text(code)
        return name

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_modules_are_imported_in_their_order_while_the_block_runs(module):
    code = "import threading; WHERE = threading.current_thread().name"
    with imported_beside([module("first_of_two", code), module("second_of_two", f"import first_of_two; {code}")]):
        here = threading.current_thread().name
    assert (
        [sys.modules[name].WHERE for name in ("first_of_two", "second_of_two")] == ["imports", "imports"] != [here] * 2
    )


def test_what_fails_beside_says_so_where_it_is_asked_for(module):
    with imported_beside([module("breaks", "raise OSError('no such library')"), module("never", "")]):
        pass
    assert "never" not in sys.modules
    with pytest.raises(OSError, match="no such library"):
        import_quickly("breaks")
    assert gc.isenabled()


def test_a_hidden_package_is_missing_for_the_block_alone(module):
    module("hidden", "")
    with as_if_missing("hidden"), pytest.raises(ModuleNotFoundError):
        import_quickly("hidden")
    with as_if_missing("gc"):
        assert sys.modules["gc"] is gc
    assert import_quickly("hidden").__name__ == "hidden"
