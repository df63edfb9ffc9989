"""The saved view of a sweep's trials: MLflow's envelope, what it lists, and in which columns."""

import base64
import json
import zlib

from spd_ray.config.load import load_spec
from spd_ray.tracking.view import view_of

SPACE = "name: mine\ntask: {name: rte, selection: holdout}\nsearch: {p0: {low: 0.2, high: 1.0}}\n"


def test_a_view_is_the_feasible_trials_of_one_sweep_best_first_with_what_was_searched(tmp_path):
    (tmp_path / "mine.yaml").write_text(SPACE)
    view = view_of(load_spec(tmp_path / "mine.yaml"), "0123456789abcdef", "theparent")
    assert view.tag == "mlflow.sharedViewState.0123456789ab"
    assert view.page("7") == "#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=0123456789ab"
    envelope = json.loads(view.envelope(5))
    assert (envelope["name"], envelope["createdAt"], envelope["updatedAt"]) == ("mine", 5, 5)
    kind, _, text = envelope["state"].partition(";")
    assert kind == "deflate"
    state = json.loads(zlib.decompress(base64.b64decode(text)))
    assert state["orderByKey"] == "metrics.`best_holdout_score`"
    assert not state["orderByAsc"]
    assert state["searchFilter"] == (
        "tags.`mlflow.parentRunId` = 'theparent' AND tags.feasible = 'true' AND tags.status != 'failed'"
    )
    shown = [*state["columnOrder"], *state["columnWidths"]]
    assert shown[:4] == ["attributes.`Run Name`", "runDateAndNestInfo", *state["selectedColumns"][:2]]
    assert state["selectedColumns"][:2] == ["metrics.`best_holdout_score`", "metrics.`target_sparsity`"]
    assert {"metrics.`best_holdout_score`", "metrics.`sparsity`", "metrics.`latency_ms`", "params.`method.p0`"} <= {
        *state["selectedColumns"]
    }


def test_a_view_of_one_sparsity_has_a_key_and_a_name_of_its_own(tmp_path):
    (tmp_path / "mine.yaml").write_text(SPACE)
    view = view_of(load_spec(tmp_path / "mine.yaml"), "0123456789abcdef", "theparent", (0.95, 0.95))
    assert (view.key, view.name) == ("0123456789ab-0.95", "mine at sparsity 0.95")
    assert view.search.endswith("AND metrics.target_sparsity >= 0.95 AND metrics.target_sparsity <= 0.95")
