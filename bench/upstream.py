"""A model server: `python -m bench.upstream PORT` streams PIECES pieces at once for every request.

The model `paced-SIZE` streams PACED_PIECES pieces of SIZE bytes at PACE a second, each with the moment it was sent.
The model `large` streams 7 MB at once. The model `prose` streams Markdown at more than 200 pieces a second.
"""

import asyncio
import sys
import time

import orjson
from aiohttp import web

PIECES = 50
PACED_PIECES = 120
PACE = 40
LARGE_PIECES, LARGE_BYTES = 8, 900_000
PROSE_PIECES = 2_000
PROSE_PACE = 230  # a little over what is promised: a sleep takes a little longer than it says


def _event(delta: dict[str, object], **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": more.pop("finish_reason", None)}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "bench", "choices": [choice]}
    return b"data: " + orjson.dumps(chunk | more) + b"\n\n"


def _events() -> list[bytes]:
    events = [_event({"role": "assistant", "content": ""})]
    events += [_event({"content": f"piece{n:>4} "}) for n in range(PIECES)]
    events.append(_event({}, finish_reason="stop"))
    usage = {"prompt_tokens": 10, "completion_tokens": PIECES, "total_tokens": PIECES + 10}
    events.append(b"data: " + orjson.dumps({"id": "chatcmpl-1", "choices": [], "usage": usage}) + b"\n\n")
    return [*events, b"data: [DONE]\n\n"]


EVENTS = _events()
WHOLE = orjson.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "".join(f"piece{n:>4} " for n in range(PIECES))},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": PIECES, "total_tokens": PIECES + 10},
    }
)


async def completions(request: web.Request) -> web.StreamResponse:
    body = orjson.loads(await request.read())
    model: str = body["model"]
    if not body.get("stream"):
        return web.Response(body=WHOLE, content_type="application/json")
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    if model.startswith("paced-"):
        try:
            await _paced(response, int(model.removeprefix("paced-")))
        except ConnectionError:
            return response  # who asked has gone
    elif model == "large":
        await _large(response)
    elif model == "prose":
        await _prose(response)
    else:
        for event in EVENTS:
            await response.write(event)
    await response.write_eof()
    return response


async def _paced(response: web.StreamResponse, size: int) -> None:
    due = time.monotonic()
    for number in range(PACED_PIECES):
        await asyncio.sleep(max(0.0, due + number / PACE - time.monotonic()))
        await response.write(_event({"content": f"[{time.monotonic():.6f}]".ljust(size)}))
    await response.write(_event({}, finish_reason="stop") + b"data: [DONE]\n\n")


async def _large(response: web.StreamResponse) -> None:
    """LARGE_PIECES pieces of LARGE_BYTES, as fast as they are taken."""
    for _ in range(LARGE_PIECES):
        await response.write(_event({"content": "x" * LARGE_BYTES}))
    await response.write(_event({}, finish_reason="stop") + b"data: [DONE]\n\n")


async def _prose(response: web.StreamResponse) -> None:
    """Markdown of PROSE_PIECES pieces, PROSE_PACE a second."""
    for number in range(PROSE_PIECES):
        await asyncio.sleep(1 / PROSE_PACE)
        ends = f"\n\n**Paragraph {number // 40}** with `code`, and:\n\n- one\n- two\n\n" if number % 40 == 39 else ""
        await response.write(_event({"content": f"word{number} {ends}"}))
    await response.write(_event({"content": "The end of it."}))
    await response.write(_event({}, finish_reason="stop") + b"data: [DONE]\n\n")


def main() -> None:
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", completions)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
