"""What an export request is answered where it was taken, all or in part: see "Partial Success" in OTLP."""

from __future__ import annotations

import json

from runnable_otel.ingest.limits import Refused

PROTOBUF = "application/x-protobuf"
JSON = "application/json"


def reply(signal: str, content_type: str, rejected: int = 0, reason: str = "") -> bytes:
    """The response of a request, in its own encoding.

    Args:
        signal: `traces` or `logs`.
        content_type: that of the request.
        rejected: how many spans or log records were not taken.
        reason: why the first of them was not.
    """
    what = "rejected_spans" if signal == "traces" else "rejected_log_records"
    if content_type == JSON:
        first, *more = what.split("_")
        name = first + "".join(word.title() for word in more)
        partial = {"partialSuccess": {name: str(rejected), "errorMessage": reason}}
        return json.dumps(partial if rejected else {}).encode()
    if not rejected:
        return b""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
        ExportLogsPartialSuccess,
        ExportLogsServiceResponse,
    )
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTracePartialSuccess,
        ExportTraceServiceResponse,
    )

    if signal == "traces":
        spans = ExportTracePartialSuccess(rejected_spans=rejected, error_message=reason)
        return ExportTraceServiceResponse(partial_success=spans).SerializeToString()
    logs = ExportLogsPartialSuccess(rejected_log_records=rejected, error_message=reason)
    return ExportLogsServiceResponse(partial_success=logs).SerializeToString()


def media_type(content_type: str) -> str:
    """One of OTLP's two media types.

    Raises:
        Refused: 415, it is neither.
    """
    name = content_type.partition(";")[0].strip().lower()
    if name not in (PROTOBUF, JSON):
        raise Refused(415, f"The body's type is neither {PROTOBUF} nor {JSON}.")
    return name
