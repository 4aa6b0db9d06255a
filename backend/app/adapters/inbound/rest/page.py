"""The pages that need no script: the login, and what there is to do once one is in."""

from collections.abc import Sequence
from html import escape

from app import __version__
from app.core.domain.conversation import Conversation
from app.core.domain.program import program

_STYLE = """
:root { color-scheme: light dark; --accent: #b4532a; --line: color-mix(in srgb, currentColor 18%, transparent); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 42rem; padding: 3rem 1.25rem; font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.9rem; margin: 0; letter-spacing: -0.02em; } h2 { font-size: 1.05rem; margin: 2.2rem 0 .6rem; }
p.lead { margin: .4rem 0 0; opacity: .75; }
pre { background: color-mix(in srgb, currentColor 7%, transparent); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; }
code { font: .92em/1.5 ui-monospace, monospace; } a { color: var(--accent); }
ul { list-style: none; padding: 0; margin: 0; border-top: 1px solid var(--line); }
li { border-bottom: 1px solid var(--line); padding: .55rem 0; display: flex; gap: 1rem; justify-content: space-between; }
li small, .note { opacity: .65; } li span { overflow-wrap: anywhere; }
input { font: inherit; width: 100%; padding: .6rem .8rem; border: 1px solid var(--line); border-radius: 8px; background: transparent;
  color: inherit; }
button { font: inherit; margin-top: .8rem; padding: .6rem 1.2rem; border: 0; border-radius: 8px; background: var(--accent);
  color: #fff; cursor: pointer; }
[role=alert] { border-left: 3px solid #c0392b; padding: .4rem .9rem; margin: 1.4rem 0 0; }
"""


def login_page(problem: str | None = None) -> str:
    """The page that asks for the token."""
    alert = f'<p role="alert">{escape(problem)}</p>' if problem else ""
    return _page(
        "Log in",
        f"""<h1>Atelier</h1><p class="lead">This service is for those who have its token.</p>{alert}
<h2><label for="token">Token</label></h2>
<form method="post" action="/api/auth/login">
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Log in</button></form>
<p class="note">The service printed an address with the token in it when it started. Opening that address logs you in.</p>""",
    )


def welcome_page(model: str, recent: Sequence[Conversation], host: str) -> str:
    """The page of somebody who is logged in: how to begin, and the newest conversations."""
    hint = (
        "<p>It answers with a built-in demonstration that does arithmetic. For a real model enter a provider's key with "
        f"<code>{escape(program(for_clients=True))} keys set mistral</code> (or openai, anthropic, gemini, …); it is used at once.</p>"
        if model.startswith("demo@")
        else f"<p>It answers with <code>{escape(model)}</code>.</p>"
    )
    items = "".join(
        f"<li><span>{escape(c.title or 'Untitled')}</span><small>{c.message_count} messages · {c.updated_at:%Y-%m-%d %H:%M} UTC · "
        f'<a href="/api/conversations/{escape(c.id)}/export?format=markdown">Markdown</a></small></li>'
        for c in recent
    )
    listing = f"<ul>{items}</ul>" if items else '<p class="note">None yet. Say something, and it will be kept here.</p>'
    return _page(
        "Atelier",
        f"""<h1>Atelier</h1><p class="lead">An agent chat service that keeps every message, tool call and result. Version {__version__}.</p>
<p role="alert">The page to talk in is not built, because Node was not there when this was set up. Install Node 20 or newer and
say <code>make run</code> again.</p>
<h2>Talk to it</h2>{hint}
<pre><code>{escape(program(for_clients=True))} chat</code></pre>
<p class="note">Or from a program: <code>ws://{host}/ws</code>, OpenAI's clients at <code>http://{host}/v1</code>, MCP clients at
<code>http://{host}/mcp</code>, and the REST surface on its <a href="/docs">API page</a>.</p>
<h2>Newest conversations</h2>{listing}""",
    )


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{body}</main></body></html>"
    )
