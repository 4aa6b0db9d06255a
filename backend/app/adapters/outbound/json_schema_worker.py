"""The process that checks values against JSON Schemas that nobody here wrote: one JSON line in, one out.

It imports nothing of the service, so that it starts quickly and can be killed without a loss.
"""

import sys
from typing import Any

import jsonschema_rs
import orjson

MAX_FAULTS = 5


def answer(line: bytes) -> dict[str, Any]:
    """`{"faults": […]}`, or `{"unusable": reason}` where the schema itself is at fault."""
    schema, value = orjson.loads(line)
    try:
        validator = jsonschema_rs.validator_for(
            schema,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=1_000_000, dfa_size_limit=1_000_000),
            offline=True,
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        return {"unusable": getattr(error, "message", str(error))[:300]}
    faults: list[dict[str, str]] = []
    for error in validator.iter_errors(value):
        path = "".join(f"/{part}" for part in error.instance_path)
        faults.append({"path": path[:300], "message": error.message[:500]})
        if len(faults) == MAX_FAULTS:
            break
    return {"faults": faults}


def main() -> None:
    """Answer until the input ends."""
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(orjson.dumps(answer(line)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
