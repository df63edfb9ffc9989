"""`auto` in a space: what the devices decide, resolved once a sweep, when it is known which there are.

Why so: docs/decisions.md #auto-is-resolved-once.
"""

from collections.abc import Mapping
from typing import Any

from spd_ray.config.sweep import SweepSpec

_KEYS = (("resources", "gpus_per_worker"), ("engine", "precision"), ("engine", "zero_stage"))


def resolve(spec: SweepSpec, have: Mapping[str, float]) -> SweepSpec:
    """`spec` on a cluster with the resources `have` (by Ray's names of them): no key is `auto` any more.

    Where there is a GPU, each worker gets one and trains in fp16 with ZeRO 1; elsewhere in fp32 without ZeRO, and on
    GPUs too where the space may ask for `clip_over: all`, which needs all gradients in fp32.
    """
    values: dict[str, Any] = {"gpus_per_worker": 1.0 if have.get("GPU", 0) >= 1 else 0.0}
    on_gpus = _laid_over(spec, values).resources.worker_gpus > 0
    plain = spec.method.clip_over == "all" or "clip_over" in spec.search
    scales = on_gpus and not plain
    return _laid_over(spec, values | {"precision": "fp16" if scales else "fp32", "zero_stage": int(scales)})


def as_begun(spec: SweepSpec, begun: Mapping[str, Any]) -> SweepSpec:
    """`spec` with what `auto` was resolved to when the sweep was `begun`, as its sweep.yaml has the specification."""
    return _laid_over(spec, {key: begun[section][key] for section, key in _KEYS})


def describe(spec: SweepSpec) -> str:
    """What a resolved specification trains on, in a few words.

    `1 GPU a worker, fp16, ZeRO 1`, or `CPUs, fp32, ZeRO 0`.
    """
    gpus = spec.resources.worker_gpus
    return f"{f'{gpus:g} GPU a worker' if gpus else 'CPUs'}, {spec.engine.precision}, ZeRO {spec.engine.zero_stage}"


def _laid_over(spec: SweepSpec, values: Mapping[str, Any]) -> SweepSpec:
    """`spec` with the `values` of those keys that are `auto`."""
    for section, key in _KEYS:
        part = getattr(spec, section)
        if key in values and getattr(part, key) == "auto":
            spec = spec.model_copy(update={section: part.model_copy(update={key: values[key]})})
    return spec
