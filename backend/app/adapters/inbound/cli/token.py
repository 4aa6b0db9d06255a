"""`atelier token`: show the token of the installation, or replace it."""

from pathlib import Path

from app.adapters.inbound.cli.output import complain, note, say
from app.adapters.inbound.cli.running import page_at, running_at, token_of, with_name
from app.bootstrap import make_token_file
from app.core.domain.errors import AtelierError
from app.core.domain.program import program
from app.settings import AuthMode, Settings, settings_for


def show(data_dir: Path | None) -> int:
    """Print the token; the exit code."""
    settings = settings_for(data_dir)
    if settings.auth_mode is AuthMode.NONE:
        return complain("AUTH_MODE is none: no token is asked for.")
    token = token_of(settings)
    if token is None:
        return complain(
            f"There is no token in {settings.data_dir} yet. It is made at the first start: {program()} serve, "
            "or say where the data folder is with --data-dir."
        )
    say(token)
    _note_address(settings, token)
    return 0


def rotate(data_dir: Path | None) -> int:
    """Replace the token and print the new one; the exit code."""
    settings = settings_for(data_dir)
    if settings.atelier_token is not None:
        return complain("The token is set by ATELIER_TOKEN. Set another one there and start the service again.")
    address = running_at(settings)  # asked with the token that it still knows
    try:
        token = make_token_file(settings).rotate()
    except AtelierError as error:
        return complain(error.message)
    say(token)
    note("The old token and all browser sessions have ended. A running service uses the new token at once.")
    if address is not None:
        note(f"Sign in again at {page_at(with_name(address), token)}")
    return 0


def _note_address(settings: Settings, token: str) -> None:
    if (address := running_at(settings)) is not None:
        note(f"The service runs at {page_at(with_name(address), token)}")
