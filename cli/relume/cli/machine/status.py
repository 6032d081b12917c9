"""`relume status`: what is running, what is at zero, what failed and why."""

import asyncio

import click
from rich.text import Text

from relume.base.sizes import written
from relume.cli.cluster.options import ClusterTarget, cluster_options
from relume.cli.errors import BadUsage
from relume.cli.machine.client import PlaneClient, find_plane
from relume.cli.machine.job_story import show_queues
from relume.cli.machine.reports import ServiceStatus, Status, TriggerStatus
from relume.cli.machine.story import show_cold_start
from relume.cli.options import output_option, plane_option
from relume.cli.screen import Screen

_LOG_LINES = 15
_STYLES = {
    "zero": "blue",
    "starting": "yellow",
    "ready": "green",
    "draining": "cyan",
    "failed": "bold red",
}


@click.command("status", short_help="What is running, what is at zero, what failed and why.")
@output_option
@plane_option
@cluster_options
def command(*, output: str, url: str | None, target: ClusterTarget) -> int:
    """Show the services, Brokers, Triggers and flows of the plane, or of a cluster's namespace.

    A service that failed is shown with the reason and the last lines of its log. With --context,
    --kubeconfig or --namespace it shows a cluster instead: conditions, pods, and the devices that
    they hold. The exit code is then 1 where a pod is ready without a device that its service asks
    for.

    \b
    Examples:
      relume status
      relume status -o json | jq '.serving.services[].state'
      relume status --context prod --namespace models
    """
    if target.context or target.kubeconfig or target.namespace:
        if url is not None:
            raise BadUsage(
                "--url asks a plane; --context, --kubeconfig and --namespace ask a cluster: leave "
                "one of them out"
            )
        from relume.cli.cluster.status import show_cluster_status

        return show_cluster_status(target, output)
    raw = asyncio.run(_fetch(find_plane(url)))
    screen = Screen.stdout()
    if output == "json":
        screen.json(raw)
    else:
        _show_status(screen, Status.parse(raw))
    return 0


async def _fetch(url: str) -> object:
    async with PlaneClient(url) as plane:
        return await plane.raw_status()


def _show_status(screen: Screen, status: Status) -> None:
    """The whole report, for a reader."""
    screen.title(f"relume {status.version} at {status.http} (pid {status.pid})")
    screen.pairs(
        [
            ("services", f"{status.http}/serving/NAMESPACE/NAME"),
            ("OpenAI base URL", f"{status.http}/openai/v1"),
            ("state", status.state_dir),
            ("started", status.started_at),
            ("template", status.template.words),
            ("memory", status.serving.memory.words),
            ("nats", status.eventing.nats.words if status.eventing.nats else "starting"),
        ]
    )
    screen.line()
    headers = ("service", "state", "ready", "held", "running", "starts", "last")
    screen.table(headers, [_service_row(service) for service in status.serving.services])
    for service in status.serving.services:
        _show_wait_for_memory(screen, service)
    show_eventing(screen, status)
    if status.jobs.queues:
        screen.line()
        show_queues(screen, {queue.service: queue for queue in status.jobs.queues})
    for service in status.serving.services:
        _show_traffic(screen, service)
        if service.rollout is not None:
            screen.line()
            why = service.rollout.reason or "it is starting"
            screen.line(f"{service.full_name}: {service.rollout.to} is to follow: {why}", "yellow")
        if service.state == "failed":
            _show_failure(screen, service)
        elif service.last_cold_start is not None:
            screen.line()
            show_cold_start(screen, service.last_cold_start)


def _show_traffic(screen: Screen, service: ServiceStatus) -> None:
    """One row for each revision, where two share the requests."""
    if not service.traffic:
        return
    screen.line()
    headers = ("revision", "tag", "gets", "state", "ready", "held", "running", "starts")
    rows = [
        (
            part.revision,
            part.tag,
            f"{part.percent} %" + ("" if part.percent == part.asked else f" of {part.asked} %"),
            part.state,
            str(part.replicas),
            str(part.held),
            str(part.in_flight),
            str(part.cold_starts),
        )
        for part in service.traffic
    ]
    screen.table(headers, rows)
    for part in service.traffic:
        if part.reason is not None:
            screen.line(f"{part.revision}: {part.reason}", "red")
            for line in part.log_tail[-_LOG_LINES:]:
                screen.line(f"  {line}", "dim")


def show_eventing(screen: Screen, status: Status) -> None:
    """One row for each Broker, channel and Trigger.

    What is on the HTTP port is shown by its path.
    """
    brokers = [each for each in status.eventing.brokers if each.of is None]
    channels = [each for each in status.eventing.brokers if each.of is not None]
    triggers = status.eventing.triggers
    if brokers:
        screen.line()
        rows = [
            (b.full_name, b.profile, str(b.accepted), str(b.dead_letters), b.url) for b in brokers
        ]
        screen.table(("broker", "as", "accepted", "dead", "url"), rows)
    if channels:
        screen.line()
        rows = [
            (c.full_name, c.of or "", str(c.accepted), str(c.dead_letters), c.url) for c in channels
        ]
        screen.table(("channel", "of", "accepted", "dead", "url"), rows)
    if doors := status.eventing.request_replies:
        screen.line()
        screen.table(
            ("request-reply", "broker", "waiting", "url"),
            [(each.full_name, each.broker, str(each.waiting), each.url) for each in doors],
        )
    if triggers:
        screen.line()
        screen.table(
            ("trigger", "waiting", "running", "done", "retried", "dead", "subscriber"),
            [_trigger_row(trigger, status.http) for trigger in triggers],
        )
    for trigger in triggers:
        if trigger.dropped:
            screen.line(
                f"{trigger.full_name}: {trigger.dropped} lost, as with its Broker's class", "yellow"
            )


def _service_row(service: ServiceStatus) -> tuple[str | Text, ...]:
    last = service.last_cold_start
    start_ms = last.start_ms if last else None
    return (
        service.full_name,
        Text(_state(service), style=_STYLES.get(service.state, "")),
        f"{service.replicas}/{service.desired}",
        str(service.held),
        str(service.in_flight),
        str(service.cold_starts),
        "-" if start_ms is None else f"{start_ms:,.0f} ms",
    )


def _state(service: ServiceStatus) -> str:
    words = f"{service.state}: {service.phase}" if service.phase else service.state
    if service.state == "starting" and service.ready_in is not None:
        words += f", {service.ready_in}"
    return words


def _show_wait_for_memory(screen: Screen, service: ServiceStatus) -> None:
    memory = service.memory
    if memory.waiting_s is None:
        return
    of = " and ".join(memory.waits_for) or "what leaves now"
    need = f"{written(memory.need or 0)} for a replica"
    screen.line(
        f"{service.full_name} has waited {memory.waiting_s:,.0f} s for memory ({need}), which {of} "
        f"{'hold' if len(memory.waits_for) > 1 else 'holds'}",
        "yellow",
    )


def _trigger_row(trigger: TriggerStatus, http: str) -> tuple[str, ...]:
    return (
        trigger.full_name,
        *map(str, (trigger.pending, trigger.in_flight, trigger.delivered)),
        *map(str, (trigger.retried, trigger.dead_lettered)),
        trigger.subscriber.removeprefix(http),
    )


def _show_failure(screen: Screen, service: ServiceStatus) -> None:
    screen.line()
    screen.line(f"{service.full_name} failed: {service.reason or '?'}", "bold red")
    for line in service.log_tail[-_LOG_LINES:]:
        screen.line(f"  {line}", "dim")
