"""Measures two nodes on this machine, and prints what it found as JSON."""

from __future__ import annotations

import argparse
import json
import sys

from earshot.lab.nodes.measure import measure


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m earshot.lab.nodes", description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the bus is measured, twice")
    given = parser.parse_args()
    found = measure(given.model, given.seconds, lambda what: print(what, file=sys.stderr, flush=True))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
