"""See the package: judge again, or write the page."""

from __future__ import annotations

import argparse
import json

from .judging import all_known, judge_again, one
from .page import write


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m parity_tests.foreign", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("judge", "one"), help="judge again; or here, to stdout as JSON")
    parser.add_argument("names", nargs="*", help="of pairs; none: all")
    parser.add_argument("--output", help="the folder of the pages to write from what was found")
    args = parser.parse_args()
    if args.what == "one":
        for name in args.names:
            print(json.dumps({"name": name, **one(name, all_known())}), flush=True)
    elif args.what == "judge":
        judge_again(args.names or [pair.name for pair in all_known()])
    if args.output:
        write(args.output)


if __name__ == "__main__":
    main()
