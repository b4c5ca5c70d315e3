"""Checks that each public symbol of the door has a full type: reads `pyright --verifytypes --outputjson` from stdin."""

from __future__ import annotations

import json
import sys

import runnable_otel


def main() -> int:
    """0 where every symbol of the door, and its members, has a known type."""
    report = json.load(sys.stdin)["typeCompleteness"]
    door = tuple(f"runnable_otel.{name}" for name in runnable_otel.__all__ if not name.startswith("_"))
    symbols = [each for each in report["symbols"] if each["name"] in door]
    wrong = [each["name"] for each in symbols if not each["isTypeKnown"] or each["isTypeAmbiguous"]]
    print(f"{len(symbols)} public symbols of {len(door)} found, {len(wrong)} without a full type: {wrong}")
    return int(bool(wrong) or len(symbols) < len(door))


if __name__ == "__main__":
    sys.exit(main())
