"""Who may come in: tokens, cookies, origins and hosts."""

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.client import Service
from tests.integration.conftest import TOKEN, Start


async def shake_hands(service: Service, **headers: str) -> int:
    """The status of a WebSocket handshake."""
    try:
        async with connect(
            service.ws_url, additional_headers={name.replace("_", "-"): value for name, value in headers.items()}
        ):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def bearer() -> str:
    return f"Bearer {TOKEN}"


async def cookie_of(service: Service) -> str:
    async with service.http(headers={}) as http:
        answer = await http.get("/", params={"token": TOKEN})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    set_cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in set_cookie
    assert "samesite=strict" in set_cookie
    assert TOKEN not in set_cookie
    return answer.cookies[cookie_name(service)]


def cookie_name(service: Service) -> str:
    return service.app.state.cookie.name("http")


async def test_the_address_with_the_token_logs_a_browser_in(service: Service):
    cookie = await cookie_of(service)
    async with service.http(headers={}, cookies={cookie_name(service): cookie}) as http:
        assert (await http.get("/api/conversations")).status_code == 200
        assert (await http.get("/")).status_code == 200
        assert (await http.get("/api/auth/me")).json() == {
            "id": "local",
            "name": "local",
            "features": {"workflows": False},
        }


async def test_a_wrong_token_gets_the_login_page_again(service: Service):
    async with service.http(headers={}) as http:
        wrong = await http.get("/", params={"token": "wrong"})
        assert wrong.status_code == 401
        assert 'role="alert"' in wrong.text
        assert (await http.get("/")).status_code == 401
        form = await http.post("/api/auth/login", data={"token": "wrong"})
        assert form.status_code == 401
        assert "set-cookie" not in form.headers


async def test_the_login_form_and_its_json_work(service: Service):
    async with service.http(headers={}) as http:
        assert (await http.post("/api/auth/login", data={"token": TOKEN})).status_code == 303
        assert (await http.get("/api/conversations")).status_code == 200
        assert (await http.post("/api/auth/logout")).status_code == 204
        assert (await http.get("/api/conversations")).status_code == 401
        assert (await http.post("/api/auth/login", json={"token": TOKEN})).json() == {"user": "local"}
        assert (await http.post("/api/auth/login", json={"token": "x"})).status_code == 401
        assert (await http.post("/api/auth/login", content="nonsense")).status_code == 422


async def test_a_browser_needs_its_own_origin_for_a_socket(service: Service):
    cookie = f"{cookie_name(service)}={await cookie_of(service)}"
    own = service.url
    assert await shake_hands(service, Cookie=cookie, Origin=own) == 101
    assert await shake_hands(service, Cookie=cookie) == 401
    for foreign in ("https://evil.example", "null", "http://127.0.0.1:1", own + ".evil.example", "file://"):
        assert await shake_hands(service, Cookie=cookie, Origin=foreign) == 403, foreign
        assert await shake_hands(service, Authorization=bearer(), Origin=foreign) == 403, foreign
    assert await shake_hands(service, Authorization=bearer()) == 101
    assert await shake_hands(service, Cookie=f"{cookie_name(service)}=wrong", Origin=own) == 401


async def test_a_foreign_origin_is_refused_on_http_too(service: Service):
    async with service.http() as http:
        for foreign in ("https://evil.example", "null"):
            answer = await http.get("/api/conversations", headers={"Origin": foreign})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert (await http.get("/api/conversations", headers={"Origin": service.url})).status_code == 200


async def test_an_origin_that_is_listed_may_come(start: Start):
    service = await start(allowed_origins=["https://app.example"])
    assert await shake_hands(service, Authorization=bearer(), Origin="https://app.example") == 101
    assert await shake_hands(service, Authorization=bearer(), Origin="https://other.example") == 403
    async with service.http(headers={}) as http:
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        preflight = await http.options("/api/conversations", headers=asked)
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 403),
        ("localhost", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("a.localhost:1", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:80.evil.example", 403),
        ("[::1", 403),
        ("[::1]evil.example", 403),
        ("[127.0.0.1]:80:80", 403),
        ("localhost:evil.example/a", 403),
        ("localhost:", 403),
        ("localhost:70000", 403),
        ("evil@localhost", 403),
        ("localhost/..", 403),
        ("localhost, evil.example", 403),
        (".localhost", 403),
        ("", 403),
    ],
)
async def test_a_foreign_host_name_is_refused(service: Service, host: str, status: int):
    async with service.http() as http:
        answer = await http.get("/api/conversations", headers={"Host": host})
    assert answer.status_code == status
    assert await shake_hands(service, Authorization=bearer(), Host="evil.example") == 403


async def test_a_host_name_that_is_listed_may_be_used(start: Start):
    service = await start(allowed_hosts=["chat.example"])
    async with service.http() as http:
        assert (await http.get("/api/models", headers={"Host": "chat.example:8443"})).status_code == 200


async def test_without_credentials_whoever_is_here_may_come_but_no_foreign_page(start: Start):
    service = await start(auth_mode="none")
    async with service.http(headers={}) as http:
        assert (await http.get("/api/conversations")).status_code == 200
    assert await shake_hands(service) == 101
    assert await shake_hands(service, Origin="https://evil.example") == 403


async def test_everything_but_health_and_the_first_page_needs_a_credential(service: Service):
    async with service.http() as http:
        document = (await http.get("/openapi.json")).json()
    async with service.http(headers={}) as http:
        for path, item in document["paths"].items():
            for method in item:
                answer = await http.request(method.upper(), path.replace("{", "").replace("}", ""), json={})
                is_open = path.startswith("/api/health") or path == "/api/auth/login"
                assert (answer.status_code != 401) == is_open or path == "/api/auth/login", path
        for path in ("/docs", "/openapi.json", "/metrics", "/nothing"):
            assert (await http.get(path)).status_code == 401, path


HEADERS = ("content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy")


async def test_every_answer_has_the_security_headers(service: Service):
    async with service.http() as http:
        document = (await http.get("/openapi.json")).json()
        paths = [path.replace("{", "").replace("}", "") for path in document["paths"]]
        for path in [
            *paths,
            "/",
            "/docs",
            "/openapi.json",
            "/nothing",
            "/v1/models",
            "/v1/none",
            "/mcp",
            "/assets/x.js",
        ]:
            for headers in (service.headers, {"Authorization": "Bearer wrong"}, {"Host": "evil.example"}):
                answer = await http.get(path, headers=headers)
                for name in HEADERS:
                    assert len(answer.headers.get_list(name)) == 1, (path, headers, name)
                assert (
                    "frame-ancestors 'none'" in answer.headers["content-security-policy"]
                    or "sandbox" in (answer.headers["content-security-policy"])
                ), path


async def test_the_api_page_runs_its_own_scripts_alone(service: Service):
    async with service.http() as http:
        answer = await http.get("/docs")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self' 'sha256-" in policy
    assert "'unsafe-inline'" not in policy.partition("style-src")[0]
