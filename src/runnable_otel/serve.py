"""`runnable-otel serve`: the live server on this machine, an OTLP back end that needs no set-up."""

from __future__ import annotations

import errno
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from runnable_otel.cli import PROGRAM, Parser
from runnable_otel.settings import SettingError

if TYPE_CHECKING:
    import socket

    from runnable_otel.log import EventLog
    from runnable_otel.server.options import Options

_NEEDS: Final = ("starlette", "uvicorn", "httptools")
_EPILOG: Final = """\
Each option is also a variable: --base-path is RUNNABLE_OTEL_SERVE_BASE_PATH.

examples:
  runnable-otel serve
  runnable-otel serve --db runs.db --otlp-grpc-port off
  runnable-otel serve --host 0.0.0.0 --allowed-host live.example.com
"""


class Stop(Exception):  # noqa: N818 - the end of the command, in one line
    """The server can't run: why, in one line."""


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 after one of those, 1 where the server can't run.
    """
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        return _fail(f"{missing[0]} is not installed: pip install 'runnable-otel[serve]'")
    from runnable_otel.server.options import Options

    parser = _parser()
    named = _read(parser, arguments)
    try:
        options = Options.read(**named)
    except SettingError as error:
        parser.error(_with_flag(error, named))
    try:
        check(options)
        serve(options)
    except Stop as stop:
        return _fail(str(stop))
    return 0


def _fail(reason: str) -> int:
    print(f"{PROGRAM} serve: {reason}", file=sys.stderr)  # noqa: T201 - a command's own output
    return 1


def _parser() -> Parser:
    from runnable_otel.server.options import Options, flag

    parser = Parser(
        "serve",
        usage=f"{PROGRAM} serve [OPTION ...]",
        description="Take OTLP, keep the runs, and show them while they run.",
        epilog=_EPILOG,
    )
    for each in fields(Options):
        default: object = each.default
        described = each.metadata["help"] + (f" ({default})" if default not in ("", ()) else "")
        many: dict[str, Any] = {"action": "append"} if default == () else {}
        parser.add_argument(flag(each.name), dest=each.name, metavar=each.metadata["metavar"], help=described, **many)
    return parser


def _read(parser: Parser, arguments: Sequence[str]) -> dict[str, Any]:
    parsed: Namespace = parser.parse_args(list(arguments))
    return {name: value for name, value in vars(parsed).items() if value is not None}


def _with_flag(error: SettingError, named: dict[str, Any]) -> str:
    """The error's line, with the flag as the user has written it."""
    from runnable_otel.server.options import flag

    name = error.variable
    return str(error).replace(name, flag(name), 1) if name in named else str(error)


def check(options: Options) -> None:
    """Look at the options together.

    Raises:
        Stop: they would let in strangers, or are not possible.
    """
    from runnable_otel.server.options import MIN_TOKEN, is_loopback, variable

    if not is_loopback(options.host):
        for name in ("token", "ingest_token"):
            if len(getattr(options, name)) < MIN_TOKEN:
                raise Stop(
                    f"--host {options.host} can be reached from other machines: set {variable(name)}"
                    f" to a secret of {MIN_TOKEN} characters or more"
                )
    ports = [port for port in (options.port, options.otlp_http_port, options.otlp_grpc_port) if port > 0]
    if len(set(ports)) < len(ports):
        raise Stop("--port, --otlp-http-port and --otlp-grpc-port can't be the same; the page's port takes OTLP too")


class Ports(NamedTuple):
    """The ports that are open; 0 where one is not."""

    page: int
    http: int
    grpc: int


def serve(options: Options) -> None:
    """Serve until a signal ends it, and then at once.

    Raises:
        Stop: a port is in use, or the log can't be opened.
    """
    from runnable_otel.server.app import build, by_port, make_state
    from runnable_otel.server.serving import Server, config

    with ExitStack() as stack:
        page = stack.enter_context(_listen(options, "port"))
        sockets, http = [page], 0
        if options.otlp_http_port >= 0:
            sockets.append(stack.enter_context(_listen(options, "otlp_http_port")))
            http = sockets[1].getsockname()[1]
        log = _open_log(options)
        stack.callback(log.close)
        state = make_state(log, options)
        app = build(state, options)
        ports = Ports(page.getsockname()[1], http, _start_grpc(log, options, stack))
        _raise_file_limit(options.max_streams)
        say("\n".join(announcement(options, ports, state.tokens.code())))
        apps = {http: build(state, options, ingest_only=True)} if http else {}
        Server(config(by_port(app, apps)), state.fanout.close).run(sockets)


