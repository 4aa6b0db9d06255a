"""The baseline: a WebSocket in, an HTTP stream from the upstream, a frame a piece. No graph, no store, no history.

`python -m bench.relay PORT UPSTREAM_URL` serves `/ws` on the same server library and settings as the service.
"""

import sys
from contextlib import asynccontextmanager

import aiohttp
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


def make(upstream: str) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            app.state.session = session
            yield

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text('{"type":"ready"}')
        try:
            while True:
                frame = orjson.loads(await websocket.receive_text())
                await relay(websocket, frame)
        except WebSocketDisconnect:
            return

    async def relay(websocket: WebSocket, frame: dict[str, str]) -> None:
        body = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": frame["content"]}]}
        async with websocket.app.state.session.post(
            f"{upstream}/chat/completions", data=orjson.dumps(body)
        ) as response:
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                choices = orjson.loads(line[6:])["choices"]
                if choices and (piece := choices[0]["delta"].get("content")):
                    await websocket.send_text(orjson.dumps({"type": "token", "content": piece}).decode())
        await websocket.send_text('{"type":"complete"}')

    return Starlette(routes=[WebSocketRoute("/ws", socket)], lifespan=lifespan)


def main() -> None:
    uvicorn.run(
        make(sys.argv[2]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        log_level="error",
    )


if __name__ == "__main__":
    main()
