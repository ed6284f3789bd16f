"""Notebooks: run from their first cell, and stored with what they show."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
from ipykernel.kernelspec import write_kernel_spec
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

__all__ = ["OPTION", "bar_texts", "execute", "outputs", "store"]

ROOT = Path(__file__).parents[2]
OPTION = "--write-notebook"
# Of one cell, in seconds.
TIMEOUT = 240
WIDGET = "application/vnd.jupyter.widget-view+json"
STATES = "application/vnd.jupyter.widget-state+json"


def execute(path: Path, folder: Path) -> Any:
    """Runs all cells of a notebook by this Python; an exception in a cell is raised.

    Args:
        path: the notebook, which stays as it is.
        folder: where it runs; the kernel is described here.

    Returns:
        The notebook with its outputs.
    """
    executed = folder / "executed.ipynb"
    # Another process: the client leaves sockets to the collector of garbage.
    command = [sys.executable, "-m", __name__, str(path), str(executed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return nbformat.read(executed, as_version=4)


def _execute_here(path: Path, executed: Path) -> None:
    folder = executed.parent
    write_kernel_spec(folder / "kernels" / "tests")
    specs = KernelSpecManager(kernel_dirs=[str(folder / "kernels")], ensure_native_kernel=False)
    manager = AsyncKernelManager(
        kernel_name="tests",
        kernel_spec_manager=specs,
        transport="ipc",
        connection_file=str(folder / "kernel.json"),
    )
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, km=manager, timeout=TIMEOUT, resources=resources, record_timing=False
    )
    # As in a user's process, whatever the tests have set to hide TensorFlow's messages.
    environment = {name: v for name, v in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    nbformat.write(client.execute(env=environment), executed)


def outputs(notebook: Any) -> list[Any]:
    """The outputs of all cells in their order."""
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def bar_texts(notebook: Any) -> list[str]:
    """The last state of each bar, such as "training: 100% 690/690 [00:08, ELBO -23.1]"."""
    views = (output.get("data", {}).get(WIDGET) for output in outputs(notebook))
    return [_text(notebook, view["model_id"]) for view in views if view is not None]


def store(notebook: Any, path: Path, folder: Path) -> None:
    """Writes a notebook that has run: with its bars as text, and paths from its folder on."""
    texts = iter(bar_texts(notebook))
    for output in outputs(notebook):
        data = output.get("data", {})
        if data.pop(WIDGET, None) is not None:
            data["text/plain"] = next(texts)
        for kind in ("text/plain", "text/html"):
            if kind in data:
                data[kind] = data[kind].replace(f"{folder}/", "")
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, path)


def _text(notebook: Any, model_id: str) -> str:
    states = notebook.metadata.widgets[STATES]["state"]
    children = [name.removeprefix("IPY_MODEL_") for name in states[model_id]["state"]["children"]]
    values = [str(states[child]["state"]["value"]) for child in children]
    texts = [value for value in values if not re.fullmatch(r"[\d.]*", value)]  # not the bar itself
    return html.unescape(" ".join(" ".join(texts).split()))


if __name__ == "__main__":
    _execute_here(*map(Path, sys.argv[1:]))
