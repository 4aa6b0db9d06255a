"""Fixtures that every kind of test may use."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.servers import mongo_server, redis_server

# Where a red run stops others the cases are the same every time; new ones are looked for everywhere else.
settings.register_profile(
    "default",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=60,
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("default")

# What the one who runs the tests has in the environment must not change what they test.
for name in list(os.environ):
    if name.startswith(("OPENAI_", "ATELIER_", "LANGSMITH_", "LANGCHAIN_")) or name in (
        "DEFAULT_MODEL",
        "SYSTEM_PROMPT",
    ):
        del os.environ[name]


@pytest.fixture(scope="session")
def mongodb_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that speaks MongoDB's wire."""
    with mongo_server(tmp_path_factory.mktemp("mongo")) as url:
        yield url


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """Takes back what a test configures of logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("app").setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Redis."""
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests recorded, in whatever process they ran."""
    for report in terminalreporter.getreports("passed"):
        for name, value in getattr(report, "user_properties", ()):
            if name == "figures" and report.when == "call":
                terminalreporter.write_line(str(value))
