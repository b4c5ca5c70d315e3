import { context, SpanStatusCode, trace } from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const exporter = new OTLPTraceExporter({ url: `${process.argv[2]}/v1/traces` });
const provider = new BasicTracerProvider({ spanProcessors: [new BatchSpanProcessor(exporter)] });
const tracer = provider.getTracer("checkout", "1.0");
const root = tracer.startSpan("GET /cart", { attributes: { "http.request.method": "GET", items: ["a", "b"] } });
const inside = trace.setSpan(context.active(), root);
const child = tracer.startSpan("SELECT", { attributes: { rows: 3, ratio: 0.5, hit: false } }, inside);
child.addEvent("retry", { attempt: 2 });
child.setStatus({ code: SpanStatusCode.ERROR, message: "deadlock" });
child.end();
root.end();
await provider.forceFlush();
await provider.shutdown();
console.log(root.spanContext().traceId);
