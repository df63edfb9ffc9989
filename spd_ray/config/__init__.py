"""What a person writes, checked once: from YAML to a `SweepSpec`, from a point of its space to a `TrialConfig`.

May import equations (for the names of schedules, loss terms, criteria and patterns) and base. Hands out `load_spec`,
`SweepSpec`, `TrialConfig`, the `Timeline` in which everything is in steps, and the methods and presets that YAML
files beside the code compose. An error names file, line, key and value.
"""

from pathlib import Path

# Here, for a command line that needs nothing installed.
METHODS_FOLDER = Path(__file__).parent / "methods"
METHODS = tuple(sorted(file.stem for file in METHODS_FOLDER.glob("*.yaml")))
