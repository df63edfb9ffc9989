"""What a sweep says about itself in JSON and YAML, brought to one form whatever schema version it was written under.

| version | a trial's configuration (column `config`)        | sweep.yaml      |
|---------|--------------------------------------------------|-----------------|
| 2       | `method_name` beside `method`                    | `spec: trial:`  |
| 3       | `method: name:`                                  | `spec: method:` |

The columns of trials.parquet and of the steps are the same in both.

Why so: docs/decisions.md #schema-versions, #older-sweeps.
"""

import json
from typing import Any, NamedTuple

import yaml

SCHEMA_VERSIONS = ("2", "3")  # that are read


class Description(NamedTuple):
    """What sweep.yaml says that the analysis needs; None where it does not say."""

    sampler: str | None  # what drew the configurations: "grid", "random" or "tpe"
    tracking_uri: str | None  # where MLflow is; None for the sweep's own file
    searched: tuple[str, ...] = ()  # the dimensions, in the order of the file: "p0", "objective.hidden", "method"
    rates_times: float = 1.0  # how many times the paper's learning rates the sweep's are


def parse_description(text: str) -> Description:
    """The description in the text of sweep.yaml, of either version. What is absent or no YAML says nothing.

    >>> parse_description("spec: {study: {sampler: tpe}, tracking: {uri: null}, search: {p0: {low: 0.2, high: 1}}}")
    Description(sampler='tpe', tracking_uri=None, searched=('p0',), rates_times=1.0)
    """
    try:
        spec = _section(yaml.safe_load(text), "spec")
    except yaml.YAMLError:
        spec = {}
    return Description(
        sampler=_section(spec, "study").get("sampler"),
        tracking_uri=_section(spec, "tracking").get("uri"),
        searched=tuple(map(str, _section(spec, "search"))),
        rates_times=float(spec.get("rates_times", 1.0)),
    )


def _section(mapping: Any, key: str) -> dict[str, Any]:
    section = mapping.get(key) if isinstance(mapping, dict) else None
    return section if isinstance(section, dict) else {}


def parse_config(text: str) -> dict[str, Any]:
    """A trial's configuration from its JSON, of either version, in the form of version 3.

    >>> parse_config('{"seed": 0, "method_name": "spd", "method": {"p0": 0.6}}')
    {'seed': 0, 'method': {'name': 'spd', 'p0': 0.6}}
    """
    config = json.loads(text)
    if "method_name" in config:  # version 2
        config["method"] = {"name": config.pop("method_name"), **config["method"]}
    return config


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested configuration as "section.key" -> value in JSON.

    >>> flatten({"seed": 0, "method": {"name": "spd"}})
    {'seed': '0', 'method.name': '"spd"'}
    """
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(value)
    return flat
