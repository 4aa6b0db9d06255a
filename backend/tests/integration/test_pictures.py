"""Pictures by their address: fetched by the service from public servers only, in bounded time and size."""

import asyncio
import gzip
import io
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from langchain_core.messages import HumanMessage
from PIL import Image

from app.adapters.outbound.llm_providers import pictures as pictures_module
from app.adapters.outbound.llm_providers.pictures import Pictures
from app.adapters.outbound.public_http import FetchFailed, PublicHttp, is_public
from app.core.domain.errors import InvalidFrame

LOOPBACK = [ip_network("127.0.0.0/8")]


def png(size: tuple[int, int] = (2, 2)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size).save(out, "PNG")
    return out.getvalue()


class Site:
    """A web server, and the paths that it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {"/a.png": png()}
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._server = TestServer(app, host="127.0.0.1")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        answer = self.answers.get(request.path)
        if callable(answer):
            return await answer(request)
        if answer is None:
            raise web.HTTPNotFound
        return web.Response(body=answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    await made._server.start_server()
    yield made
    await made._server.close()


@pytest.fixture
async def http() -> AsyncIterator[PublicHttp]:
    made = PublicHttp(LOOPBACK, seconds=20.0)
    yield made
    await made.close()


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.192",
        "192.168.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_addresses_that_are_not_public(address: str):
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses(address: str):
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{port}/a.png",
        "http://localhost:{port}/a.png",
        "http://127.1:{port}/a.png",
        "http://2130706433:{port}/a.png",
        "http://0x7f000001:{port}/a.png",
        "http://0:{port}/a.png",
        "http://[::1]:{port}/a.png",
        "http://[::ffff:127.0.0.1]:{port}/a.png",
        "http://user:secret@127.0.0.1:{port}/a.png",
        "http://169.254.169.254/latest/meta-data",
    ],
)
async def test_private_addresses_are_not_reached(site: Site, address: str):
    http = PublicHttp(seconds=20.0)
    try:
        with pytest.raises(FetchFailed, match=r"is not a public address|broke off|cannot be reached") as failure:
            await http.get(address.format(port=site.url.rpartition(":")[2]))
    finally:
        await http.close()
    assert site.asked == []
    assert "secret" not in str(failure.value)


async def test_a_name_that_resolves_to_loopback_is_not_reached(site: Site, monkeypatch: pytest.MonkeyPatch):
    port = int(site.url.rpartition(":")[2])
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    http = PublicHttp(seconds=20.0)
    try:
        with pytest.raises(FetchFailed, match=r"pictures\.example is not a public address"):
            await http.get(f"http://pictures.example:{port}/a.png")
    finally:
        await http.close()
    assert site.asked == []


async def test_each_socket_is_checked_again(site: Site, monkeypatch: pytest.MonkeyPatch):
    """A resolver that was fooled, as by a name that changes between two look-ups."""
    http = PublicHttp(seconds=20.0)
    port = int(site.url.rpartition(":")[2])

    async def resolve(*args: Any, **options: Any) -> list[dict[str, Any]]:
        return [{"hostname": "x", "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    monkeypatch.setattr(http._resolver, "resolve", resolve)  # pyright: ignore[reportPrivateUsage]
    try:
        with pytest.raises(FetchFailed):
            await http.get(f"http://pictures.example:{port}/a.png")
    finally:
        await http.close()
    assert site.asked == []


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/a", "//127.0.0.1/a", "http://", "gopher:x"])
async def test_other_schemes_are_refused(http: PublicHttp, address: str):
    with pytest.raises(FetchFailed, match="its address"):
        await http.get(address)


async def test_a_picture_is_fetched_from_an_allowed_network(site: Site, http: PublicHttp):
    fetched = await http.get(f"{site.url}/a.png")
    assert fetched.data == png()


async def test_redirects_are_followed_three_times(site: Site, http: PublicHttp):
    async def on(request: web.Request) -> web.Response:
        number = int(request.query["n"])
        raise web.HTTPFound("/a.png" if number == 0 else f"/on?n={number - 1}")

    site.answers["/on"] = on
    assert (await http.get(f"{site.url}/on?n=2")).data == png()
    with pytest.raises(FetchFailed, match="more than 3 times"):
        await http.get(f"{site.url}/on?n=3")


@pytest.mark.parametrize("target", ["http://localhost:{port}/a.png", "http://[::1]:{port}/a.png", "file:///etc/passwd"])
async def test_redirects_are_checked(site: Site, target: str):
    port = site.url.rpartition(":")[2]

    async def away(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": target.format(port=port)})

    site.answers["/away"] = away
    # Only the first address is allowed: where it leads to is not.
    http = PublicHttp([ip_network("127.0.0.1/32")], seconds=20.0)
    http._resolver._http = PublicHttp()  # pyright: ignore[reportPrivateUsage]
    try:
        with pytest.raises(FetchFailed):
            await http.get(f"{site.url}/away")
    finally:
        await http.close()
    assert site.asked == ["/away"]


async def test_a_server_that_hangs_or_drips_is_left(site: Site):
    async def hang(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.02)

    site.answers |= {"/hang": hang, "/drip": drip}
    http = PublicHttp(LOOPBACK, seconds=0.3)
    try:
        for path in ("/hang", "/drip"):
            with pytest.raises(FetchFailed, match=r"did not send it within 0\.3 seconds") as failure:
                await http.get(site.url + path)
            assert failure.value.retryable
    finally:
        await http.close()


async def test_large_files_are_left(site: Site):
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    async def bomb(request: web.Request) -> web.StreamResponse:
        return web.Response(body=gzip.compress(bytes(64 * 1024 * 1024)), headers={"Content-Encoding": "gzip"})

    site.answers |= {"/endless": endless, "/bomb": bomb, "/declared": bytes(2 * 1024 * 1024)}
    http = PublicHttp(LOOPBACK, seconds=20.0, max_bytes=1024 * 1024)
    try:
        for path in ("/endless", "/bomb", "/declared"):
            with pytest.raises(FetchFailed, match="larger than 1 MiB"):
                await http.get(site.url + path)
    finally:
        await http.close()


def asking(url: str, text: str = "What is this?") -> HumanMessage:
    return HumanMessage([{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}])


@pytest.fixture
async def pictures(http: PublicHttp) -> Pictures:
    return Pictures(http=http)


async def test_a_picture_is_sent_as_what_its_bytes_are(site: Site, pictures: Pictures):
    async def lies(request: web.Request) -> web.Response:
        return web.Response(body=png(), content_type="image/jpeg")

    site.answers["/lies"] = lies
    (message,) = await pictures.in_messages([asking(f"{site.url}/lies")])
    (_, image) = message.content
    assert isinstance(image, dict)
    assert image["image_url"]["url"].startswith("data:image/png;base64,")


async def test_a_picture_is_fetched_once_for_many_steps(site: Site, pictures: Pictures):
    for _ in range(5):
        await pictures.in_messages([asking(f"{site.url}/a.png"), asking(f"{site.url}/a.png")])
    assert site.asked == ["/a.png"]


async def test_what_is_no_picture_is_refused(site: Site, pictures: Pictures):
    site.answers |= {
        "/page": b"<html>Sign in</html>",
        "/svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "/bomb": png()[:16] + (2**31 - 1).to_bytes(4) * 2 + png()[24:],
        "/text": b"",
    }
    for path in ("/page", "/svg", "/bomb", "/text", "/missing"):
        with pytest.raises(InvalidFrame, match="Attach the picture itself"):
            await pictures.in_messages([asking(site.url + path)])


async def test_an_older_picture_that_is_gone_leaves_a_note(site: Site, pictures: Pictures):
    messages = await pictures.in_messages([asking(f"{site.url}/gone.png"), asking(f"{site.url}/a.png")])
    assert "HTTP 404" in str(messages[0].content)
    assert "base64" in str(messages[1].content)
    await pictures.in_messages([asking(f"{site.url}/gone.png"), asking(f"{site.url}/a.png")])
    assert site.asked.count("/gone.png") == 1


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "source_type": "url", "url": "{}"},
        {"type": "image", "url": "{}"},
        {"type": "image", "source": {"type": "url", "url": "{}"}},
        {"type": "image_url", "image_url": "{}"},
        {"type": "input_image", "image_url": "{}"},
    ],
)
async def test_every_form_of_an_address_is_found(site: Site, pictures: Pictures, part: dict[str, Any]):
    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        return value.replace("{}", f"{site.url}/a.png")

    (message,) = await pictures.in_messages([HumanMessage([filled(part)])])
    assert site.url not in str(message.content)
    assert "base64" in str(message.content)


@pytest.mark.parametrize("kind", ["file", "audio", "video", "media", "anything"])
async def test_other_files_are_not_fetched(site: Site, pictures: Pictures, kind: str):
    message = HumanMessage([{"type": kind, "url": f"{site.url}/a.png"}])
    assert await pictures.in_messages([message]) == [message]
    assert site.asked == []


async def test_pictures_of_one_request_are_bounded(site: Site, pictures: Pictures, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pictures_module, "MAX_REQUEST_BYTES", 200)
    with pytest.raises(InvalidFrame, match="together larger"):
        await pictures.in_messages([HumanMessage([*asking(f"{site.url}/a.png").content] * 5)])


async def test_kept_pictures_are_bounded(site: Site, pictures: Pictures, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pictures_module, "KEPT_BYTES", 400)
    for number in range(10):
        await pictures.in_messages([asking(f"{site.url}/a.png?{number}")])
    assert pictures._size <= 400  # pyright: ignore[reportPrivateUsage]
    assert len(pictures._kept) < 10  # pyright: ignore[reportPrivateUsage]
