"""Look the locked dependencies up in the databases of known vulnerabilities: `make audit`.

Python's by `uv audit` (osv.dev), those of the page and of the test clients by `npm audit` (the npm registry). The exit
status is 0 where nothing is known, 1 where something is, and 2 where a database could not be asked.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
NODE = ("frontend", "backend/tests/node_clients")
CLEAN, FOUND, NOT_ASKED = 0, 1, 2


def main() -> int:
    """Audit everything; the exit status."""
    results = [audit_python(), *(audit_node(folder) for folder in NODE)]
    if NOT_ASKED in results:
        print("\nNot everything was audited: run `make audit` where osv.dev and registry.npmjs.org can be reached.")
    return FOUND if FOUND in results else max(results)


def audit_python() -> int:
    """The packages of uv.lock."""
    uv = Path(sys.executable).parent / "uv"
    done = subprocess.run([str(uv), "audit", "--frozen"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode in (CLEAN, FOUND):
        print(f"uv.lock:\n{done.stdout}{done.stderr}".rstrip())
        return done.returncode
    return not_asked("uv.lock", done.stderr.strip().rpartition("\n")[2])


def audit_node(folder: str) -> int:
    """The packages of a package-lock.json."""
    name = f"{folder}/package-lock.json"
    npm = shutil.which("npm")
    if npm is None:
        return not_asked(name, "npm is not installed")
    done = subprocess.run(
        [npm, "audit", "--json", "--package-lock-only"], cwd=ROOT / folder, capture_output=True, text=True, check=False
    )
    try:
        vulnerabilities = json.loads(done.stdout)["vulnerabilities"]
    except (ValueError, KeyError):
        return not_asked(name, done.stderr.strip().partition("\n")[0])
    for package, details in sorted(vulnerabilities.items()):
        print(f"{name}: {package} {details['range']}: {details['severity']}")
    print(f"{name}: {len(vulnerabilities)} packages with known vulnerabilities")
    return FOUND if vulnerabilities else CLEAN


def not_asked(what: str, why: str) -> int:
    """Say that a database could not be asked, and what was said instead."""
    print(f"{what}: NOT AUDITED ({why.strip() or 'no answer'})")
    return NOT_ASKED


if __name__ == "__main__":
    sys.exit(main())
