"""A whole turn against a raw relay: `python -m bench.turn`.

Processes answer the same clients from the same upstream, 50 pieces and no delay: a raw relay (no graph, no store), the
service on SQLite, the same with its events in Redis too, and the service on MongoDB's wire. They take turns round by
round, so that a noisy machine is noisy for all; figures are medians of rounds, ratios are of the same round.
"""

import argparse
import statistics
import sys
from contextlib import ExitStack

from bench import rig

LIMIT_RATE = 0.30
LIMIT_FIRST_MS = 5.0
LIMIT_REDIS = 0.70


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turns", type=int, default=320, help="turns a round")
    parser.add_argument("--no-mongo", action="store_true")
    options = parser.parse_args()
    failed = False
    with ExitStack() as stack:
        base_url = stack.enter_context(rig.upstream())
        targets = {"relay": stack.enter_context(rig.relay(base_url))}
        targets["sqlite"] = rig.ws_url(stack.enter_context(rig.service(base_url)))
        if redis_url := stack.enter_context(rig.redis()):
            targets["sqlite, redis"] = rig.ws_url(stack.enter_context(rig.service(base_url, REDIS_URL=redis_url)))
        if not options.no_mongo:
            mongodb_url = stack.enter_context(rig.mongo())
            targets["mongodb wire"] = rig.ws_url(stack.enter_context(rig.service(base_url, mongodb_url=mongodb_url)))
        for url in targets.values():
            rig.measure_turns(url, 4, 80)
        for connections in (1, 16):
            rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in targets}
            for _ in range(options.rounds):
                for name, url in targets.items():
                    rounds[name].append(rig.measure_turns(url, connections, options.turns))
            print(
                f"\n{connections} connection{'s' if connections > 1 else ''}, {options.rounds} rounds of {options.turns} turns"
            )
            for name, figures in rounds.items():
                rate = statistics.median(figure[0] for figure in figures)
                first = statistics.median(figure[1] for figure in figures)
                ratio = statistics.median(a[0] / b[0] for a, b in zip(figures, rounds["relay"], strict=True))
                behind = statistics.median(a[1] - b[1] for a, b in zip(figures, rounds["relay"], strict=True))
                print(
                    f"  {name:14} {rate:7.0f} turns/s  {ratio:6.1%} of the relay   first piece {first:6.2f} ms ({behind:+.2f})"
                )
                if name == "sqlite, redis":
                    slower = statistics.median(a[0] / b[0] for a, b in zip(figures, rounds["sqlite"], strict=True))
                    print(f"{'':17}{slower:6.1%} of the service without Redis (at least {LIMIT_REDIS:.0%})")
                    failed |= slower < LIMIT_REDIS
                if name == "sqlite":
                    failed |= ratio < LIMIT_RATE or (connections == 1 and behind > LIMIT_FIRST_MS)
    print(
        f"\nlimits (SQLite): at least {LIMIT_RATE:.0%} of the relay, first piece at most {LIMIT_FIRST_MS} ms behind: {'MISSED' if failed else 'kept'}"
    )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
