"""`<think>…</think>` at the beginning of an answer: reasoning that a server without a parser for it left in the text."""

from collections.abc import Iterator

BEGIN, END = "<think>", "</think>"
MAX_BLANK = 1_000
"""Blank characters that are held back before the opening tag."""


class ThinkTags:
    """Tells reasoning and text apart while the pieces of an answer come.

    Only an answer that begins with the tag has reasoning in it: later on, the tag is something that the model writes about.
    """

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"

    def split(self, piece: str) -> Iterator[tuple[bool, str]]:
        """The next pieces, each with whether it is reasoning; what may be a part of a tag is held back."""
        if self._state == "text":
            yield False, piece
            return
        self._held += piece
        if self._state == "start":
            said = self._held.lstrip()
            if BEGIN.startswith(said[: len(BEGIN)]) and len(said) < len(BEGIN) and len(self._held) < MAX_BLANK:
                return
            if not said.startswith(BEGIN):
                yield from self._rest_is_text(self._held)
                return
            self._state, self._held = "thinking", said.removeprefix(BEGIN).lstrip("\n")
        if self._state == "thinking":
            thought, tag, rest = self._held.partition(END)
            if not tag:
                thought = thought[: len(thought) - _overlap(thought)]
            if thought:
                yield True, thought
            if not tag:
                self._held = self._held[len(thought) :]
                return
            self._state, self._held = "after", rest
        self._held = self._held.lstrip()
        if self._held:
            yield from self._rest_is_text(self._held)

    def rest(self) -> Iterator[tuple[bool, str]]:
        """What was held back when the answer ended."""
        if self._held and self._state != "after":
            yield self._state == "thinking", self._held
        self._held = ""

    def _rest_is_text(self, text: str) -> Iterator[tuple[bool, str]]:
        self._state, self._held = "text", ""
        yield False, text


def _overlap(text: str) -> int:
    """How much of the end of `text` may be the beginning of the closing tag."""
    return next((size for size in range(len(END) - 1, 0, -1) if text.endswith(END[:size])), 0)
