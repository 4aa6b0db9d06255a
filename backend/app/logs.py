"""Logging: text for people or JSON for machines, each line with the run it belongs to, none with a secret."""

import logging
import logging.config
import re
from typing import Any

from app.core.domain.printable import printable
from app.core.log_context import current_run

_SECRETS = re.compile(r"((?:token|key|password|secret)=|bearer\s+|://[^/\s:@]*:)[^\s&@\"']+", re.IGNORECASE)


class _RunId(logging.Filter):
    """Gives every record the run that it was written in."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.run_id = current_run.get()
        return True


def configure(level: str, log_format: str) -> None:
    """Write logs to standard error, from `level` on, as `text` or `json`."""
    import structlog

    def hide_secrets(logger: Any, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        for key, value in event.items():
            if isinstance(value, str):
                event[key] = _SECRETS.sub(r"\1…", value)
        return event

    def hide_controls(logger: Any, name: str, line: str) -> str:
        return printable(line)

    def add_run(logger: Any, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        record: logging.LogRecord | None = event.get("_record")
        if record is not None and (run_id := getattr(record, "run_id", None)):
            event["run"] = run_id
        return event

    chain: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer() if log_format == "json" else structlog.processors.format_exc_info,
        add_run,
        hide_secrets,
    ]

    def indent_lines(logger: Any, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """Have the further lines of a text stand apart from the lines of the log."""
        event["event"] = str(event["event"]).replace("\n", "\n    ")
        return event

    renderers: list[Any] = (
        [structlog.processors.JSONRenderer(sort_keys=False)]
        if log_format == "json"
        else [indent_lines, structlog.dev.ConsoleRenderer(colors=False), hide_controls]
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"run": {"()": _RunId}},
            "formatters": {
                "line": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": chain,
                    "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["run"]}},
            "root": {"level": "WARNING", "handlers": ["stderr"]},
            "loggers": {
                "app": {"level": level.upper()},
                "uvicorn": {"level": "INFO" if level == "debug" else "WARNING"},
            },
        }
    )
