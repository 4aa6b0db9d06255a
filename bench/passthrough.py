"""The baseline of the gateway: a request in, the same to the upstream, its bytes back. No account, no count, no check.

`python -m bench.passthrough PORT UPSTREAM_URL` serves `/v1/chat/completions` on the same server library as the service.
"""

import sys
from typing import Any

import aiohttp
import uvicorn

HEADERS = {"Content-Type": "application/json"}


class PassThrough:
    """A minimal ASGI application over aiohttp."""

    def __init__(self, upstream: str) -> None:
        self._url = f"{upstream}/chat/completions"
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message.get("body", b"")
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        async with self._session.post(self._url, data=body, headers=HEADERS) as response:
            kind = response.headers["Content-Type"].encode()
            await send({"type": "http.response.start", "status": response.status, "headers": [(b"content-type", kind)]})
            async for data in response.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def main() -> None:
    uvicorn.run(
        PassThrough(sys.argv[2]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="error",
        lifespan="off",
        access_log=False,
    )


if __name__ == "__main__":
    main()
