"""Make docs/settings.md and docs/parastream.toml from the code: `./run python docs/make_settings.py`.

The tables of settings come from the fields of `ServerConfig`, their docstrings and the options of `parastream serve`.
A test compares the files with what this makes.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from parastream.client.cli.main import app
from parastream.server.config import ENVIRONMENT_PREFIX, ServerConfig

REFERENCE = Path(__file__).with_name("settings.md")
EXAMPLE = Path(__file__).with_name("parastream.toml")

OTHER_VARIABLES = {
    "PARASTREAM_OFFLINE": ("all commands", "`1`, `true`, `yes` or `on`: never ask the network for a model."),
    "PARASTREAM_HUB": (
        "all commands",
        "Hub to try first when a model has to be fetched: `hf` (Hugging Face, the default) or `ms` (ModelScope).",
    ),
    "HF_ENDPOINT": ("all commands", "Address of a mirror of Hugging Face."),
    "HF_TOKEN": (
        "all commands",
        "Token for gated and private models on Hugging Face; if unset, the one that `hf auth login` has kept.",
    ),
    "HF_TOKEN_PATH": ("all commands", "File in which `hf auth login` keeps the token; `token` in `HF_HOME` if unset."),
    "HF_HUB_CACHE": (
        "all commands",
        "Where Hugging Face's own programs keep models; those are used, too. `hub` in `HF_HOME` if unset.",
    ),
    "HF_HOME": ("all commands", "Directory of Hugging Face's own programs; `~/.cache/huggingface` if unset."),
    "MODELSCOPE_ENDPOINT": ("all commands", "Address of a mirror of ModelScope."),
    "PARASTREAM_CACHE": (
        "all commands",
        "Directory for downloaded models and adapted libraries; the user's cache directory if unset.",
    ),
    "PARASTREAM_BLAS": (
        "all commands, on Linux",
        "BLAS for MLX: path of a library, `system` (the system's OpenBLAS) or `none` (what MLX was built with).",
    ),
    "ORT_DISABLE_TELEMETRY": (
        "all commands",
        "parastream sets it to `1` before it loads onnxruntime, which would phone home otherwise; `0` allows that.",
    ),
    "PARASTREAM_DEBUG": ("all commands", "If set, show the traceback of every error."),
    "PARASTREAM_AN4": ("the tests", "Directory with recordings of AN4, in place of the few that the tests have."),
    "PARASTREAM_FLOAT16": ("the tests", "Directory with the embedded speech model before it was quantised."),
}
"""Environment variables that are not settings of the server: who reads them, and what they mean."""

_HEAD = """\
# Settings

<!-- Made by docs/make_settings.py from server/config.py; a test compares them. -->

## The server

`parastream serve` takes each setting from a flag, from the environment, or from a TOML file (`--config FILE`;
[parastream.toml](parastream.toml) is an example with all of them). A flag wins over the environment, which wins over
the file. Several values are separated by commas in the environment, a list in the file, and a repeated flag on the
command line.

"""

_OTHERS = """
`parastream serve` has three more flags: `--config FILE` names the file, `--offline` does what `PARASTREAM_OFFLINE` does
(below), and `--verbose` is short for `--log-level info`. Commands that connect to a server (`--server`) also read
`PARASTREAM_TOKEN`, and present that token.

## Other environment variables

"""

_TOML_HEAD = """\
# Every setting of `parastream serve`, each with its default: uncomment what you change.
#
#   parastream serve --config parastream.toml
#
# Flags and the environment (PARASTREAM_PORT and so on) win over this file. docs/settings.md has the same as a table.
"""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting as the documents show it."""

    name: str
    default: Any
    meaning: str
    unit: str
    """Empty where the value is not a quantity."""
    flag: str
    """Empty where there is none."""

    @property
    def variable(self) -> str:
        """The environment variable."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def toml(self) -> str:
        """The default as TOML has it."""
        value = list(self.default) if isinstance(self.default, tuple) else self.default
        return json.dumps(value)


def settings() -> list[Setting]:
    """Return all settings, in the order of the fields.

    Raises:
        KeyError: A field has no docstring.
    """
    docstrings = field_docstrings(ServerConfig)
    hints = get_type_hints(ServerConfig, include_extras=True)
    flags = serve_flags()
    return [
        Setting(
            field.name,
            field.default,
            docstrings[field.name],
            get_args(hints[field.name])[1] if get_origin(hints[field.name]) is Annotated else "",
            flags.get(field.name, ""),
        )
        for field in dataclasses.fields(ServerConfig)
    ]


def field_docstrings(owner: type) -> dict[str, str]:
    """Return the string after each field of a class, on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, after in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            found[field.target.id] = " ".join(ast.literal_eval(after.value).split())
    return found


def serve_flags() -> dict[str, str]:
    """Return the long flag of each parameter of `parastream serve`."""
    commands: dict[str, Any] = vars(typer.main.get_command(app))["commands"]
    return {parameter.name: max(parameter.opts, key=len) for parameter in commands["serve"].params}


def reference() -> str:
    """Return the text of docs/settings.md."""
    head = ["Setting (TOML key)", "Flag", "Environment variable", "Default", "Unit", "Meaning"]
    rows = [
        [
            f"`{each.name}`",
            each.flag and f"`{each.flag}`",
            f"`{each.variable}`",
            f"`{each.toml}`",
            each.unit,
            each.meaning,
        ]
        for each in settings()
    ]
    others = [[f"`{name}`", who, meaning] for name, (who, meaning) in OTHER_VARIABLES.items()]
    return _HEAD + _table(head, rows) + _OTHERS + _table(["Variable", "Read by", "Meaning"], others)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def example() -> str:
    """Return the text of docs/parastream.toml."""
    entries = []
    for each in settings():
        unit = f" In {each.unit}." if each.unit else ""
        entries.append(textwrap.fill(each.meaning + unit, 100, initial_indent="# ", subsequent_indent="# "))
        entries[-1] += f"\n#{each.name} = {each.toml}\n"
    return "\n".join([_TOML_HEAD, *entries])


if __name__ == "__main__":
    REFERENCE.write_text(reference(), "utf-8")
    EXAMPLE.write_text(example(), "utf-8")
