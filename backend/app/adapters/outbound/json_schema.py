"""Values checked against JSON Schemas from outside, such as those of MCP servers.

A schema can ask for exponential work (branching references) or hang a backtracking regular expression. The check
therefore runs in a process of its own that is killed when it takes too long; its patterns are matched in linear time,
and references to other documents are never fetched.
"""

import asyncio
import hashlib
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from app.core.domain.text import MAX_DEPTH, is_deeper_than

MAX_SCHEMA_BYTES = 256 * 1024
MAX_VALUE_BYTES = 4 * 1024 * 1024
KEPT_UNUSABLE = 1_024
_WORKER = Path(__file__).with_name("json_schema_worker.py")


class UnusableSchema(Exception):
    """A schema that values cannot be checked against. Its text is the reason, safe to log."""


class SchemaChecker:
    """Checks values against schemas that nobody here wrote.

    Args:
        seconds: how long one check may take.
    """

    def __init__(self, seconds: float = 2.0) -> None:
        self._seconds = seconds
        self._turn = asyncio.Lock()
        self._worker: asyncio.subprocess.Process | None = None
        self._unusable: dict[bytes, str] = {}

    async def faults(self, schema: dict[str, Any] | bool, value: Any) -> list[dict[str, str]]:
        """What is wrong with `value`: `{path, message}` each, at most five; empty when it fits.

        Raises:
            UnusableSchema: the schema is invalid, refers to other documents, has a pattern that cannot be matched
                in linear time, or the check is too large or takes too long.
        """
        if is_deeper_than(schema, MAX_DEPTH) or is_deeper_than(value, MAX_DEPTH):
            raise UnusableSchema(f"nested more than {MAX_DEPTH} deep")
        try:
            written, given = orjson.dumps(schema), orjson.dumps(value)
        except orjson.JSONEncodeError as error:
            raise UnusableSchema("not JSON") from error
        if len(written) > MAX_SCHEMA_BYTES or len(given) > MAX_VALUE_BYTES:
            raise UnusableSchema("too large to be checked")
        key = hashlib.sha256(written).digest()
        if (reason := self._unusable.get(key)) is not None:
            raise UnusableSchema(reason)
        async with self._turn:
            answer = await self._ask(b"[%b,%b]\n" % (written, given))
        if (reason := answer.get("unusable")) is not None:
            if len(self._unusable) >= KEPT_UNUSABLE:
                self._unusable.clear()
            self._unusable[key] = reason
            raise UnusableSchema(reason)
        return answer["faults"]

    async def close(self) -> None:
        """End the process."""
        worker, self._worker = self._worker, None
        if worker is not None:
            with suppress(ProcessLookupError):
                worker.kill()
            await worker.wait()

    async def _ask(self, line: bytes) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._seconds):
                worker = await self._running()
                assert worker.stdin is not None
                assert worker.stdout is not None
                worker.stdin.write(line)
                await worker.stdin.drain()
                said = await worker.stdout.readline()
        except TimeoutError:
            await self.close()
            return {"unusable": f"the check takes longer than {self._seconds:g} seconds"}
        except BaseException:  # cancelled, or a broken pipe: what is left in the pipe belongs to nobody
            await self.close()
            raise
        if not said:
            await self.close()
            return {"unusable": "the check crashed"}
        return orjson.loads(said)

    async def _running(self) -> asyncio.subprocess.Process:
        if self._worker is None or self._worker.returncode is not None:
            self._worker = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(_WORKER),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        return self._worker
