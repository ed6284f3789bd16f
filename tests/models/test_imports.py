"""A user's function is imported by its name, and never from a run directory."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models.imports import RESULTS, import_function

MODULE = "imported = True\n\ndef build(image_shape, config):\n    return image_shape, config\n"


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Works in an empty folder, and forgets the modules that a test imports."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    yield
    for name in set(sys.modules) - before:
        if "my_" in name:
            del sys.modules[name]


def write(path: Path, text: str = MODULE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_module_is_found_in_the_current_folder_and_named_before_it_runs() -> None:
    path = write(Path("my_model.py"), f"from pathlib import Path\nPath('ran').touch()\n{MODULE}")
    notes: list[tuple[str, bool]] = []
    found = import_function(
        "my_model:build", note=lambda line: notes.append((line, Path("ran").exists()))
    )
    assert found((1, 2), None) == ((1, 2), None)
    assert notes == [(f"Model: imports my_model:build ({path.absolute()})", False)]
    assert found.file == str(path.absolute())
    assert found.sha256 is not None
    assert str(Path.cwd()) not in sys.path


def test_a_module_is_found_on_the_python_path_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder comes last: a file random.py there hides no module of Python's."""
    write(Path("my_model.py"), "")
    write(Path("elsewhere/my_model.py"))
    write(Path("random.py"), "raise SystemExit")
    monkeypatch.syspath_prepend("elsewhere")
    assert import_function("my_model:build").file == str(Path("elsewhere/my_model.py").absolute())
    assert import_function("random:random").name == "random:random"


def test_a_module_in_a_package_may_import_its_neighbours_late() -> None:
    write(Path("my_package/__init__.py"), "")
    write(Path("my_package/sizes.py"), "SIZE = 3\n")
    write(Path("my_neighbour.py"), "SIZE = 4\n")
    write(
        Path("my_package/model.py"),
        "def build(image_shape, config):\n"
        "    from my_package.sizes import SIZE\n    import my_neighbour\n"
        "    return SIZE, my_neighbour.SIZE\n",
    )
    assert import_function("my_package.model:build")((), None) == (3, 4)


@pytest.mark.parametrize("name", ["my_model:build", "my_package.model:build"])
@pytest.mark.parametrize("way", ["current folder", "Python path", "link"])
def test_nothing_is_imported_from_a_run_directory(
    name: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("my_model.py", "my_package/__init__.py", "my_package/model.py"):
        write(Path("run") / module, "raise SystemExit('it ran')")
    if way == "current folder":
        monkeypatch.chdir("run")
    elif way == "Python path":
        monkeypatch.syspath_prepend("run")
    else:
        for module in ("my_model.py", "my_package"):
            Path(module).symlink_to(Path("run") / module)
    run_dir = Path.cwd() if way == "current folder" else Path("run")
    with pytest.raises(SMVIError, match=f"model = '{name}'.*is in the run directory"):
        import_function(name, run_dir)


def test_a_module_in_the_folder_of_results_is_not_said_to_be_missing() -> None:
    write(Path("my_model.py"), "raise SystemExit('it ran')")
    message = "is in the folder of the results /.*; give another output"
    with pytest.raises(SMVIError, match=message):
        import_function("my_model:build", Path.cwd(), closed=RESULTS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be imported: there is no module my_model on the Python path or in /"),
        ("", r"does not exist: build in .*my_model\.py; give a function \(image_shape, config\)"),
        ("build = 3", "is not a function: build in "),
        ("def build(:", r"cannot be imported: SyntaxError \(invalid syntax"),
        ("\n1 / 0", r"cannot be imported: ZeroDivisionError, line 2 of my_model\.py \(division"),
        ("import sys\nsys.exit(7)", r"SystemExit, line 2 of my_model\.py \(7\); mend"),
        ("import my_other", r"ModuleNotFoundError, line 1 of my_model\.py \(No module named"),
    ],
)
def test_a_function_that_is_not_there_is_one_line(text: str | None, message: str) -> None:
    if text is not None:
        write(Path("my_model.py"), text)
    with pytest.raises(SMVIError, match=message) as caught:
        import_function("my_model:build")
    assert caught.value.field == "model"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return config.size", r"raises AttributeError, line 2 of my_model\.py \('None"),
        ("raise SystemExit(7)", r"raises SystemExit, line 2 of my_model\.py \(7\); mend"),
    ],
)
def test_an_error_in_the_function_names_its_line(body: str, message: str) -> None:
    write(Path("my_model.py"), f"def build(image_shape, config):\n    {body}\n")
    with pytest.raises(SMVIError, match=message):
        import_function("my_model:build")((), None)
