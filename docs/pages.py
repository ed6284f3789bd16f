"""The pages of the documentation site, for mkdocs.yml: files where they lie, and generated pages.

The README, docs/ and results/ link to one another by relative paths, which work on GitHub. The site
has the same tree, so that they work there, too.
"""

import ast
import base64
import dataclasses
import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# Pages, and what they link to.
INCLUDED = ("*.md", "docs/*.md", "docs/*.css", "results/**/*.md", "saved_models/README.md")
LINK = re.compile(r"\]\(([^)#\s]+)[^)\s]*\)")
NOTEBOOKS = ("examples/tutorial.ipynb",)
# The sections of the reference after the settings: heading, and the folders of its names.
SECTIONS = {
    "Data": ("data",),
    "Training": ("training", "tracking", "runs"),
    "Models": ("models",),
    "Evaluation": ("evaluation", "core"),
    "Classification": ("classification",),
    "Export": ("export",),
    "Objectives": ("objectives",),
    "Inference": ("inference",),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Takes the files of the repository in place of those of docs/, and adds generated pages."""
    theme = [file for file in files if not (file.src_dir or "").startswith(config.docs_dir)]
    texts = {"reference.md": reference(public_names())}
    texts |= {f"{name.removesuffix('.ipynb')}.md": page_of(ROOT / name) for name in NOTEBOOKS}
    pages = sorted({path for pattern in INCLUDED for path in ROOT.glob(pattern)})
    linked = {path for page in pages for path in targets(page)} - {*pages}
    chosen = [
        File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, True)
        for path in [*pages, *sorted(linked)]
    ]
    made = [File.generated(config, name, content=text) for name, text in texts.items()]
    return Files([*theme, *chosen, *made])


def on_page_markdown(markdown: str, **options: Any) -> str:
    """Shows a bar in the code of a table, which GitHub wants with a backslash before it."""

    def plain(match: re.Match[str]) -> str:
        return match.group().replace("\\|", "|")

    for name in NOTEBOOKS:  # its page
        file = name.rpartition("/")[2]
        markdown = markdown.replace(f"{file})", f"{file.removesuffix('.ipynb')}.md)")
    lines = markdown.split("\n")
    return "\n".join(
        re.sub(r"`[^`]+`", plain, line) if line.startswith("|") else line for line in lines
    )


def targets(page: Path) -> set[Path]:
    """The files that a page links to or shows."""
    names = LINK.findall(page.read_text(encoding="utf-8"))
    paths = (page.parent / name for name in names if not name.startswith("https:"))
    return {path.resolve() for path in paths if path.is_file()}


def public_names() -> dict[str, str]:
    """The public names of the package, and where each is defined."""
    tree = ast.parse((ROOT / "tfp_smvi" / "__init__.pyi").read_text(encoding="utf-8"))
    return {
        alias.name: f"tfp_smvi.{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name != "__version__"
    }


def reference(names: dict[str, str]) -> str:
    """The page with the docstrings of the public names."""
    folders = {name: path.split(".")[1] for name, path in names.items()}
    parts = [
        "# Reference",
        "The public names of `tfp_smvi`. [The guide](docs/python.md) uses them.",
        "## Settings",
    ]
    parts += [settings(path) for name, path in names.items() if folders[name] == "config"]
    for heading, chosen in SECTIONS.items():
        parts.append(f"## {heading}")
        parts += [f"::: {names[name]}" for name, folder in folders.items() if folder in chosen]
    return "\n\n".join(parts) + "\n"


def settings(path: str) -> str:
    """A class of settings as a table of its fields, which commands have as options."""
    module, _, name = path.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    rows = ["| field | default | what it is |", "|---|---|---|"]
    for field in dataclasses.fields(kind):
        nested = dataclasses.is_dataclass(field.default)
        default = f"{type(field.default).__name__}()" if nested else repr(field.default)
        text = field.metadata.get("help", f"See {type(field.default).__name__}.")
        text = text.replace("|", "\\|").replace("[default", "\\[default")
        rows.append(f"| `{field.name}` | `{default}` | {text} |")
    return "\n\n".join([f"### {name}", inspect.getdoc(kind) or "", "\n".join(rows)])


def page_of(notebook: Path) -> str:
    """A notebook with its outputs as Markdown; pictures are inside it."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        parts += [shown for output in cell["outputs"] if (shown := as_markdown(output))]
    return "\n\n".join(parts) + "\n"


def as_markdown(output: dict[str, Any]) -> str:
    """One output: a picture, a table or text."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        encoded = base64.b64encode(base64.b64decode("".join(data["image/png"]))).decode()
        return f'<img alt="" src="data:image/png;base64,{encoded}">'
    if "text/html" in data:
        html = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
        html = re.sub(r' (class|border|style)="[^"]*"', "", html)
        one_line = re.sub(r"\n\s*", "", html)
        return f'<div class="output">{one_line}</div>'
    return f"```text\n{''.join(data['text/plain']).rstrip()}\n```"
