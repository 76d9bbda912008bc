"""The files of cluster/ that make the image and the job's package: what Docker and Ray would say of them."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import dockerfile
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from pathspec import PathSpec
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package

from places import CLUSTER, ROOT

pytestmark = pytest.mark.jobs

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE = dockerfile.parse_file(str(CLUSTER / "Dockerfile"))


def pins() -> dict[str, Version]:
    """The versions in constraints.txt."""
    lines = [line for line in (CLUSTER / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {name: Version(version) for name, version in (line.split("==") for line in lines)}


def test_constraints_hold_every_dependency():
    """To renew: the command at the top of constraints.txt."""
    found = pins()
    for requirement in map(Requirement, PROJECT["dependencies"] + PROJECT["optional-dependencies"]["serve"]):
        name = canonicalize_name(requirement.name)
        assert name in found, requirement
        assert requirement.specifier.contains(found[name]), requirement


def test_images_and_machines_are_installed_by_the_same_uv():
    files = (CLUSTER / name for name in ("Dockerfile", "ray-up-aws.yaml"))
    assert len({version for file in files for version in re.findall(r"\buv==(\S+)", file.read_text())}) == 1


def test_hadolint_has_nothing_to_say_of_the_dockerfile():
    linter = Path(sys.executable).with_name("hadolint")
    result = subprocess.run([linter, CLUSTER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_image_is_pinned_and_not_root():
    values = {}
    for command in DOCKERFILE:
        values.setdefault(command.cmd.upper(), []).append(command.value)
    base, device, *_ = (value[0] for value in values["ARG"])
    assert re.fullmatch(r"BASE=python:3\.11\.14-slim-bookworm@sha256:[0-9a-f]{64}", base)
    assert device == "DEVICE=cpu"
    assert {value[0] for value in values["FROM"]} == {"${BASE}"}
    assert DOCKERFILE[-1].cmd.upper() == "CMD"
    assert values["USER"] == [("1000",)]
    given = [name for value in values["ENV"] for name in value[::2]]
    assert not [name for name in given if re.search("KEY|SECRET|PASSWORD|TOKEN", name)]
    assert dict(zip(given, values["ENV"][0][1::2], strict=True))["RAY_AUTH_MODE"] == "token"


def test_the_image_is_made_of_files_that_docker_is_sent():
    sent = PathSpec.from_lines("gitignore", (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines())
    copies = [command for command in DOCKERFILE if command.cmd.upper() == "COPY" and not command.flags]
    sources = [source for command in copies for source in command.value[:-1]]
    assert "sgllie" in sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not sent.match_file(source), f"{source} is left out by Dockerfile.dockerignore"
    assert sent.match_file(".git/config")


def run_step(part):
    """The only RUN of the Dockerfile that holds this."""
    (step,) = [command.value[0] for command in DOCKERFILE if command.cmd.upper() == "RUN" and part in command.value[0]]
    return step


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_triton_finds_a_compiler_where_there_is_a_gpu(device, tmp_path):
    for name in ("apt-get", "rm", "useradd"):
        (tmp_path / name).write_text('#!/bin/sh\necho "$@"\n')
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": str(tmp_path), "DEVICE": device}
    line = ["/bin/sh", "-c", run_step("apt-get install")]
    result = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    assert (" wget gcc libc6-dev\n" in result.stdout) == (device == "cuda")
    assert "wget" in result.stdout


@pytest.mark.parametrize("device", ["cpu", "cuda", "tpu"])
def test_the_build_argument_chooses_the_packages(device, tmp_path):
    """The step runs in a shell as Docker would run it, with a `uv` that only says how it was called."""
    step = run_step("uv pip install --no-cache --prefix /dependencies")
    (tmp_path / "uv").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "uv").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "DEVICE": device}
    result = subprocess.run(["sh", "-c", step], env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode == 0) == (device != "tpu")
    assert ("--torch-backend=cpu" in result.stdout) == (device == "cpu")
    assert ("--extra serve" in result.stdout) == (device != "tpu")
    assert ("must be cpu or cuda" in result.stderr) == (device == "tpu")


def test_what_a_job_takes_along_is_small(tmp_path):
    """A copy of the checkout with the litter of a year, packed as `ray job submit --working-dir .` packs it."""
    checkout, package = tmp_path / "checkout", tmp_path / "package.zip"
    for name in ("sgllie", "jobs"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", ".partial"))
    for name in (".rayignore", ".gitignore", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    for name in (
        "photographs/a.jpg",
        "out/images/a.jpg",
        ".venv/bin/python",
        ".git/config",
        ".idea/x",
        "tests/test.py",
    ):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes(bytes(1000))
    create_package(str(checkout), package, include_gitignore=True, excludes=get_runtime_env_default_excludes())
    unpacked = tmp_path / "unpacked"
    shutil.unpack_archive(package, unpacked)
    assert {path.name for path in unpacked.iterdir()} == {"sgllie", "jobs"}
    assert (unpacked / "sgllie/network/pretrained/sgllie.safetensors").is_file()
    assert (unpacked / "jobs/enhance.py").is_file()
    assert package.stat().st_size < 2**21
