"""The names of the methods, for a command line that needs nothing installed."""

from pathlib import Path

METHODS_FOLDER = Path(__file__).parent / "methods"
METHODS = tuple(sorted(file.stem for file in METHODS_FOLDER.glob("*.yaml")))
