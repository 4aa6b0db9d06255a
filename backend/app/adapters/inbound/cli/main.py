"""The command `atelier`: a module a subcommand, imported when it is asked for."""

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from app import __version__


class Commands(TyperGroup):
    """A group of commands that lists each with its whole first sentence, and knows `-h`."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])
        for command in self.commands.values():
            if command.short_help is None and command.help:
                command.short_help = inspect.cleandoc(command.help).split("\n\n")[0].replace("\n", " ")


app = typer.Typer(
    cls=Commands,
    name="atelier",
    help="An agent chat service that keeps every message, tool call and result.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

keys = typer.Typer(
    cls=Commands, help="Keep the keys of providers in the data folder.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(keys, name="keys")

workflow = typer.Typer(
    cls=Commands, help="Make tools of ComfyUI workflows.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(workflow, name="workflow")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None: ...


token = typer.Typer(help="Show or replace the token of the service.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(token, name="token")

DataDir = Annotated[Path | None, typer.Option(help="Where the service keeps its data. [DATA_DIR, ./data]")]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on. [HOST, 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on; 0 takes a free one. [PORT, 8000]")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="The folder for the database, the token and files. [DATA_DIR, ./data]")
    ] = None,
) -> None:
    """Start the service."""
    from app.adapters.inbound.cli.serve import run

    given = {"host": host, "port": port, "data_dir": data_dir}
    raise typer.Exit(run({key: value for key, value in given.items() if value is not None}))


@app.command()
def chat(
    message: Annotated[str | None, typer.Argument(help="Ask this, print the answer, and end.")] = None,
    url: Annotated[
        str, typer.Option(envvar="ATELIER_URL", help="The address of the service.")
    ] = "http://127.0.0.1:8000",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="ATELIER_TOKEN",
            help="The service's token; found in the data folder when it runs here.",
            show_default=False,
        ),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the service keeps its data. [DATA_DIR, ./data]")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The model to ask, as provider@model.")] = None,
    conversation: Annotated[
        str | None, typer.Option("--conversation", "-c", help="Go on with this conversation.")
    ] = None,
    last: Annotated[bool, typer.Option("--continue", help="Go on with the newest conversation.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the newest conversations, and end.")] = False,
) -> None:
    """Talk to the service in the terminal."""
    from app.adapters.inbound.cli.chat import Options, run

    options = Options(
        url=url,
        token=token,
        data_dir=data_dir,
        model=model,
        conversation=conversation,
        last=last,
        listing=listing,
        message=message,
    )
    raise typer.Exit(run(options))


@app.command()
def ask(
    prompt: Annotated[str | None, typer.Argument(help="What to ask; what is piped in stands behind it.")] = None,
    provider: Annotated[str | None, typer.Option("--provider", "-p", help="The provider to ask.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The model to ask.")] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="What the model is told first.")] = None,
    tools: Annotated[Path | None, typer.Option(help="A JSON file of tools, as OpenAI defines them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole reply as JSON.")] = False,
    stream: Annotated[
        bool | None, typer.Option("--stream/--no-stream", help="Print pieces as they come; at a terminal by itself.")
    ] = None,
) -> None:
    """Ask one model one thing, without the service and without keeping anything."""
    from app.adapters.inbound.cli.ask import Question, run

    raise typer.Exit(run(Question(prompt, provider, model, system, tools, as_json, stream)))


@app.command()
def models(
    provider: Annotated[str | None, typer.Argument(help="Only those of this provider.")] = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all that is known, as JSON.")] = False,
) -> None:
    """List the models that can be asked here."""
    from app.adapters.inbound.cli.models import run

    raise typer.Exit(run(provider, data_dir, as_json))


@app.command()
def doctor(
    provider: Annotated[str, typer.Argument(help="The provider to ask.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Its model; the usual one where none is named.")
    ] = None,
) -> None:
    """Send a provider five small requests and say what works, and what it cost."""
    from app.adapters.inbound.cli.doctor import run

    raise typer.Exit(run(provider, model))


@app.command()
def mcp(
    data_dir: DataDir = None,
    build: Annotated[
        bool, typer.Option("--build", help="The tools that build a workflow, in place of those that run one.")
    ] = False,
) -> None:
    """Serve the workflow tools to an MCP client over standard input and output."""
    from app.adapters.inbound.cli.mcp import run

    raise typer.Exit(run(data_dir, build))


@workflow.command("import")
def import_workflow(
    file: Annotated[
        Path, typer.Argument(help="A workflow as JSON (API or canvas format), or a PNG that ComfyUI made.")
    ],
    name: Annotated[str | None, typer.Option(help="The tool's name; the file's when left out.")] = None,
    object_info: Annotated[
        Path | None, typer.Option(help="ComfyUI's /object_info in a file, where COMFYUI_URL is not set.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False,
) -> None:
    """Make a tool of a workflow: shows what it would be, and never overwrites."""
    from app.adapters.inbound.cli.workflow import run

    raise typer.Exit(run(file, name, object_info, yes))


@workflow.command("list")
def list_workflows() -> None:
    """List the workflow tools, and what is wrong with those that cannot be offered."""
    from app.adapters.inbound.cli.workflow import listing

    raise typer.Exit(listing())


@keys.command("set")
def set_key(
    provider: Annotated[str, typer.Argument(help="For example mistral.")],
    data_dir: DataDir = None,
    force: Annotated[
        bool, typer.Option("--force", help="Store the key as well where the provider cannot be asked.")
    ] = False,
) -> None:
    """Enter a provider's key; it is read from the terminal, never from the command line.

    The provider is asked first, and a key that it refuses is not stored.
    """
    from app.adapters.inbound.cli.keys import set_key

    raise typer.Exit(set_key(provider, data_dir, force=force))


@keys.command("list")
def list_keys(data_dir: DataDir = None) -> None:
    """Say which providers have a key, and where it is kept."""
    from app.adapters.inbound.cli.keys import list_keys

    raise typer.Exit(list_keys(data_dir))


@keys.command("remove")
def remove_key(provider: Annotated[str, typer.Argument(help="For example mistral.")], data_dir: DataDir = None) -> None:
    """Forget the key of a provider."""
    from app.adapters.inbound.cli.keys import remove_key

    raise typer.Exit(remove_key(provider, data_dir))


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The archive to write, for example atelier.tar.gz.")],
    data_dir: DataDir = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an archive that is there.")] = False,
    secrets: Annotated[
        bool, typer.Option("--secrets", help="Put the token and the keys of providers into it.")
    ] = False,
) -> None:
    """Write everything that is kept here to one archive, also while the service runs."""
    from app.adapters.inbound.cli.backup import backup

    raise typer.Exit(backup(file, data_dir, force=force, secrets=secrets))


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="An archive that `atelier backup` wrote.")],
    data_dir: DataDir = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is there; it is kept aside in the data folder.")
    ] = False,
) -> None:
    """Put a backup in its place, while no service runs."""
    from app.adapters.inbound.cli.backup import restore

    raise typer.Exit(restore(file, data_dir, force=force))


@token.command("show")
def show_token(data_dir: DataDir = None) -> None:
    """Print the token of the service."""
    from app.adapters.inbound.cli.token import show

    raise typer.Exit(show(data_dir))


@token.command("rotate")
def rotate_token(data_dir: DataDir = None) -> None:
    """Replace the token and print the new one; the old one and all browser sessions end at once."""
    from app.adapters.inbound.cli.token import rotate

    raise typer.Exit(rotate(data_dir))


@app.command()
def check(
    data_dir: Annotated[Path | None, typer.Option(help="The data folder to check. [DATA_DIR, ./data]")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Rebuild what follows from the stored messages, while no service runs.")
    ] = False,
) -> None:
    """Check that what is stored keeps every promise of the service."""
    from app.adapters.inbound.cli.check import run

    raise typer.Exit(run(data_dir, repair=repair))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """The entry point of the command."""
    app()
