"""Sends the events of a run over OTLP/HTTP, batch by batch, each again and again until it is acknowledged.

python producer.py PORT TRACE RUN_ID TASKS BATCH FIRST; prints after each batch how many events are acknowledged.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.kills import facts


def request(events: list[dict[str, Any]]) -> bytes:
    records = [
        {
            "timeUnixNano": "1795470000000000000",
            "eventName": f"runnable.{event['type']}",
            "body": {"stringValue": json.dumps(event)},
            "attributes": [{"key": "uid", "value": {"stringValue": event["uid"]}}],
        }
        for event in events
    ]
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()


def send(port: int, body: bytes) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("POST", "/v1/logs", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    if response.status == 200:
        assert json.loads(answer or b"{}").get("partialSuccess", {}).get("rejectedLogRecords", 0) in (0, "0"), answer
        return True
    assert response.status in (502, 503), (response.status, answer)
    return False


def main() -> None:
    port, tasks, batch, first = (int(sys.argv[number]) for number in (1, 4, 5, 6))
    events = facts(sys.argv[2], sys.argv[3], tasks)
    while first < len(events):
        body = request(events[first : first + batch])
        while not send(port, body):
            time.sleep(0.02)  # what a producer does, not a test
        first = min(first + batch, len(events))
        print(first, flush=True)


main()
