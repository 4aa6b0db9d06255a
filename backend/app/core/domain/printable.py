"""Text that is safe to print: nothing in it controls a terminal, or reorders a line."""

import re

_UNSAFE = re.compile(
    # Whole sequences: CSI, then OSC, DCS, SOS, PM and APC with what they carry, then all others.
    r"\x1b\[[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f\n]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]?"
    # Each control character but tab and newline, what reorders text ("exe.txt" that is "txt.exe"), half an emoji.
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """`text` without anything that controls a terminal; a line's end is a newline."""
    return _UNSAFE.sub("", text.replace("\r\n", "\n"))
