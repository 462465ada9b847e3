"""What the documents name exists: links, anchors, files, and commands that their own parsers take."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from parastream.client.cli.main import app
from typer.core import TyperGroup

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "client-js/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND_LINE = typer.main.get_command(app)
OTHERS_COMMANDS = {"git", "cd", "pip", "npm", "apt-get", "curl", "pre-commit"}
"""Programs whose arguments are not checked."""

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def prose(document: Path) -> str:
    """The text without its code blocks."""
    return FENCE.sub("", document.read_text(encoding="utf-8"))


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings: lower case, without punctuation, hyphens for spaces."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(anchor)
    return found


@documents
def test_links_lead_somewhere(document: Path) -> None:
    text = prose(document)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    for target in targets:
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_every_picture_is_shown_somewhere() -> None:
    texts = "".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    assert [path.name for path in (ROOT / "docs" / "images").iterdir() if path.name not in texts] == []


@documents
def test_files_that_are_named_exist(document: Path) -> None:
    """Paths in code marks, from the root: those with a directory and an ending, or with a slash at the end."""
    for name in re.findall(r"`([\w./*-]+)`", prose(document)):
        within_project = (ROOT / name.split("/")[0]).is_dir() and not name.startswith((".", "/"))
        if "/" in name and within_project and (name.endswith("/") or re.search(r"\.\w+$", name)):
            assert list(ROOT.glob(name)), name


def test_the_rooms_of_the_server_use_each_other_as_documented() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.split("| Room |")[1].split("\n\n")[0].splitlines()[2:]]
    documented: dict[str, set[str]] = {}
    for row in rows:
        name, uses = row[0].strip("`"), row[2] if len(row) > 2 else ""
        named = set(re.findall(r"`([\w./]+)`", uses))
        documented[name] = documented.keys() - named if uses.startswith("all of the above") else named
    server = ROOT / "server"
    actual: dict[str, set[str]] = {}
    for path in server.rglob("*.py"):
        room = path.relative_to(server).parts[0]
        names = re.findall(r"^ *(?:from|import) parastream\.server\.(\w+)", path.read_text("utf-8"), re.MULTILINE)
        if room != "__init__.py":
            used = {f"{name}/" if (server / name).is_dir() else f"{name}.py" for name in names}
            own = f"{room}/" if (server / room).is_dir() else room
            actual[own] = actual.get(own, set()) | used - {own}
    assert actual == documented


def shell_lines() -> Iterator[tuple[str, list[str]]]:
    """Each command in a code block of the shell: where it is, and its words."""
    for document in DOCUMENTS:
        for language, block in FENCE.findall(document.read_text(encoding="utf-8")):
            if language != "sh":
                continue
            for line in block.replace("\\\n", "").splitlines():
                for part in re.split(r" (?:&&|\|) ", line):
                    words = shlex.split(part, comments=True)
                    if ">" in words:
                        words = words[: words.index(">")]
                    if words:
                        yield f"{document.name}: {part.strip()}", words


def inline_commands() -> Iterator[tuple[str, list[str]]]:
    """Each `parastream …` and `./run …` in code marks."""
    for document in DOCUMENTS:
        for text in re.findall(r"`((?:\./run|parastream) [^`]*)`", prose(document)):
            if "COMMAND" not in text:
                yield f"{document.name}: {text}", shlex.split(text)


def parse(words: list[str], *, complete: bool) -> None:
    """Let the command line parse a command without running it; one that is not `complete` need not name everything."""
    command, name = COMMAND_LINE, "parastream"
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        name, *words = words
        assert name in command.commands, f"no such command: {name}"
        command = command.commands[name]
    if complete:
        command.make_context(name, words)
        return
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known, words


def check(words: list[str], *, complete: bool) -> None:
    """Check one command: that of the project, a benchmark, or one of the tools in the environment."""
    if words[0] == "./run":
        words = words[1:]
    match words:
        case ["parastream", *arguments]:
            parse(arguments, complete=complete)
        case ["python", "-m", module, *arguments]:
            check_script(ROOT / module.replace(".", "/"), arguments)
        case ["python", script, *arguments]:
            check_script((ROOT / script).with_suffix(""), arguments)
        case [("pytest" | "ruff" | "mypy"), *arguments]:
            for argument in arguments:
                path, _, _ = argument.partition("::")
                assert "/" not in path or (ROOT / path).exists(), argument
        case [command, *_]:
            assert command in OTHERS_COMMANDS | subcommands_of_run(), command


def check_script(module: Path, arguments: list[str]) -> None:
    """Check that a script or module exists and has the options."""
    file = module / "__main__.py" if module.is_dir() else module.with_suffix(".py")
    text = file.read_text(encoding="utf-8")
    for argument in arguments:
        if argument.startswith("--"):
            assert f'"{argument.partition("=")[0]}"' in text, argument


def subcommands_of_run() -> set[str]:
    """What `./run` does itself."""
    cases = re.findall(r"^([\w| -]+)\)$", (ROOT / "run").read_text(encoding="utf-8"), re.MULTILINE)
    return {name.strip() for case in cases for name in case.split("|")}


def each(commands: Iterator[tuple[str, list[str]]]) -> pytest.MarkDecorator:
    """Run a test with the words of each command."""
    return pytest.mark.parametrize("words", [pytest.param(words, id=where) for where, words in commands])


@each(shell_lines())
def test_commands_in_code_blocks_are_understood(words: list[str]) -> None:
    check(words, complete=True)


@each(inline_commands())
def test_commands_in_the_text_are_understood(words: list[str]) -> None:
    alternatives = [word.split("|") for word in words]
    for number in range(max(map(len, alternatives))):
        check([choice[min(number, len(choice) - 1)] for choice in alternatives], complete=False)


def test_commands_that_are_wrong_are_found() -> None:
    with pytest.raises(AssertionError, match="lst"):
        parse(["models", "lst"], complete=False)
    with pytest.raises(AssertionError, match="fromat"):
        parse(["transcribe", "--fromat", "srt"], complete=False)
    with pytest.raises(Exception, match="No such option: --fromat"):
        parse(["transcribe", "talk.mp3", "--fromat", "srt"], complete=True)
    with pytest.raises(Exception, match="Missing parameter: files"):
        parse(["transcribe"], complete=True)
    with pytest.raises(Exception, match="'docx' is not one of"):
        parse(["transcribe", "talk.mp3", "--format", "docx"], complete=True)
