"""The cluster files: Ray's own validation, a mock EC2, Kubernetes' schemas, shellcheck. No cluster is needed."""

import base64
import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import boto3
import kubernetes_validate
import numpy as np
import pytest
import torch
import yaml
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.util import prepare_config, validate_config
from transformers import BertConfig, BertForSequenceClassification

from spd_ray.base.network import free_port
from spd_ray.checks import room
from spd_ray.checks.untrained import Untrained
from spd_ray.config import auto
from spd_ray.config.load import load_spec
from spd_ray.data.batches import EncodedSplit
from tests.waiting import wait_for

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster"
BIN = Path(sys.prefix) / "bin"
REGION = "us-west-2"


def status(url: str, host: str | None = None) -> int:
    """The HTTP status of `url`, asked for under the name `host`; 0 where nobody answers."""
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@contextlib.contextmanager
def running(words: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process with all that it starts, ended afterwards."""
    process = subprocess.Popen(words, start_new_session=True, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


class Aws(NamedTuple):
    """A mock account, made ready as gpu.yaml's head comment says, and gpu.yaml filled in for it."""

    ec2: Any
    image: str
    group: str
    config: Path


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    home, port = tmp_path_factory.mktemp("home"), free_port()
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text("a-token-of-a-test")
    with pytest.MonkeyPatch.context() as patch, running([str(BIN / "moto_server"), "-p", str(port)]):
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("HOME", str(home))
        wait_for(lambda: status(f"http://127.0.0.1:{port}/moto-api/"))
        ec2 = boto3.client("ec2", REGION)
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        group = ec2.create_security_group(GroupName="spd-ray", Description="spd-ray", VpcId=vpc)["GroupId"]
        inside = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}
        ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "198.51.100.7/32"}]}
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[inside, ssh])
        used_ray_before(boto3.client("iam", REGION))
        image = ec2.describe_images()["Images"][0]["ImageId"]
        filled = {"FILL_IN_IMAGE": image, "FILL_IN_BUCKET": "a-bucket"}
        text = (CLUSTER / "gpu.yaml").read_text()
        for word, value in filled.items():
            text = text.replace(word, value)
        (home / "gpu.yaml").write_text(text)
        yield Aws(ec2, image, group, home / "gpu.yaml")


def used_ray_before(iam: Any) -> None:
    """The workers' profile, and Ray's, which it makes itself in a fresh account, with two waits of 15 seconds."""
    for name in ("spd-ray-worker", "ray-autoscaler-v1"):
        iam.create_instance_profile(InstanceProfileName=name)
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


def prepared(aws: Aws) -> dict[str, Any]:
    """gpu.yaml as Ray prepares, validates and bootstraps it; raises where it is not valid."""
    config = prepare_config(yaml.safe_load(aws.config.read_text()))
    validate_config(config)
    return _bootstrap_config(config, no_config_cache=True)


def test_gpu_yaml_is_valid_and_ec2_knows_its_types(aws):
    types = prepared(aws)["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert types["gpu_spot"]["resources"]["GPU"] == types["gpu_on_demand"]["resources"]["GPU"] == 1
    assert [types[name]["min_workers"] for name in ("gpu_spot", "gpu_on_demand")] == [0, 0]


def test_a_misspelt_key_of_gpu_yaml_is_refused(aws):
    config = yaml.safe_load(aws.config.read_text())
    with pytest.raises(Exception, match="idle_timeout"):
        validate_config(prepare_config(config | {"idle_timeout_minute": 5}))


def profiles_of(aws):
    """What is asked for the instance profiles, which the mock attaches after the instance is listed."""
    return lambda: aws.ec2.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]


