"""The files of cluster/ for AWS: what Ray's launcher does with them, and what the roles of its machines let it do."""

import copy
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import boto3
import botocore.session
import parliament
import pytest
import yaml
from botocore import xform_name
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config

from places import CLUSTER, ROOT

pytestmark = pytest.mark.jobs

README = (CLUSTER / "README.md").read_text()
AWS = yaml.safe_load((CLUSTER / "ray-up-aws.yaml").read_text())
TYPES = AWS["available_node_types"]
WORKERS = {name: node for name, node in TYPES.items() if name != AWS["head_node_type"]}
POLICIES = {path.stem: json.loads(path.read_text()) for path in (CLUSTER / "aws").iterdir()}
Call = tuple[str, dict[str, Any]]


def test_ray_up_would_accept_it():
    """Ray's schema, and its check of what comes of it with its defaults."""
    validate_config(prepare_config(copy.deepcopy(AWS)))


def test_nobody_is_let_in():
    merged = prepare_config(copy.deepcopy(AWS))
    assert AWS["provider"]["security_group"] == {"GroupName": "sgllie"}
    assert AWS["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    (head,) = [command for command in merged["head_start_ray_commands"] if "ray start" in command]
    assert "--dashboard-host=127.0.0.1" in head
    starts = [*merged["head_start_ray_commands"], *merged["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in command for command in starts if "ray start" in command)
    assert "0.0.0.0" not in json.dumps(merged)


def test_workers_are_spot_and_go():
    assert all(node["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"} for node in WORKERS.values())
    assert all(node["min_workers"] == 0 for node in WORKERS.values())
    assert "InstanceMarketOptions" not in TYPES["head"]["node_config"]
    assert TYPES["head"]["resources"] == {"CPU": 0}
    assert 0 < AWS["idle_timeout_minutes"] <= 10
    assert AWS["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize("has_gpu", [False, True])
def test_triton_finds_a_compiler_and_headers_where_there_is_a_gpu(has_gpu, tmp_path):
    """The step runs in a shell, with programs that only say how they were called."""
    (step,) = [command for command in AWS["setup_commands"] if "apt-get" in command]
    for name, code in {"sudo": 0, "python3": 0, "nvidia-smi": not has_gpu}.items():
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@"\nexit {int(code)}\n')
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    said = subprocess.run(["sh", "-c", step], env=environment, capture_output=True, text=True, check=True).stdout
    packages = " python3-venv gcc python3-dev" if has_gpu else " python3-venv"
    assert said.splitlines()[1].endswith(packages)


@pytest.mark.parametrize(("image", "least"), [("ami-cpu", 4), ("ami-gpu", 2)])
def test_there_are_several_types_of_spot(image, least):
    kinds = {
        node["node_config"]["InstanceType"] for node in WORKERS.values() if node["node_config"]["ImageId"] == image
    }
    assert len(kinds) >= least
    sizes = {kind.split(".")[1] for kind in kinds}
    assert len(sizes) == 1, "as many processors each, whichever comes"
    assert f"s/{image}/" in README, "README.md says how to fill them in"


@pytest.mark.parametrize("name", TYPES)
def test_machines_are_hard_to_misuse(name):
    config = TYPES[name]["node_config"]
    assert config["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    (disk,) = config["BlockDeviceMappings"]
    assert disk["Ebs"]["Encrypted"] is True
    assert disk["Ebs"]["DeleteOnTermination"] is True
    # Only the head may start machines.
    assert config["IamInstanceProfile"]["Name"] == ("sgllie-head" if name == "head" else "sgllie-worker")


def test_commands_are_shell_and_their_files_exist():
    merged = prepare_config(copy.deepcopy(AWS))
    commands = [command for key, value in merged.items() if key.endswith("_commands") for command in value]
    assert commands
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)
        assert "anaconda" not in command, "one of Ray's defaults is left"
    mounted = [local for local in AWS["file_mounts"].values() if not local.startswith("~")]
    assert mounted
    assert all((ROOT / local).is_file() for local in mounted)


def findings(policy: dict[str, Any]) -> set[str]:
    """Return what parliament, which knows every action, resource and condition of AWS, has to say of a policy.

    It wants all that RunInstances touches in one statement; here each kind has a statement with its own conditions.
    """
    found = parliament.analyze_policy_string(json.dumps(policy)).findings
    split = {
        one.issue for one in found if "ec2:RunInstances" in json.dumps(one.detail) and one.issue == "RESOURCE_MISMATCH"
    }
    return {one.issue for one in found} - split


@pytest.mark.parametrize("name", ["files", "workers"])
def test_parliament_has_nothing_to_say_of_the_roles(name):
    assert findings(POLICIES[name]) == set()
    assert POLICIES.keys() == {"files", "trust", "workers"}


@pytest.mark.parametrize(
    ("change", "issue"),
    [
        ({"Action": "ec2:TerminateInstance"}, "UNKNOWN_ACTION"),
        ({"Resource": "arn:aws:s3:::my-bucket"}, "RESOURCE_MISMATCH"),
        ({"Condition": {"StringEquals": {"s3:prefix": "x"}}}, "UNKNOWN_CONDITION_FOR_ACTION"),
        ({"Resourse": "*"}, "MALFORMED"),
    ],
)
def test_parliament_finds_mistakes(change, issue):
    (end,) = [one for one in POLICIES["workers"]["Statement"] if one["Sid"] == "TagAndEndMachinesOfThisCluster"]
    assert issue in findings(POLICIES["workers"] | {"Statement": [end | change]})


def as_list(value: Any) -> list[Any]:
    """Return a value of a policy, which may stand for a list of itself."""
    return value if isinstance(value, list) else [value]


def allows(policy: dict[str, Any], action: str, resource: str, context: dict[str, str]) -> bool:
    """Tell whether a policy without denials allows an action on a resource, given what AWS knows of the request.

    By https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html: a key
    that the request lacks matches nothing.
    """
    operators = {"StringEquals": str.__eq__, "Bool": str.__eq__, "ArnLike": fnmatchcase}
    return any(
        action in as_list(one["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in as_list(one["Resource"]))
        and all(
            key in context and operators[operator](context[key], wanted)
            for operator, keys in one.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
        for one in policy["Statement"]
    )


def requests(call: Call, cluster: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the action, resource and context of each decision that AWS makes on a call; its machines are of a cluster.

    By https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html.
    """
    name, given = call
    here = "arn:aws:ec2:us-west-2:123456789012:"
    if name == "DescribeInstances":
        yield f"ec2:{name}", "*", {}
    elif name in ("CreateTags", "TerminateInstances"):
        for machine in given.get("Resources") or given["InstanceIds"]:
            yield f"ec2:{name}", f"{here}instance/{machine}", {"aws:ResourceTag/ray-cluster-name": cluster}
    elif name == "RunInstances":
        (tagged,) = given["TagSpecifications"]
        profile = given["IamInstanceProfile"]["Name"]
        context = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in tagged["Tags"]} | {
            "ec2:MetadataHttpTokens": given.get("MetadataOptions", {}).get("HttpTokens", "optional"),
            "ec2:InstanceProfile": f"arn:aws:iam::123456789012:instance-profile/{profile}",
        }
        yield f"ec2:{name}", f"{here}instance/*", context
        yield "ec2:CreateTags", f"{here}{tagged['ResourceType']}/*", {"ec2:CreateAction": name}
        yield f"ec2:{name}", f"arn:aws:ec2:us-west-2::image/{given['ImageId']}", {}
        for kind in ("key-pair", "network-interface", "security-group", "subnet"):
            yield f"ec2:{name}", f"{here}{kind}/x", {}
        for disk in given["BlockDeviceMappings"]:
            encrypted = {"ec2:Encrypted": str(disk["Ebs"].get("Encrypted", False)).lower()}
            yield f"ec2:{name}", f"{here}volume/*", encrypted
        passed = {"iam:PassedToService": "ec2.amazonaws.com"}
        yield "iam:PassRole", f"arn:aws:iam::123456789012:role/{profile}", passed
    else:
        raise AssertionError(f"the head calls {name}")


def is_allowed(call: Call, cluster: str = "sgllie") -> bool:
    """Tell whether the head's role allows a call, all of it."""
    return all(allows(POLICIES["workers"], *request) for request in requests(call, cluster))


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> Iterator[dict[str, dict[str, Any]]]:
    """What Ray's autoscaler asks of EC2 to start, tag, watch and end a worker: the last call of each name."""
    home = tmp_path_factory.mktemp("home")
    (home / ".ssh").mkdir()
    made: dict[str, dict[str, Any]] = {}
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("HOME", str(home))
        patch.setattr(boto3, "DEFAULT_SESSION", boto3.Session(region_name=AWS["provider"]["region"]))
        ec2 = boto3.client("ec2")
        group = ec2.create_security_group(GroupName="sgllie", Description="sgllie")["GroupId"]
        inside = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[inside])
        boto3.client("iam").create_instance_profile(InstanceProfileName="sgllie-worker")
        config = prepare_config(copy.deepcopy(AWS))
        image = ec2.register_image(Name="image", RootDeviceName="/dev/sda1")["ImageId"]
        for node in config["available_node_types"].values():
            node["node_config"]["ImageId"] = image
        config = bootstrap_aws(config)  # with the rights of whoever runs `ray up`
        (found,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
        assert len(found["IpPermissions"]) == 1, "Ray lets somebody in"
        assert {*config["available_node_types"]["head"]["node_config"]["SecurityGroupIds"]} == {group}
        boto3.DEFAULT_SESSION.events.register(
            "before-parameter-build.ec2", lambda params, model, **_: made.update({model.name: copy.deepcopy(params)})
        )
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        tags = {"ray-node-type": "worker", "ray-node-name": "worker", "ray-user-node-type": "cpu-c7i"}
        provider.create_node(config["available_node_types"]["cpu-c7i"]["node_config"], tags, 1)
        (machine,) = provider.non_terminated_nodes({})
        provider.set_node_tags(machine, {"ray-node-status": "up-to-date"})
        assert provider.internal_ip(machine)
        provider.terminate_nodes([machine])
        yield made


def test_the_head_may_do_what_ray_asks(calls):
    assert calls.keys() == {"RunInstances", "DescribeInstances", "CreateTags", "TerminateInstances"}
    assert [name for name, given in calls.items() if not is_allowed((name, given))] == []


@pytest.mark.parametrize("name", ["CreateTags", "TerminateInstances"])
def test_the_head_leaves_other_machines_alone(calls, name):
    assert not is_allowed((name, calls[name]), cluster="another")


@pytest.mark.parametrize(
    "change",
    [
        {"TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "sgllie"}]}]},
        {"MetadataOptions": {"HttpTokens": "optional"}},
        {"MetadataOptions": {}},
        {"IamInstanceProfile": {"Name": "sgllie-head"}},
        {"BlockDeviceMappings": [{"Ebs": {"VolumeSize": 60}}]},
    ],
)
def test_the_head_starts_no_other_kind_of_machine(calls, change):
    assert not is_allowed(("RunInstances", calls["RunInstances"] | change))


def shown_commands() -> list[list[str]]:
    """Return the words of each command of `aws` that README.md shows, inside $(...) and loops, too."""
    blocks = re.findall(r"^```\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ")
    found = re.findall(r"\baws ((?:[^\n()$;|]|\$\(curl[^)]*\)|\$\w)+)", lines)
    return [shlex.split(re.sub(r"\$\([^)]*\)", "X", one)) for one in found]


@pytest.mark.parametrize("words", shown_commands(), ids=" ".join)
def test_commands_of_the_readme_are_known_to_aws(words):
    """Service, operation and parameters, by the models that the `aws` command line is made of."""
    service, operation, *rest = words
    model = botocore.session.get_session().get_service_model(service)
    names = {xform_name(name, "-"): name for name in model.operation_names}
    members = model.operation_model(names[operation]).input_shape
    options = {xform_name(name, "-") for name in members.members} | {"query", "output"}
    shorthand = {"protocol", "port", "cidr", "source-group"} if "security-group" in operation else set()
    given = {word.removeprefix("--") for word in rest if word.startswith("--")}
    assert given <= options | shorthand
    required = {xform_name(name, "-") for name in members.required_members}
    assert required <= given


def test_the_readme_sets_up_the_roles():
    commands = [" ".join(words[:2]) for words in shown_commands()]
    assert {"iam create-role", "iam put-role-policy", "iam add-role-to-instance-profile"} <= set(commands)
    assert all(f"file://cluster/aws/{name}.json" in README for name in POLICIES)
