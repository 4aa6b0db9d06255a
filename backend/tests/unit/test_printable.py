"""What is printed cannot control a terminal, and one module prints."""

import ast
from pathlib import Path

import pytest

from app.adapters.inbound import cli
from app.core.domain.printable import printable

PRINTERS = {"print", "input", "Console", "sys.stdout.write", "sys.stderr.write", "typer.echo", "typer.secho"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\nand more", "plain\ttext\nand more"),
        ("one\r\ntwo\rthree", "one\ntwothree"),
        ("\x1b]52;c;cHduZWQ=\x07after", "after"),
        ("\x1b]0;title\x1b\\after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[31mred\x1b[0m", "red"),
        ("\x1bP1$r0m\x1b\\after \x90data\x9c.", "after ."),
        ("\x9b31m \x9d0;t\x07 \x85 \x7f", "31m   "),
        ("\x1b(B\x1bc\x1b", ""),
        ("\x1b]0;never ended", "0;never ended"),
        ("file\u202etxt.exe \u2066x\u2069", "filetxt.exe x"),
        ("\ud800 half", " half"),
        ("Grüße, 你好, שלום, 👩\u200d💻", "Grüße, 你好, שלום, 👩\u200d💻"),
    ],
)
def test_only_text_is_left(text: str, shown: str):
    assert printable(text) == shown


def test_long_texts_take_linear_time():
    for start in ("\x1b]", "\x90", "\x1b[", "\x1bP;"):  # quadratic time would be hours here
        assert "\x1b" not in printable(start * 500_000)


def test_one_module_of_the_command_prints():
    files = [path for path in Path(cli.__file__).parent.glob("*.py") if path.name not in ("output.py", "main.py")]
    found = [
        f"{path.name}:{node.lineno} {ast.unparse(node.func)}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in PRINTERS
    ]
    assert len(files) > 5
    assert found == []