def test_ray_up_creates_the_head_at_the_mock_ec2(aws):
    words = [str(BIN / "ray"), "up", str(aws.config), "--yes", "--no-config-cache"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_TMPDIR": str(aws.config.parent)}
    with running(words, cwd=ROOT, env=environment, **quiet):
        reservations = wait_for(lambda: aws.ec2.describe_instances()["Reservations"])
        profiles = wait_for(profiles_of(aws))
    (head,) = reservations[0]["Instances"]
    tags = {tag["Key"]: tag["Value"] for tag in head["Tags"]}
    assert (head["InstanceType"], head["ImageId"]) == ("m7i.2xlarge", aws.image)
    assert [group["GroupId"] for group in head["SecurityGroups"]] == [aws.group]
    assert tags["ray-node-type"] == "head"
    assert tags["ray-cluster-name"] == "spd-ray"
    assert head["KeyName"] == f"ray-autoscaler_{REGION}"
    assert profiles[0]["IamInstanceProfile"]["Arn"].endswith("ray-autoscaler-v1")
    encoded = aws.ec2.describe_instance_attribute(InstanceId=head["InstanceId"], Attribute="userData")["UserData"]
    cloud = yaml.safe_load(base64.b64decode(encoded["Value"]))
    assert "efs" not in str(cloud)
    assert "export RAY_AUTH_MODE=token" in cloud["write_files"][0]["content"]
    rules = aws.ec2.describe_security_groups(GroupIds=[aws.group])["SecurityGroups"][0]["IpPermissions"]
    assert "0.0.0.0/0" not in str(rules)


def test_workers_are_spot_and_on_demand_at_the_mock_ec2(aws):
    config = prepared(aws)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, lifecycle in (("gpu_spot", "spot"), ("gpu_on_demand", None)):
        node = config["available_node_types"][name]["node_config"]
        made = provider.create_node(node, {"ray-node-type": "worker", "ray-user-node-type": name}, 1)
        (instance,) = made.values()
        (worker,) = aws.ec2.describe_instances(InstanceIds=[instance.id])["Reservations"][0]["Instances"]
        assert (worker["InstanceType"], worker.get("InstanceLifecycle")) == ("g5.xlarge", lifecycle)
        assert [group["GroupId"] for group in worker["SecurityGroups"]] == [aws.group]
        filters = [{"Name": "instance-id", "Values": [instance.id]}]
        (profile,) = aws.ec2.describe_iam_instance_profile_associations(Filters=filters)[
            "IamInstanceProfileAssociations"
        ]
        assert profile["IamInstanceProfile"]["Arn"].endswith("spd-ray-worker")


def test_the_token_and_all_that_is_installed_reach_every_node():
    for name in ("gpu.yaml", "local.yaml"):
        config = yaml.safe_load((CLUSTER / name).read_text())
        mounts = config["file_mounts"]
        assert any(there.endswith(".ray/auth_token") for there in mounts)
        assert all((ROOT / here).exists() for here in mounts.values() if not here.startswith("~"))
        assert any("constraints.txt torch" in line for line in config["setup_commands"])
        starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
        starts = [line for line in starts if "ray start" in line]
        assert len(starts) == 2
        assert all("RAY_AUTH_MODE=token" in line for line in starts)
        assert "--dashboard-host=127.0.0.1" in starts[0]


def test_gpu_yamls_mlflow_answers_on_loopback_and_to_its_own_names_alone(tmp_path):
    (line,) = [line for line in read("gpu.yaml")["head_start_ray_commands"] if "mlflow server" in line]
    port = free_port()
    line = line.replace("5000", str(port)).replace("~/venv/bin", str(BIN)).replace("~/mlflow.log", f"{tmp_path}/log")
    line = line.replace("/home/ubuntu/mlflow", str(tmp_path)).replace(
        "s3://FILL_IN_BUCKET/mlflow", str(tmp_path / "art")
    )
    with running(["bash", "-c", line.replace("nohup setsid", "exec").rstrip(" &")]):
        page = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
        wait_for(lambda: status(page) == 200)
        assert status(page, host=f"localhost:{port}") == 200
        assert status(page, host="evil.example") == 403
        assert listeners(port) == {"0100007F"}


def test_mlflows_database_has_a_copy_in_the_bucket_that_a_new_head_begins_from(aws, tmp_path):
    """The lines of gpu.yaml, at the mock: nothing to fetch at first, then a copy of what MLflow is writing."""
    boto3.client("s3", REGION).create_bucket(
        Bucket="a-bucket", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    text = aws.config.read_text().replace("~/venv/bin/python ~/spd_ray", f"{sys.executable} {ROOT}")
    lines = [line for line in yaml.safe_load(text)["head_start_ray_commands"] if "mlflow_copy.py" in line]
    fetch, keep = (line.replace("~/", f"{tmp_path}/").replace("nohup setsid", "exec").rstrip(" &") for line in lines)
    database = tmp_path / "mlflow/mlflow.db"
    subprocess.run(["bash", "-c", fetch], check=True)
    assert not database.exists()
    with contextlib.closing(sqlite3.connect(database)) as mlflow, running(["bash", "-c", keep]):
        mlflow.execute("PRAGMA journal_mode=WAL")
        mlflow.execute("CREATE TABLE runs (name TEXT)")
        mlflow.execute("INSERT INTO runs VALUES ('one')")
        mlflow.commit()
        kept = boto3.client("s3", REGION)
        wait_for(lambda: kept.list_objects_v2(Bucket="a-bucket").get("Contents"))
    for file in database.parent.iterdir():
        file.unlink()
    subprocess.run(["bash", "-c", fetch], check=True)
    with contextlib.closing(sqlite3.connect(database)) as mlflow:
        assert mlflow.execute("SELECT name FROM runs").fetchall() == [("one",)]


def listeners(port: int) -> set[str]:
    """The IPv4 addresses, as the kernel writes them, at which somebody listens on `port`."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / name).read_text())


# What the RayJob type of KubeRay's ray.io/v1 has, of its documented fields; pods are checked by Kubernetes' own schema.
JOB = {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec", "runtimeEnvYAML", "jobId"}
JOB |= {"backoffLimit", "submissionMode", "suspend", "activeDeadlineSeconds", "submitterPodTemplate", "metadata"}
RAY = {"rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs"}
HEAD = {"serviceType", "rayStartParams", "template", "headService", "enableIngress"}
WORKER = {"groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "rayStartParams", "template"}


def test_kuberay_yaml_has_the_operators_fields():
    claim, job = yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())
    kubernetes_validate.validate(claim, "1.37", strict=True)
    ray = job["spec"]["rayClusterSpec"]
    head, (worker,) = ray["headGroupSpec"], ray["workerGroupSpecs"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job["spec"]) <= JOB
    assert set(ray) <= RAY
    assert set(head) <= HEAD
    assert set(worker) <= WORKER
    assert ray["authOptions"] == {"mode": "token"}
    assert worker["minReplicas"] <= worker["replicas"] <= worker["maxReplicas"]
    for group in (head, worker):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, "1.37", strict=True)
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in head["template"]["spec"]["volumes"]]
    assert claims == [claim["metadata"]["name"]]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert "volumes" not in worker["template"]["spec"]


@pytest.fixture(scope="module")
def bert_base() -> room.Room:
    """What a trial of the six tasks takes on a GPU, where its longest batches have the 128 tokens of the paper."""
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig())
    split = EncodedSplit(torch.zeros(2, 128), None, torch.zeros(2), np.array([128, 128]))
    sample = SimpleNamespace(train=split)
    untrained = Untrained(
        model, None, split, sample, train_examples=2, chooser_examples=2, labels=None, is_pretrained=True
    )
    spec = auto.resolve(load_spec(ROOT / "search_spaces" / "rte.yaml"), {"GPU": 1.0})
    return room.room_of(spec.trial_config(spec.first_points()[0], 0), untrained, 4680, ranks=1, gpu=True)


MACHINES = {"g5.xlarge": (4, 16, 24)}  # CPUs, GiB of memory, GiB of its GPU


def test_the_workers_have_room_for_the_trials_that_they_get(bert_base):
    """One trial a GPU, as `auto` has it, or two; Ray keeps up to 30% of memory for objects, the system 1 GiB."""
    (_, job) = yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())
    (pod,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    types = read("gpu.yaml")["available_node_types"]
    found = [MACHINES[types[kind]["node_config"]["InstanceType"]][1:] for kind in ("gpu_spot", "gpu_on_demand")]
    found += [(int(pod["resources"]["limits"]["memory"].removesuffix("Gi")), 16)]
    slurm = (CLUSTER / "slurm.sbatch").read_text()
    found += [(int(size), 16) for size in re.findall(r"^#SBATCH --mem=(\d+)G$", slurm, re.MULTILINE)]
    assert len(found) == 4
    for memory, gpu in found:
        assert 2 * bert_base.memory <= 0.7 * memory * room.GIB - room.GIB
        assert bert_base.on_gpu(gpu * room.GIB) >= 2
    assert room.in_words(bert_base.device) == "4.3 GiB"
    assert room.in_words(bert_base.memory) == "4.0 GiB"
    assert room.in_words(2 * bert_base.state + bert_base.student) == "2.5 GiB"


def test_versions_of_the_files_are_those_of_the_constraints():
    (ray,) = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    (_, job) = yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == ray
    assert f"FROM rayproject/ray:{ray}-" in (CLUSTER / "Dockerfile").read_text()


def test_every_file_says_what_it_costs_what_to_fill_in_and_the_commands():
    for name in ("gpu.yaml", "local.yaml", "kuberay.yaml", "slurm.sbatch"):
        lines = (CLUSTER / name).read_text().splitlines()
        comment = [line for line in lines if line.startswith("#")]
        for word in ("Costs", "Fill in", "ubmit", "Watch", "Fetch", "Go on", "Down", "Tested"):
            assert any(word in line for line in comment), f"{name}: {word}"
        body = "\n".join(line for line in lines if not line.startswith("#"))
        for placeholder in set(re.findall(r"FILL_IN_\w+", body)):
            assert any(placeholder in line for line in comment), f"{name}: {placeholder}"


def test_slurm_script_is_sound():
    script = str(CLUSTER / "slurm.sbatch")
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", script], check=True)
