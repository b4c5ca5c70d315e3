// Reads OTLP JSON lines from standard input as the Collector's receiver for files of OTLP JSON does, with the Collector's
// own decoder, and writes each request as protobuf, in base64: a line "traces …" or "logs …".
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"os"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		traces, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(lines.Bytes())
		check(err)
		if traces.ResourceSpans().Len() != 0 {
			data, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(traces)
			check(err)
			fmt.Println("traces", base64.StdEncoding.EncodeToString(data))
		}
		logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs(lines.Bytes())
		check(err)
		if logs.ResourceLogs().Len() != 0 {
			data, err := (&plog.ProtoMarshaler{}).MarshalLogs(logs)
			check(err)
			fmt.Println("logs", base64.StdEncoding.EncodeToString(data))
		}
	}
	check(lines.Err())
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
