"""The Dockerfiles: what can be known of an image without building it."""

import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.runs import call
from tests.support.servers import NAME, make_export
from tfp_smvi.config import ServeConfig
from tfp_smvi.serving.docker import IMAGE
from tfp_smvi.serving.plan import plan_server

ROOT = Path(__file__).parents[1]
FILES = ("docker/Dockerfile", "docker/server.Dockerfile")
# What a Dockerfile may copy that git does not hold.
MODEL = "saved_models/${MODEL}"


def instructions(name: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile and what follows each, in one line."""
    lines = (ROOT / name).read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line]


def last_stage(name: str) -> list[tuple[str, str]]:
    steps = instructions(name)
    start = max(number for number, (word, _) in enumerate(steps) if word == "FROM")
    return steps[start:]


def shell(name: str) -> str:
    return "\n".join(rest for word, rest in instructions(name) if word == "RUN")


def constraints() -> dict[str, Version]:
    """The versions in the image, by the normalized name of the package."""
    lines = (ROOT / "docker" / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): Version(version) for name, version in pairs}


@pytest.mark.parametrize("name", FILES)
def test_hadolint_has_nothing_to_say(name: str) -> None:
    program = Path(sys.executable).with_name("hadolint")
    process = subprocess.run(
        [program, ROOT / name], capture_output=True, text=True, check=False, timeout=60
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


@pytest.mark.parametrize("name", FILES)
def test_bases_have_a_full_version(name: str) -> None:
    """Of images from elsewhere: another build must not bring another system."""
    bases = [rest.split()[0] for word, rest in instructions(name) if word == "FROM"]
    assert len(bases) >= 2
    for base in bases:
        assert base == "${CLI}" or re.search(r":\d+\.\d+\.\d+(-|$)", base), base
    assert ("ARG", "CLI=tfp-smvi:local") in instructions(FILES[1])


def test_the_server_is_the_release_of_the_client() -> None:
    assert last_stage(FILES[1])[0] == ("FROM", IMAGE)


@pytest.mark.parametrize("name", FILES)
def test_the_user_is_not_root(name: str) -> None:
    users = [rest for word, rest in last_stage(name) if word == "USER"]
    assert users == ["1000:1000"]


@pytest.mark.parametrize("name", FILES)
def test_what_is_copied_exists_and_is_let_in(name: str) -> None:
    let_in = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for word, rest in instructions(name):
        if word != "COPY" or "--from" in rest:
            continue
        *sources, _ = [word for word in shlex.split(rest) if not word.startswith("--")]
        for source in sources:
            assert source == MODEL or (ROOT / source).exists()
            assert any(source == path or source.startswith(f"{path}/") for path in let_in), source


def test_the_package_is_whole_with_what_is_copied() -> None:
    """setup.py and the manifest read nothing that the build stage lacks."""
    copied = [rest.split()[:-1] for word, rest in instructions(FILES[0]) if word == "COPY"]
    names = {name for sources in copied for name in sources}
    assert {"setup.py", "pyproject.toml", "README.md", "tfp_smvi", "cli"} <= names
    assert {*re.findall(r'ROOT / "([^"]+)"', (ROOT / "setup.py").read_text())} <= names
    licences = re.search(r"license_files=\[(.*)\]", (ROOT / "setup.py").read_text())
    assert licences is not None
    assert {*re.findall(r'"([^"]+)"', licences[1])} <= names


def test_the_extras_exist() -> None:
    extras = {extra for name in FILES for extra in re.findall(r"'\.\[([\w,]+)\]'", shell(name))}
    assert extras == {"all"}
    assert extras <= {*(metadata.metadata("tfp-smvi").get_all("Provides-Extra") or [])}


def test_the_pinned_versions_are_complete_and_fit() -> None:
    """Catches a requirement that was added or raised, and not pinned."""
    pinned = constraints()
    for line in metadata.requires("tfp-smvi") or []:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": "all"}):
            continue
        version = pinned[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        assert requirement.specifier.contains(version), line


def test_the_commands_and_options_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the Dockerfiles, and of the workflow that builds and runs the images."""
    workflow = (ROOT / ".github" / "workflows" / "images.yml").read_text()
    commands = re.findall(r"tfp-smvi (\w+) ([^;|&]*)", "\n".join(map(shell, FILES)))
    commands += re.findall(r"\$RUN (\w+) (.*)", workflow)
    assert [command for command, _ in commands] == ["export", "serve", "train", "export"]
    for command, rest in commands:
        assert call(command, "--help") == 0
        shown = capsys.readouterr().out
        for option in re.findall(r"--[a-z-]+", rest):
            assert re.search(rf"{option}\b", shown), option


def test_the_server_has_the_flags_and_files_of_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files lie where the model is baked in, and name it there."""
    make_export(tmp_path / "saved_models" / NAME / "1")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name == "docker" else None)
    plan = plan_server(ServeConfig(models=str(tmp_path / "saved_models"), docker=True))
    flags = plan.command[plan.command.index(IMAGE) + 1 :]
    stage = dict(last_stage(FILES[1]))
    assert stage["CMD"] == "[" + ", ".join(f'"{flag}"' for flag in flags) + "]"
    assert stage["ENTRYPOINT"] == '["tensorflow_model_server"]'
    assert stage["COPY"].split()[-1] == "/models"
    assert f'base_path: "/models/{NAME}"' in plan.files["models.config"]
