"""`relume dlq` whole: the command, the control API, and an eventing plane with a log in memory."""

import json
from collections.abc import Iterator

import httpx
import pytest

from relume.base.clock import Clock
from relume.base.testing import VirtualClock
from relume.cli.main import run
from relume.cloudevents.event import CloudEvent
from relume.config import Broker, Destination, Plan, Trigger
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import BrokerKey, DiskFull
from relume.eventing.jobs.outbox import OUTBOX, TRIGGER
from relume.eventing.plane import ClosableLog, EventingPlane
from relume.eventing.settings import EventingSettings
from relume.eventing.testing import MemoryLog
from relume.plane.control import Control
from tests.cli.plane_thread import PlaneThread
from tests.ports import own_port

INBOX, OTHER = BrokerKey("default", "inbox"), BrokerKey("default", "other")
Output = pytest.CaptureFixture[str]


class Plane(PlaneThread):
    """A plane with dead letters. Its clock stands still: what is put back waits for its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.log = MemoryLog(EventingSettings(), self.clock)

    def give_up(
        self, id_: str, trigger: str = "ask", broker: BrokerKey = INBOX, **more: object
    ) -> None:
        attributes = {"id": id_, "source": "/s", "type": "t", "knativeerrordest": "http://sub/"}
        attributes |= {"knativeerrorcode": 422, "knativeerrordata": "bm8="}
        attributes |= {"deadletterreason": "rejected", "datacontenttype": "application/json"}
        event = CloudEvent.create({**attributes, **more}, b'{"n": 1}')
        self.do(self.log.bury(broker, trigger, Envelope(event, {"x-request-id": "r"}), 1.0))

    @property
    def stored(self) -> int:
        """How many events were ever stored in the inbox."""
        return len(self.log._logs[INBOX].events)

    async def _run(self) -> None:
        triggers = (("ask", "inbox"), ("also", "inbox"), ("rest", "other"))
        nowhere = Destination(uri="http://127.0.0.1:9/")
        plan = Plan(
            brokers=(Broker("default", "inbox"), Broker("default", "other")),
            triggers=tuple(Trigger("default", name, broker, nowhere) for name, broker in triggers),
        )
        self.eventing = EventingPlane(
            plan,
            None,
            lambda destination, _: destination.uri or "http://broker/",
            clock=self.clock,
            observer=self.observer,
            open_log=self._same_log,
        )
        await self.eventing.start()
        control = Control(
            status=lambda: self._status(eventing=self.eventing.status()),
            cold_starts=lambda: [],
            observer=self.observer,
            dead_letters=lambda: self.eventing.dead_letters,
        )
        await self._serve(control)
        await self.eventing.stop(0)

    async def _same_log(self, settings: EventingSettings, clock: Clock) -> ClosableLog:
        return self.log


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    with Plane() as running:
        monkeypatch.setenv("RELUME_URL", running.url)
        yield running


def listed(capsys: Output, *more: str) -> list[str]:
    """The ids that `list -o json` shows."""
    capsys.readouterr()
    assert run(["dlq", "list", "-o", "json", *more]) == 0
    return [each["id"] for each in json.loads(capsys.readouterr().out)]


def test_list_says_when_where_what_and_why(plane: Plane, capsys: Output) -> None:
    plane.give_up("e-1", knativeerrordata="bm8gbWVzc2FnZXMKaGVyZQ==")
    assert run(["dlq", "list"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert " ".join(header.split()) == "NO TIME BROKER TRIGGER TYPE ID CODE REASON SAID"
    words = row.split()
    assert words[0] == "1"
    assert " ".join(words[3:]) == "default/inbox ask t e-1 422 rejected no messages here"


def test_without_dead_letters_list_says_so(plane: Plane, capsys: Output) -> None:
    assert run(["dlq", "list"]) == 0
    assert capsys.readouterr().out == "no dead letters\n"


def test_list_goes_through_every_broker_and_is_narrowed_by_options(
    plane: Plane, capsys: Output
) -> None:
    plane.give_up("a")
    plane.give_up("b", "also", deadletterreason="retries-exhausted")
    plane.give_up("c", type="u")
    plane.give_up("d", "rest", OTHER)
    assert listed(capsys) == ["a", "b", "c", "d"]
    assert listed(capsys, "--broker", "default/other") == ["d"]
    assert listed(capsys, "--trigger", "also") == ["b"]
    assert listed(capsys, "--reason", "rejected", "--type", "t") == ["a", "d"]
    assert listed(capsys, "--limit", "2") == ["a", "b"]


def test_list_reads_on_over_the_pages_of_the_plane(plane: Plane, capsys: Output) -> None:
    for number in range(450):
        plane.give_up(str(number))
    assert listed(capsys, "--limit", "1000") == [str(number) for number in range(450)]
    assert run(["dlq", "list", "--limit", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "… and more: --limit 30"


def test_show_prints_what_the_subscriber_said_and_the_event_as_it_was(
    plane: Plane, capsys: Output
) -> None:
    plane.give_up("e-1", subject="s", knativebrokerttl=254)
    assert run(["dlq", "show", "1", "--broker", "inbox"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("default/inbox 1: rejected, status 422\n")
    assert "http://sub/" in shown
    assert "\n  no\n" in shown
    assert json.loads(shown.splitlines()[-1])["subject"] == "s"
    assert "knative" not in shown
    assert run(["dlq", "show", "1", "--broker", "inbox", "-o", "json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["event"]["data"] == {"n": 1}
    assert whole["headers"] == {"x-request-id": "r"}


def test_redrive_sends_the_named_ones_through_their_trigger_and_tells_watchers(
    plane: Plane, capsys: Output
) -> None:
    for id_ in ("a", "b", "c"):
        plane.give_up(id_)
    assert run(["dlq", "redrive", "1", "3", "1", "--broker", "inbox"]) == 0
    assert capsys.readouterr().out == "2 redriven\n"
    assert listed(capsys) == ["b"]
    assert plane.stored == 2
    told = [record for record in plane.observer.recent(10) if record.stage == "redriven"]
    assert [(each.event.id, each.trigger) for each in told] == [("a", "ask"), ("c", "ask")]


def test_redrive_all_takes_what_the_options_choose(plane: Plane, capsys: Output) -> None:
    for number in range(5):
        plane.give_up(str(number), "ask" if number % 2 else "also")
    assert run(["dlq", "redrive", "--all", "--trigger", "also", "--broker", "inbox"]) == 0
    assert capsys.readouterr().out == "3 redriven\n"
    assert listed(capsys) == ["1", "3"]


def test_a_number_that_is_not_there_changes_nothing(plane: Plane, capsys: Output) -> None:
    plane.give_up("a")
    for act in (["redrive"], ["purge", "--yes"], ["show"]):
        numbers = ["9"] if act == ["show"] else ["1", "9"]
        assert run(["dlq", *act, *numbers, "--broker", "inbox"]) == 2
        assert capsys.readouterr().err == "relume: default/inbox has no dead letter 9\n"
    assert listed(capsys) == ["a"]
    assert plane.stored == 0


def test_one_whose_trigger_is_gone_fails_and_the_others_are_redriven(
    plane: Plane, capsys: Output
) -> None:
    plane.give_up("a", "gone")
    plane.give_up("b")
    assert run(["dlq", "redrive", "--all", "--broker", "inbox"]) == 1
    said = capsys.readouterr()
    assert said.out == "1 redriven, 1 failed\n"
    assert said.err == "1: default/inbox has no Trigger gone any more\n"
    assert listed(capsys) == ["a"]


def test_purge_says_how_many_it_removed(plane: Plane, capsys: Output) -> None:
    plane.give_up("a")
    plane.give_up("b", type="u")
    assert run(["dlq", "purge", "--all", "--type", "u", "--yes", "--broker", "inbox"]) == 0
    assert capsys.readouterr().out == "1 purged\n"
    assert listed(capsys) == ["a"]
    assert plane.stored == 0


def test_purge_by_age_spares_what_is_younger(plane: Plane, capsys: Output) -> None:
    plane.give_up("a")  # the virtual clock stands still in the past
    line = ["dlq", "purge", "--all", "--yes", "--broker", "inbox", "--older-than"]
    assert run([*line, "1000000h"]) == 0
    assert capsys.readouterr().out == "0 purged\n"
    assert run([*line, "1s"]) == 0
    assert capsys.readouterr().out == "1 purged\n"


def test_purge_asks_first_and_takes_no_for_an_answer(
    plane: Plane, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane.give_up("a")
    line = ["dlq", "purge", "1", "--broker", "inbox"]
    assert run(line) == 2
    assert "add --yes" in capsys.readouterr().err
    asked = []

    def confirm(text: str) -> bool:
        asked.append(text)
        return len(asked) > 1

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.confirm", confirm)
    assert run(line) == 1
    assert capsys.readouterr().out == "nothing removed\n"
    assert run(line) == 0
    assert capsys.readouterr().out == "1 purged\n"
    assert asked[0] == "Remove 1 dead letter of default/inbox for good?"


@pytest.mark.parametrize("act", ["redrive", "purge"])
@pytest.mark.parametrize(
    "line, says",
    [
        ([], "which ones?"),
        (["--trigger", "ask"], "which ones?"),
        (["1", "--all"], "not both"),
        (["1", "--reason", "rejected"], "not both"),
        (["--all", "--older-than", "soon"], "--older-than"),
        (["--all", "--older-than=-168h"], "an age is not negative"),
        (["--all", "--yes-please"], "No such option"),
        (["0"], "0 is not in the range"),
        (["--all"], "choose one with --broker"),
        (["--all", "--broker", "nobody"], "no such Broker here"),
    ],
)
def test_what_is_not_clear_changes_nothing(
    plane: Plane, act: str, line: list[str], says: str, capsys: Output
) -> None:
    plane.give_up("a")
    plane.give_up("b", "rest", OTHER)
    yes = ["--yes"] if act == "purge" else []
    assert run(["dlq", act, *line, *yes]) == 2
    assert says in capsys.readouterr().err
    assert listed(capsys) == ["a", "b"]


def test_the_only_broker_with_dead_letters_needs_no_name(plane: Plane, capsys: Output) -> None:
    plane.give_up("a", "rest", OTHER)
    assert run(["dlq", "show", "1"]) == 0
    assert capsys.readouterr().out.startswith("default/other 1: rejected")
    assert run(["dlq", "redrive", "--all"]) == 0
    assert capsys.readouterr().out == "1 redriven\n"


def test_a_store_that_fails_is_exit_1_and_nothing_is_lost(
    plane: Plane, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane.give_up("a")

    async def away(*_: object) -> None:
        raise DiskFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(plane.log.dead_letters, "remove", away)
        assert run(["dlq", "redrive", "1", "--broker", "inbox"]) == 1
        assert "1: no room" in capsys.readouterr().err
    assert listed(capsys) == ["a"]
    assert run(["dlq", "redrive", "1", "--broker", "inbox"]) == 0
    assert plane.stored == 1


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("GET", "/default/inbox/" + "9" * 18, 404),
        ("GET", "/default/inbox/" + "9" * 5000, 404),
        ("GET", "/default/inbox/-1", 404),
        ("DELETE", "/default/inbox/x", 404),
        ("POST", "/default/inbox/0/redrive", 404),
        ("POST", "/default/inbox/1", 405),
        ("GET", "/default/nobody", 404),
        ("POST", "/default/nobody/1/redrive", 404),
        ("GET", "/default/inbox?after=x", 400),
        ("GET", "/default/inbox?after=" + "9" * 40, 400),
        ("GET", "/default/inbox?limit=-1", 400),
    ],
)
def test_a_wrong_request_is_refused_and_changes_nothing(
    plane: Plane, method: str, path: str, status: int, capsys: Output
) -> None:
    plane.give_up("a")
    answer = httpx.request(method, f"{plane.url}/relume/dlq{path}", trust_env=False)
    assert answer.status_code == status
    assert listed(capsys) == ["a"]


def test_something_else_on_the_port_is_not_taken_for_a_plane(capsys: Output) -> None:
    assert run(["dlq", "list", "--url", f"http://127.0.0.1:{own_port()}"]) == 1
    assert "no plane is running" in capsys.readouterr().err


def test_answers_of_jobs_that_no_sink_took_are_shown_and_put_back(
    plane: Plane, capsys: Output
) -> None:
    plane.do(plane.log.open_broker(OUTBOX, [TRIGGER]))
    plane.eventing.show_letters(OUTBOX, of="jobs")
    assert run(["status", "-o", "json"]) == 0
    brokers = json.loads(capsys.readouterr().out)["eventing"]["brokers"]
    assert len(brokers) == 2, "a log without dead letters is not shown"
    plane.give_up("reply", TRIGGER, OUTBOX)
    assert listed(capsys) == ["reply"]
    assert listed(capsys, "--broker", "relume-jobs/outbox") == ["reply"]
    assert run(["status"]) == 0
    assert "relume-jobs/outbox  jobs  0         1" in capsys.readouterr().out
    assert run(["dlq", "show", "1"]) == 0
    assert "relume-jobs/outbox 1: rejected, status 422" in capsys.readouterr().out
    assert run(["dlq", "redrive", "1"]) == 0
    assert capsys.readouterr().out == "1 redriven\n"
    assert listed(capsys) == []
    assert plane.log.cursor(OUTBOX, TRIGGER).waiting == 1
