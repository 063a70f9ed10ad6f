"""Runs what the documents show: blocks of Python, and command lines as far as composing and planning go."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from velostream.cli.arguments import Arguments, parse_arguments
from velostream.cli.main import main
from velostream.cli.request import Request
from velostream.config.deployment import find_deployment
from velostream.config.overrides import is_sweep

ROOT = Path(__file__).parents[2]
DOCUMENTS = [file for file in (ROOT / "README.md", ROOT / "ARCHITECTURE.md") if file.exists()]
SWEEP_FLAGS = {"-m", "--multirun"}

# What a reader has at hand: the files that the commands name.
FILES = {
    "flights.csv": "carrier,arr_delay\nUA,11\nAA,33\n",
    "trades.csv": "symbol,price,ts\nA,1.5,2024-01-02T00:00:00Z\n",
    "other.csv": "symbol,price,ts\nB,2.5,2024-01-02T00:00:00Z\n",
}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text, and the line of the document where its text begins."""

    document: Path
    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A command line of velostream's, and the output shown under it."""

    where: str
    arguments: tuple[str, ...]
    output: str

    @property
    def shows_mistake(self) -> bool:
        return "did you mean" in self.output


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [
        Block(document, found[1], found[2], text.count("\n", 0, found.start(2)) + 1)
        for found in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


def commands(block: Block) -> list[Command]:
    """The command lines of a block. With prompts in it, what has no prompt is output."""
    prompts = re.search(r"^\$ ", block.text, re.MULTILINE) is not None
    found: list[Command] = []
    lines = block.text.splitlines()
    at = 0
    while at < len(lines):
        start, line = at, lines[at]
        at += 1
        if prompts and not line.startswith("$ "):
            continue
        while (words := split(line)) is None and at < len(lines):
            line = line.removesuffix("\\") + ("" if line.endswith("\\") else "\n") + lines[at]
            at += 1
        end = at
        while prompts and end < len(lines) and not lines[end].startswith("$ "):
            end += 1
        arguments = own_arguments(words or [])
        if arguments is not None:
            where = f"{block.document.name}:{block.line + start}"
            found.append(Command(where, tuple(arguments), "\n".join(lines[at:end]) if prompts else ""))
    return found


def split(line: str) -> list[str] | None:
    """The words of the first command of a shell line; None while a quote is open or the line goes on."""
    if line.endswith("\\"):
        return None
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for word in lexer:
            if set(word) <= set("|&;<>"):
                break
            words.append(word)
    except ValueError:
        return None
    return words


def own_arguments(words: list[str]) -> list[str] | None:
    """What velostream gets from that command; None for a command of another program."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    match words:
        case ["velostream", *arguments]:
            return arguments
        case [python, "run.py", *arguments] if Path(python).name.startswith("python"):
            return arguments
        case ["make", "run", *variables]:
            given = dict(word.split("=", 1) for word in variables)
            return shlex.split(given.get("ARGS", ""))
    return None


BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
COMMANDS = [
    command for block in BLOCKS if block.language in ("bash", "console") for command in commands(block)
]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the documents talk about, as the working directory.

    A block of YAML followed by a command with `job=x.yaml` is that file.
    """
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    for at, block in enumerate(BLOCKS):
        if block.language == "yaml":
            later = "\n".join(after.text for after in BLOCKS[at + 1 :] if after.document == block.document)
            named = re.search(r"\bjob=(\S+\.yaml)", later)
            if named and not (tmp_path / named[1]).exists():
                (tmp_path / named[1]).write_text(block.text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_documents_hold_commands_and_python() -> None:
    assert COMMANDS
    assert any(block.language == "python" for block in BLOCKS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_python_of_document_runs(document: Path, reader: Path) -> None:
    """From the first block to the last: a later one may use what an earlier one has made."""
    names: dict[str, object] = {"__name__": "document"}
    for block in BLOCKS:
        if block.document == document and block.language == "python":
            # The lines above keep the line numbers of the document in a traceback.
            exec(compile("\n" * (block.line - 1) + block.text, str(document), "exec"), names)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.where)
def test_command_of_document_is_understood(
    command: Command, reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = list(command.arguments)
    if command.shows_mistake:
        make_mistake(command, reader)
        assert main([*arguments, "command=validate"]) == 2
        assert capsys.readouterr().err.split() == command.output.split()
        return
    parsed = parse_arguments(arguments)
    if parsed.command == "deploy":
        compose_deployment(parsed, reader)
        return
    if {"help", "version"} & parsed.flags:
        assert main(arguments) == 0
        return
    kept = [first_value(word) for word in arguments if word not in SWEEP_FLAGS and not is_own(word, parsed)]
    code = main([*kept, "command=validate"])
    assert code == 0, capsys.readouterr().err


def make_mistake(command: Command, folder: Path) -> None:
    """Put the wrong name that the output complains of into the reader's file, where it is a job's."""
    wrong = re.search(r"'(\w+)' in '\w+'; did you mean '(\w+)'", command.output)
    for argument in command.arguments:
        file = folder / argument.removeprefix("job=")
        if argument.startswith("job=") and file.is_file() and wrong:
            text = file.read_text()
            file.write_text(re.sub(rf"\({wrong[2]}\)", f"({wrong[1]})", text))


def compose_deployment(parsed: Arguments, folder: Path) -> None:
    request = Request(replace(parsed, overrides=[]))
    found = find_deployment(parsed.options["deployment"], request.composer.folders)
    jobs = found.compose(request.composer, parsed.overrides, lambda job: folder / job)
    assert [job.job.name for job in jobs]


def is_own(word: str, parsed: Arguments) -> bool:
    """Whether a word is the command's: `validate` takes its place."""
    key = word.partition("=")[0]
    return key in ("command", "sweep") or key in parsed.options


def first_value(word: str) -> str:
    """`key=a` of a swept `key=a,b`."""
    return word.split(",")[0] if "=" in word and not re.search(r"\s", word) and is_sweep(word) else word
