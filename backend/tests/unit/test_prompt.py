"""The prompt of `atelier chat`."""

import asyncio
from collections.abc import Callable

import pytest

from app.adapters.inbound.cli import chat

END = "what comes after the end"


def asked(monkeypatch: pytest.MonkeyPatch, *answers: str | type[BaseException]) -> Callable[[], list[str]]:
    """Run the prompt with these answers; gives those that it did not ask for."""
    left = [*answers, END]

    def question(_: str) -> str:
        answer = left.pop(0)
        if isinstance(answer, str):
            return answer
        raise answer

    monkeypatch.setattr(chat, "question", question)
    session = chat._Session(chat.Options(url="http://127.0.0.1:9", token="t"))

    def run() -> list[str]:
        with asyncio.Runner() as runner:
            assert session._loop(runner) == 0
        return [str(answer) for answer in left]

    return run


def test_ctrl_c_twice_at_the_prompt_ends_the_chat(monkeypatch: pytest.MonkeyPatch):
    assert asked(monkeypatch, KeyboardInterrupt, KeyboardInterrupt)() == [END]


def test_ctrl_c_once_does_not(monkeypatch: pytest.MonkeyPatch):
    between = asked(monkeypatch, KeyboardInterrupt, "/help", KeyboardInterrupt, "", "/quit")
    assert between() == [END]


@pytest.mark.parametrize("end", [EOFError, "/quit"])
def test_ctrl_d_and_quit_end_the_chat(monkeypatch: pytest.MonkeyPatch, end: str | type[BaseException]):
    assert asked(monkeypatch, end)() == [END]
