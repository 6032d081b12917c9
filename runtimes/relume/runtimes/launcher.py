"""`python -m relume.runtimes.launcher …`: vLLM's OpenAI server, with its flags, started sooner.

    PORT=8080 python -m relume.runtimes.launcher --model /mnt/models --max-model-len 2048
    python -m relume.runtimes.launcher --template /run/relume/template.sock

It takes the place of `vllm serve` in the container. The port opens before vLLM is imported and the
gatekeeper answers on it; vLLM is imported once and its engine forked; the routes and events that
Relume adds come in through vLLM's endpoint plugin and `--middleware`. With `--template` it imports
vLLM, loads no model, and forks a predictor whenever one is asked for (`relume.runtimes.template`).

Environment: `PORT` (Knative's; `--port` wins), `RELUME_GRACE_S` (seconds from SIGTERM to SIGKILL),
`RELUME_EXPECT_DEVICES` (end where fewer are visible), `RELUME_PARENT_PID` (end with that process),
and what vLLM reads.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from relume.base.environment import port
from relume.base.errors import RelumeError
from relume.base.parent import die_with_parent
from relume.runtimes import devices, imports, internals, read_ahead
from relume.runtimes.ahead import AHEAD, arguments_on
from relume.runtimes.gatekeeper import Gatekeeper
from relume.runtimes.phases import PROCESS
from relume.runtimes.settings import apply_environment, model_folder


def main(argv: Sequence[str] | None = None) -> None:
    """Run until SIGTERM; exits 2 on wrong flags, 1 when the engine cannot start."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if parent := os.environ.get("RELUME_PARENT_PID"):
        die_with_parent(int(parent))
    if arguments[:1] == ["--template"]:
        if len(arguments) not in (2, 3):
            raise SystemExit("--template takes a socket's path and, optionally, a descriptor")
        from relume.runtimes.template import serve_template

        apply_environment()
        serve_template(serve, Path(arguments[1]), *map(int, arguments[2:]))
    else:
        PROCESS.record("fork", _since_process_start_ms())
        serve(arguments)


def serve(argv: Sequence[str]) -> None:
    """Run vLLM's server with `argv` (the flags of `vllm serve`) in this process, until SIGTERM.

    Raises SystemExit with the reason, which a pod's status shows, where it cannot start.
    """
    try:
        _serve(argv)
    except RelumeError as error:
        raise SystemExit(f"relume: {error.reason}: {error}") from error
    finally:
        AHEAD.end_core()


def _serve(argv: Sequence[str]) -> None:
    # vLLM's server has its own handlers once it serves. Until then: as process 1 of a container,
    # a signal without a handler would be ignored for the whole load.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    PROCESS.engine_starts()
    wanted = devices.expected()
    devices.require(wanted, devices.told())  # before the seconds that the import takes
    listening = open_port(argv)
    if not AHEAD.is_loaded:  # else the server accepts in less time than a probe waits
        Gatekeeper.on_duty = Gatekeeper.start(listening, PROCESS)
    if "vllm" not in sys.modules:  # a fork of a template reads them at once itself
        read_ahead.start(model_folder(argv))
    # No engine without its server, and the port is the server's alone: vLLM fails at its end where
    # an engine that is ending too still has it.
    os.register_at_fork(after_in_child=die_with_parent)
    os.register_at_fork(after_in_child=lambda: listening.close())
    with PROCESS.measure("import"):
        _import(argv)
    flags = argv
    if wanted:
        devices.require(wanted, visible := devices.seen())
        sizes = devices.parallel_flags(argv, visible)
        flags = [*sizes, *devices.memory_flags(argv, internals.device_memory), *argv]
    _run_vllm(flags, listening)


def _import(argv: Sequence[str]) -> None:
    """Import of vLLM what comes before its configuration, and let the engine core import its own.

    A fork of a template finds all of it imported.
    """
    apply_environment(argv)
    internals.speed_up_imports()
    imports.import_configuration()
    AHEAD.start_core()
    imports.flags_module()


def open_port(argv: Sequence[str]) -> socket.socket:
    """Listen where `--host`, `--port` or `--uds` say; default 127.0.0.1 and `$PORT` or 8080."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=port("PORT", 8080))
    parser.add_argument("--uds")
    chosen, _ = parser.parse_known_args(list(argv))
    if chosen.uds:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(chosen.uds)
    else:
        family = socket.AF_INET6 if ":" in chosen.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((chosen.host, chosen.port))
        except OSError as error:
            where = f"{chosen.host}:{chosen.port}"
            raise SystemExit(f"cannot listen on {where}: {error.strerror}") from error
    listening.listen(2048)
    return listening


def _run_vllm(argv: Sequence[str], listening: socket.socket) -> None:
    """Parse with vLLM's parser, prepare its internals, and hand over to its server.

    A fork of a model template has all of it already.
    """
    from relume.runtimes.drain import DrainingLoop

    if AHEAD.is_loaded:
        args = arguments_on(listening)
        for phase in ("config", "weights"):
            PROCESS.record(phase, 0.0)
    else:
        PROCESS.enter("config")
        args = internals.arguments(argv)
        if internals.is_cpu():
            internals.stay_in_process_on_cpu()
        internals.time_configuration(PROCESS)
        AHEAD.prepare(args)
        internals.fingerprint_once()
    internals.end_with_the_engine()
    internals.end_a_start_with_the_engine(PROCESS)
    with asyncio.Runner(loop_factory=DrainingLoop) as runner:
        runner.run(internals.run_server(listening, args))


def _since_process_start_ms() -> float:
    """Milliseconds since the kernel started this process: Python's own start-up (Linux)."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return 0.0
    with Path("/proc/uptime").open() as uptime:
        now_s = float(uptime.read().split()[0])
    return (now_s - ticks / os.sysconf("SC_CLK_TCK")) * 1000


if __name__ == "__main__":
    main()
