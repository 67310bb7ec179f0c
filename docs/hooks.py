"""Pages that the site adds to the Markdown of docs/: the command line, the tutorial, files that pages link to.

mkdocs calls ``on_files`` and ``on_page_markdown`` while it builds (``hooks`` in mkdocs.yml).
"""

import contextlib
import io
import json
import os
import posixpath
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from unittest.mock import patch

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from docs.tools.notebook import as_markdown

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(?<=\]\()(?:\.\./)+[^)#\s]+")
MARK = re.compile(r"^<!-- (?:table: [\w-]+|end of table) -->$", re.MULTILINE)
SUBCOMMANDS = {"check": ("gradients", "convergence")}  # each has flags of its own
COLUMNS = "100"  # of a help text


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the command line, and what pages link to outside docs/."""
    files.append(File.generated(config, "cli.md", content=command_line()))
    notebook = json.loads((ROOT / "docs/tutorial.ipynb").read_text())
    files.append(File.generated(config, "tutorial.md", content=as_markdown(notebook)))
    for page in list(files.documentation_pages()):
        for link in LINK.findall(page.content_string):
            if path := outside(page.src_uri, link):
                add(files, config, path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that lead out of docs/ to what was added for them; the marks of filled tables are not needed here."""

    def turned(link: re.Match[str]) -> str:
        path = outside(page.file.src_uri, link[0])
        return posixpath.relpath(shown_as(path), posixpath.dirname(page.file.src_uri) or ".") if path else link[0]

    return LINK.sub(turned, MARK.sub("", markdown)).replace("tutorial.ipynb)", "tutorial.md)")


def outside(page: str, link: str) -> str | None:
    """The path in the repository that a link of a page leads to; None where it stays in docs/ or leads nowhere."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return None if path.startswith("docs/") or not (ROOT / path).exists() else path


def shown_as(path: str) -> str:
    """Where a file or folder of the repository stands among the site's sources."""
    if path == "README.md":
        return "index.md"
    return f"repository/{path}" + ("" if path.endswith(".json") else ".md")


def add(files: Files, config: MkDocsConfig, path: str) -> None:
    """A JSON file as it is, another file as a page of code, a folder as a page of links."""
    place, name = ROOT / path, shown_as(path)
    if files.get_file_from_path(name) is not None:
        return
    if path.endswith(".json"):
        files.append(File.generated(config, name, abs_src_path=str(place)))
        return
    if place.is_dir():
        inside = [f"{path}/{entry.name}" for entry in sorted(place.iterdir()) if not entry.name.startswith(("_", "."))]
        for child in inside:
            add(files, config, child)
        lines = [f"* [{posixpath.basename(child)}]({relative(path, child)})" for child in inside]
    else:
        lines = [f"````{place.suffix[1:]}", place.read_text(), "````"]
    content = "\n".join(["---", "search: {exclude: true}", "---", f"# `{path}`", "", *lines])
    files.append(File.generated(config, name, content=content, inclusion=InclusionLevel.NOT_IN_NAV))


def relative(path: str, child: str) -> str:
    """The link from what is shown for ``path`` to what is shown for ``child``."""
    return posixpath.relpath(shown_as(child), posixpath.dirname(shown_as(path)))


def command_line() -> str:
    """The page of the command line, from the code."""
    from eqspike.cli import COMMANDS

    parts = ["# Command line", "", "This page is generated from the code.", "", *block(help_of())]
    for command, text in COMMANDS.items():
        parts += ["", f"## eqspike {command}", "", f"{text[0].upper()}{text[1:]}.", ""]
        if command == "run":
            parts += [run_flags(), "", "### Presets", "", *presets()]
        for subcommand in SUBCOMMANDS.get(command, () if command == "run" else ("",)):
            if subcommand:
                parts += ["", f"### eqspike {command} {subcommand}", ""]
            parts += block(help_of(command, *filter(None, [subcommand])))
    return "\n".join(parts) + "\n"


def block(text: str, language: str = "text") -> list[str]:
    """Lines of a block of code."""
    return [f"```{language}", text.strip("\n"), "```"]


def help_of(*command: str) -> str:
    """What ``eqspike COMMAND --help`` prints, always as wide and never in colour."""
    from eqspike.cli import main

    printed, plain = io.StringIO(), {"COLUMNS": COLUMNS, "NO_COLOR": "1", "FORCE_COLOR": "", "TERM": "dumb"}
    with patch.dict(os.environ, plain), patch("sys.argv", ["eqspike", *command, "--help"]):
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main()
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines())


def run_flags() -> str:
    """Every setting of a run as a table, each with its default and what it needs in order to act."""
    from eqspike.build import BACKENDS, every_kind
    from eqspike.flags import everything
    from eqspike.idle import conditions_of, joined
    from eqspike_seq.config.section import settings_of

    kinds = list(every_kind())
    rows = ["| flag | value | meaning |", "| --- | --- | --- |"]
    for name, setting in everything().items():
        flag = name.replace("_", "-")
        shown = (
            f"`--{flag}`, `--no-{flag}`"
            if setting.bare is bool
            else "`DATASET`"
            if name == "dataset"
            else f"`--{flag}`"
        )
        defaults = {settings_of(kind)[name].default for kind, _ in kinds if name in settings_of(kind)} or {
            setting.default
        }
        about = " ".join(setting.help.split()).replace("|", "\\|")
        if len(defaults) == 1 and name != "dataset" and not defaults & {None, "", ()}:
            about = f"{about.rstrip('.')}. Default: {said(setting.default)}." if "Default:" not in about else about
        conditions = conditions_of(name, kinds)
        if any(conditions) and len(conditions) <= len(BACKENDS):  # more of them are all
            about += f" *Only with {code(joined(conditions))}.*"
        rows.append(f"| {shown} | {takes(setting.kind)} | {about} |")
    rows.append(
        "| `--config` | path | A TOML file of settings, like the `config.toml` of a run folder. Flags override it. |"
    )
    return "\n".join(rows)


def code(text: str) -> str:
    """``text`` with its flags marked as code."""
    return re.sub(r"--[a-z-]+( [a-z0-9-]+)?(?= --|$| or|,)|--[a-z-]+", lambda flag: f"`{flag[0]}`", text)


def said(value: Any) -> str:
    """A default as one would type it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"`{' '.join(str(item) for item in value)}`" if isinstance(value, tuple) else f"`{value}`"


def takes(kind: Any) -> str:
    """A type in words."""
    names = {int: "integer", float: "number", str: "text", Path: "path", bool: "", type(None): ""}
    if kind in names:
        return names[kind]
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in inside)
    if origin is Annotated:
        return takes(inside[0])
    if origin is tuple:
        return f"{takes(inside[0])}s"
    return " or ".join(filter(None, (takes(choice) for choice in inside)))


def presets() -> list[str]:
    """The files of the presets, and how their parts come together."""
    from eqspike_seq.config import presets as known
    from eqspike_seq.data.registry import DATASETS

    lines = [
        "The value of a setting is looked up in these places, and each overrides those before it: the default above,",
        "the section `[common]` of the preset, its section for the backend, the subsections for the neuron and the",
        "circuit, the file given with `--config`, and the flags. `brian2` reads `[spiking]` and then its own section.",
        "A setting that would have no effect is refused.",
    ]
    for name in known.presets():
        of = ", ".join(dataset for dataset, entry in DATASETS.items() if entry.preset == name)
        text = (ROOT / "eqspike_seq" / "presets" / f"{name}.toml").read_text()
        lines += ["", f"`--preset {name}`" + (f", the default for `{of}`:" if of else ":"), "", *block(text, "toml")]
    return lines
