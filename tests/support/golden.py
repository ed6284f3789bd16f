"""The wording of error messages, in one file per command: tests/cli/golden/<command>.txt.

A file is a list of blocks, with an empty line between two of them:

    $ train --epochs 0
    Error: --epochs = 0 is not allowed; give a whole number from 1.
    exit 2

A block has the arguments as in a shell, the expected text on stderr from "Error: " on, and the exit
code. Places such as {run} or {tmp} stand for paths, in the arguments and in the text. A test passes
their values to `check`. `pytest --write-golden` writes what the commands print into the files.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import runs

__all__ = ["GoldenCase", "cases", "check"]

FOLDER = Path(__file__).parents[1] / "cli" / "golden"
OPTION = "--write-golden"


@dataclass(frozen=True)
class GoldenCase:
    """One block of a golden file.

    Attributes:
        path: the file.
        command: the arguments as one line of a shell, with places in braces.
        text: the expected text on stderr from "Error: " on.
        code: the expected exit code.
    """

    path: Path
    command: str
    text: str
    code: int

    def __str__(self) -> str:
        """The block as it is in the file."""
        return f"$ {self.command}\n{self.text}exit {self.code}\n"

    def arguments(self, places: dict[str, Path | str]) -> list[str]:
        """The arguments, with a value for each place."""
        words = shlex.split(self.command)
        for name, value in places.items():
            words = [word.replace(f"{{{name}}}", str(value)) for word in words]
        return words


def cases(command: str) -> list[Any]:
    """The blocks of a command's file, as parameters of a test."""
    path, parameters = FOLDER / f"{command}.txt", []
    for block in path.read_text().strip().split("\n\n"):
        first, *text, last = block.splitlines()
        assert first.startswith("$ "), f"{path}: {first!r} is no line such as '$ train --epochs 0'"
        assert last.startswith("exit "), f"{path}: {last!r} is no line such as 'exit 2'"
        case = GoldenCase(
            path, first[2:], "".join(f"{line}\n" for line in text), int(last.removeprefix("exit "))
        )
        parameters.append(pytest.param(case, id=case.command))
    return parameters


def check(
    case: GoldenCase, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs a case's command, which must print the expected error and nothing on stdout.

    The places are the test's fixtures: {tmp} is tmp_path, and {run_dir} the fixture of this name.
    """
    names = {word.partition("}")[0] for word in case.command.split("{")[1:]}
    places = {
        name: request.getfixturevalue("tmp_path" if name == "tmp" else name)
        for name in sorted(names)
    }
    capsys.readouterr()
    code = runs.call(*case.arguments(places))
    output = capsys.readouterr()
    text = "Error: " + output.err.partition("Error: ")[2]
    # Longer paths first: one place may be inside another.
    for name, value in sorted(places.items(), key=lambda item: -len(str(item[1]))):
        text = text.replace(str(value), f"{{{name}}}")
    assert output.out == ""
    found = GoldenCase(case.path, case.command, text, code)
    if request.config.getoption(OPTION):
        case.path.write_text(case.path.read_text().replace(str(case), str(found)))
    else:
        assert str(found) == str(case)