def say(text: str) -> None:
    """Print on standard output, at once, so that who waits for a line gets it."""
    print(text, flush=True)  # noqa: T201 - a command's own output


def announcement(options: Options, ports: Ports, code: str) -> list[str]:
    """The lines that the command begins with: where the page is, and what to set for a pipeline."""
    from runnable_otel.server.options import variable

    host = "localhost" if options.host in ("0.0.0.0", "::") else options.host  # noqa: S104 - compared, not bound
    host = f"[{host}]" if ":" in host else host
    lines = [
        f"{PROGRAM} serve: http://{host}:{ports.page}{options.base_path}/#code={code}",
        "The code in this address works once, within ten minutes. Stop with Ctrl-C.",
        "",
        "For your pipelines:",
    ]
    if ports.grpc:
        lines.append(f"  export OTEL_EXPORTER_OTLP_ENDPOINT=http://{host}:{ports.grpc}")
        lines.append("  export RUNNABLE_OTEL_SINKS=otlp:")
    else:
        base = f"http://{host}:{ports.http}" if ports.http else f"http://{host}:{ports.page}{options.base_path}"
        lines.append(f"  export OTEL_EXPORTER_OTLP_ENDPOINT={base}")
        lines.append("  export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf  # pip install 'runnable-otel[http]'")
        lines.append("  export RUNNABLE_OTEL_SINKS=otlp:")
    if options.ingest_token:
        shown = f"${variable('ingest_token')}"
        lines.append(f'  export OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20{shown}"')
        lines.append(f'  export OTEL_RUNNABLE_SINK_TOKEN="{shown}"')
    return [*lines, ""]


def _listen(options: Options, name: str) -> socket.socket:
    from runnable_otel.server.serving import listen

    port: int = getattr(options, name)
    try:
        return listen(options.host, port)
    except UnicodeError:  # a name with a label that is empty or too long is none to the resolver
        raise Stop(f"can't listen on {options.host}: choose another address with --host") from None
    except OSError as error:
        raise no_port(options.host, port, name, error) from None


def no_port(host: str, port: int, name: str, error: OSError) -> Stop:
    """Why a port can't be opened, and the option to change."""
    from runnable_otel.server.options import flag, variable

    use = f"choose another one with {flag(name)} or {variable(name)}"
    if error.errno == errno.EADDRINUSE:
        return Stop(f"port {port} is in use: {use}" + ("" if name == "port" else ", or off"))
    if error.errno == errno.EACCES:
        return Stop(f"port {port} needs more rights than you have: {use}")
    return Stop(f"can't listen on {host}: {error.strerror or error}: choose another address with --host")


def _open_log(options: Options) -> EventLog:
    from runnable_otel import log
    from runnable_otel.log import CannotOpen

    try:
        return log.open_log(options.db, max_runs=options.retain_runs)
    except (CannotOpen, ModuleNotFoundError, ValueError, OSError) as error:
        raise Stop(f"--db: {error}") from None  # it names the file or server; the URL may hold a password


def _start_grpc(log: EventLog, options: Options, stack: ExitStack) -> int:
    """Take OTLP over gRPC until the stack is left, and return the port; 0 where it is off."""
    if options.otlp_grpc_port < 0:
        return 0
    from runnable_otel import ingest

    try:
        server = ingest.grpc_server(log, options.otlp_grpc_port, options.host, token=options.ingest_token or None)
    except OSError as error:
        raise no_port(options.host, options.otlp_grpc_port, "otlp_grpc_port", error) from None
    stack.callback(server.stop)
    return server.port


def _raise_file_limit(streams: int) -> None:
    """Each stream is an open file, and many systems allow a process 1,024 until it asks for more."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = streams + 256
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
