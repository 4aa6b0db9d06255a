"""`atelier workflow`: workflows become tools."""

import asyncio
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from app.adapters.inbound.cli.output import complain, make_console, note, question, say
from app.adapters.inbound.workflow_files import name_from, read_workflow
from app.core.domain.errors import AtelierError
from app.core.domain.program import program
from app.core.domain.workflow import DefinitionError
from app.core.services.canvas import is_canvas
from app.core.services.workflow_import import Imported, import_workflow


def run(file: Path, name: str | None, object_info: Path | None, is_agreed: bool) -> int:
    """Import a workflow, after it has been looked at; the exit code."""
    from app.bootstrap import make_definitions
    from app.settings import settings_for

    try:
        document = read_workflow(file.read_bytes())
        info: Any = None
        if is_canvas(document):
            info = asyncio.run(_object_info()) if object_info is None else read_workflow(object_info.read_bytes())
        imported = import_workflow(name or name_from(file.name), document, info)
        _show(imported)
        if not is_agreed and not sys.stdin.isatty():
            return complain("Nothing was written: there is nobody to ask. Pass --yes to write without asking.")
        if not is_agreed and question("Write it? [Y/n] ").strip().lower() not in ("", "y", "yes"):
            return complain("Nothing was written.")
        settings = settings_for()
        make_definitions(settings).add(imported.name, imported.workflow, imported.definition)
    except OSError as error:
        return complain(f"{error.filename or file} cannot be used: {error.strerror}.")
    except (DefinitionError, AtelierError) as error:
        return complain(str(error))
    except (KeyboardInterrupt, EOFError):
        return complain("Nothing was written.")
    say(
        f"Written: {settings.workflows_dir / imported.name}.json and {settings.tools_config_dir / imported.name}.json. "
        "A running service offers it at once; edit the second file to change names, texts and defaults."
    )
    return 0


def listing() -> int:
    """Print the tools, and what is wrong with the others; the exit code."""
    from app.bootstrap import make_definitions
    from app.settings import settings_for

    definitions = make_definitions(settings_for())
    for tool in definitions.tools().values():
        say(f"{tool.name}  {tool.description}")
    for fault in definitions.faults():
        note(f"{fault.file}, tool {fault.tool or '?'}: {fault.place or '-'}: {fault.message}")
    if not definitions.tools() and not definitions.faults():
        say(f"There are no workflow tools yet. Make one with: {program()} workflow import FILE")
    return 1 if definitions.faults() else 0


def _show(imported: Imported) -> None:
    table = Table("parameter", "type", "value", "node", box=None)
    for field in imported.definition["fields"]:
        value = "required" if field.get("required") else str(field.get("default", field.get("generator", "")))
        node = field["mapping"]["node"]
        table.add_row(field["name"], field["type"], value[:60], f"{imported.workflow[node]['class_type']} ({node})")
    console = make_console(stderr=True)
    console.print(f"{imported.name}: {len(imported.workflow)} nodes")
    console.print(table)
    if imported.notice:
        console.print(imported.notice, highlight=False, markup=False)


async def _object_info() -> Any:
    """ComfyUI's node types, where one is configured."""
    from app.bootstrap import run_tooling
    from app.settings import settings_for

    async with run_tooling(settings_for()) as tooling:
        return await tooling.object_info()
