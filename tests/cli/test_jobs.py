"""`relume jobs`, and what `explain`, `dlq` and `status` show of jobs, against a stand-in."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from relume.cli.machine.job_watch import words_of
from relume.cli.main import run
from relume.cloudevents.event import CloudEvent
from relume.eventing.observer import Record
from tests.cli.jobs_stand_in import JOB, QUEUE, QUEUED, WORDS, JobsPlane, chunk

Output = pytest.CaptureFixture[str]
TEXT = "".join(WORDS)


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[JobsPlane]:
    monkeypatch.setenv("RELUME_STATE", str(tmp_path))
    monkeypatch.delenv("RELUME_KEY", raising=False)
    with JobsPlane() as running:
        monkeypatch.setenv("RELUME_URL", running.url)
        yield running


# ---- submit


def test_a_chat_is_submitted_to_the_only_service_and_its_job_is_shown(
    plane: JobsPlane, capsys: Output
) -> None:
    assert run(["jobs", "submit", "--chat", "What?", "--max-tokens", "9"]) == 0
    out = capsys.readouterr().out
    assert "job_queued  queued" in out and "position   3" in out.replace("    ", "   ")
    method, path, headers, body = plane.asked[-1]
    assert (method, path) == ("POST", "/serving/default/summarizer/v1/chat/completions")
    assert headers["prefer"] == "respond-async"
    assert json.loads(body) == {
        "messages": [{"role": "user", "content": "What?"}],
        "stream": True,
        "max_tokens": 9,
    }


def test_a_file_is_sent_as_it_is_with_every_limit(plane: JobsPlane, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_bytes(b'{"prompt":  "a b"}')
    line = ["jobs", "submit", str(file), "--service", "team/embedder", "-o", "json"]
    line += ["--idempotency-key", "order-17", "--priority", "low", "--queue-timeout", "2h"]
    line += ["--start-timeout", "90s", "--run-timeout", "5m", "--keep", "1d"]
    assert run([*line, "--max-attempts", "1"]) == 0
    [(_, path, headers, body)] = plane.asked
    assert (path, body) == ("/serving/team/embedder/v1/completions", b'{"prompt":  "a b"}')
    sent = {
        "idempotency-key": "order-17",
        "relume-priority": "low",
        "relume-queue-timeout": "2h",
        "relume-start-timeout": "90s",
        "relume-run-timeout": "5m",
        "relume-keep": "1d",
        "relume-max-attempts": "1",
    }
    assert {name: headers[name] for name in sent} == sent


@pytest.mark.parametrize(
    "body, route",
    [
        ({"input": "x"}, "/v1/embeddings"),
        ({"inputs": []}, "/v2/models/summarizer/infer"),
        ({"instances": []}, "/v1/models/summarizer:predict"),
    ],
)
def test_the_route_follows_from_the_request(
    plane: JobsPlane, tmp_path: Path, body: dict[str, object], route: str
) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(body))
    assert run(["jobs", "submit", str(file)]) == 0
    assert plane.paths[-1] == f"POST /serving/default/summarizer{route}"


def test_submit_with_wait_prints_the_answer_itself(plane: JobsPlane, capsys: Output) -> None:
    assert run(["jobs", "submit", "--chat", "What?", "--wait", "30"]) == 0
    assert json.loads(capsys.readouterr().out) == {"choices": []}
    assert plane.asked[-1][2]["prefer"] == "respond-async, wait=30"


def test_submit_and_watch_prints_the_words(plane: JobsPlane, capsys: Output) -> None:
    plane.jobs["job_queued"] = QUEUED | {"status": "completed"}
    assert run(["jobs", "submit", "--chat", "What?", "--watch"]) == 0
    shown = capsys.readouterr()
    assert shown.out == TEXT + "\n"
    assert "accepted: job_queued" in shown.err


@pytest.mark.parametrize("text", ['{"messages": ', "[1]", "NaN", ""])
def test_a_file_that_is_no_json_object_is_named(text: str, tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "chat.json"
    file.write_text(text)
    assert run(["jobs", "submit", str(file), "--url", "http://127.0.0.1:9"]) == 2
    shown = capsys.readouterr().err
    assert f"{file}: " in shown and shown.count("\n") == 1


@pytest.mark.parametrize(
    "line, words",
    [
        ([], "name a FILE"),
        (["--chat", "x", "--route", "v1"], "--route v1: write a path"),
        (["--chat", "x", "--service", "a/b/c"], "NAMESPACE/NAME"),
        (["--chat", "x", "--idempotency-key", "é"], "printable ASCII"),
        (["--chat", "x", "--watch", "--wait", "3"], "leave --wait out"),
        (["--chat", "x", "--idempotency-key", "taken"], "another request has this"),
    ],
)
def test_what_cannot_be_submitted_is_one_line(
    plane: JobsPlane, capsys: Output, line: list[str], words: str
) -> None:
    assert run(["jobs", "submit", *line]) in (1, 2)
    shown = capsys.readouterr().err
    assert words in shown and shown.count("\n") == 1


def test_with_several_services_one_must_be_named(plane: JobsPlane, capsys: Output) -> None:
    plane.queues = [QUEUE, QUEUE | {"service": "default/other"}]
    assert run(["jobs", "submit", "--chat", "x"]) == 2
    assert "--service: default/other, default/summarizer" in capsys.readouterr().err


def test_of_several_services_the_model_in_the_request_names_one(
    plane: JobsPlane, tmp_path: Path, capsys: Output
) -> None:
    plane.queues = [QUEUE, QUEUE | {"service": "default/other"}]
    request = tmp_path / "chat.json"
    request.write_text('{"model": "qwen", "messages": []}')
    assert run(["jobs", "submit", str(request)]) == 0
    assert plane.paths[-1] == "POST /openai/v1/chat/completions"
    assert plane.asked[-1][3] == request.read_bytes()
    request.write_text('{"model": "qwen", "inputs": []}')
    assert run(["jobs", "submit", str(request)]) == 2
    assert "does not find its service by a model" in capsys.readouterr().err


# ---- get and list


def test_get_shows_a_job_and_its_result(plane: JobsPlane, capsys: Output) -> None:
    assert run(["jobs", "get", "job_abc", "--wait", "5"]) == 0
    out = capsys.readouterr().out
    assert "job_abc  completed" in out
    assert "12 in, 40 out, 4 of the prompt from the cache" in out
    assert plane.paths == ["GET /v1/jobs/job_abc?wait=5"]
    assert run(["jobs", "get", "job_abc", "--result"]) == 0
    assert capsys.readouterr().out == '{"choices": ["whole"]}'
    assert run(["jobs", "get", "job_dead", "--result"]) == 1
    assert json.loads(capsys.readouterr().out) == {"error": {"message": "it broke"}}
    assert run(["jobs", "get", "job_queued", "--result"]) == 1
    assert capsys.readouterr().err == "relume: the job is not settled\n"


@pytest.mark.parametrize("job_id", ["job_nowhere", "../queues", "job/x", "", "jöb"])
def test_a_job_that_is_not_there_is_one_line(plane: JobsPlane, capsys: Output, job_id: str) -> None:
    for command in ("get", "watch"):
        assert run(["jobs", command, job_id]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_list_reads_on_from_page_to_page_up_to_its_limit(plane: JobsPlane, capsys: Output) -> None:
    assert run(["jobs", "list", "-o", "json"]) == 0
    found = [job["id"] for job in json.loads(capsys.readouterr().out)]
    assert found == ["job_abc", "job_dead", "job_queued"]
    assert plane.paths == ["GET /v1/jobs?limit=100", "GET /v1/jobs?limit=100&after=job_dead"]
    assert run(["jobs", "list", "--limit", "1"]) == 0
    shown = capsys.readouterr().out
    assert "job_abc" in shown and "job_dead" not in shown and "--limit 10" in shown
    assert run(["jobs", "list", "--status", "failed", "--service", "summarizer"]) == 0
    assert capsys.readouterr().out == "no jobs\n"
    assert plane.paths[-1] == ("GET /v1/jobs?status=failed&service=default%2Fsummarizer&limit=100")


def test_list_goes_on_behind_pages_without_a_job(plane: JobsPlane, capsys: Output) -> None:
    plane.empty_pages = 2
    assert run(["jobs", "list", "-o", "json"]) == 0
    found = [job["id"] for job in json.loads(capsys.readouterr().out)]
    assert found == ["job_abc", "job_dead", "job_queued"]
    asked = [path.rpartition("limit=100")[2] for path in plane.paths]
    assert asked == ["", "&after=read-2", "&after=read-1", "&after=job_dead"]


# ---- watch


def test_watch_shows_the_phase_and_then_the_words(plane: JobsPlane, capsys: Output) -> None:
    assert run(["jobs", "watch", "job_abc"]) == 0
    shown = capsys.readouterr()
    assert shown.out == TEXT + "\n"
    assert shown.err == "starting phase=weights\njob_abc completed\n"


def test_watch_attaches_again_behind_the_last_part_however_often_it_is_cut(
    plane: JobsPlane, capsys: Output
) -> None:
    plane.cuts = [2, 2, 3, 5]
    assert run(["jobs", "watch", "job_abc"]) == 0
    shown = capsys.readouterr()
    assert shown.out == TEXT + "\n", "no part is missed and none is repeated"
    assert shown.err.count("attaching again") == 4
    attached = [headers.get("last-event-id", "0") for *_, headers, _ in plane.asked]
    assert attached == ["0", "2", "2", "3", "5"]


def test_watch_waits_for_a_store_that_is_away(plane: JobsPlane, capsys: Output) -> None:
    plane.away = 2
    assert run(["jobs", "watch", "job_abc", "--after", "4"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "is asked.\n"
    assert shown.err.count("the store is away") == 2


def test_watch_says_where_an_answer_begins_again(plane: JobsPlane, capsys: Output) -> None:
    plane.restart_at = 3
    assert run(["jobs", "watch", "job_abc"]) == 0
    assert "the answer begins again with attempt 2" in capsys.readouterr().err


def test_watch_as_json_is_a_line_for_everything(plane: JobsPlane, capsys: Output) -> None:
    plane.restart_at = 1
    assert run(["jobs", "watch", "job_dead", "-o", "json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.split("\n") if line]
    assert lines[0] == {"event": "phase", "phase": "starting phase=weights"}
    assert lines[1] == {"event": "restarted", "position": 1, "attempt": 2}
    assert [line["position"] for line in lines[2:-1]] == [2, 3, 4, 5, 6]
    assert lines[-1]["event"] == "dead" and lines[-1]["job"]["id"] == "job_dead"


@pytest.mark.parametrize(
    "data, words",
    [
        (chunk("a"), "a"),
        ('{"choices": [{"text": "b"}]}', "b"),
        ('{"choices": [{"message": {"content": "whole"}}]}', "whole"),
        ('{"type": "response.output_text.delta", "delta": "c"}', "c"),
        ('{"choices": [{"delta": {"content": null}}]}', ""),
        ('{"choices": null}', ""),
        ("[DONE]", ""),
        ("[]", ""),
        ("", ""),
    ],
)
def test_the_words_of_a_part(data: str, words: str) -> None:
    assert words_of(data) == words


# ---- cancel, retry, delete, queues


def test_actions_name_their_failures_and_go_on(plane: JobsPlane, capsys: Output) -> None:
    assert run(["jobs", "cancel", "job_abc", "job_queued", "job_queued"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "1 cancelled, 1 failed\n"
    assert "job_abc is completed" in shown.err
    assert run(["jobs", "retry", "job_dead"]) == 0
    assert run(["jobs", "delete", "job_dead", "--yes"]) == 0
    assert plane.paths[-2:] == ["POST /v1/jobs/job_dead/retry", "DELETE /v1/jobs/job_dead"]


def test_queues_are_shown_paused_and_purged(plane: JobsPlane, capsys: Output) -> None:
    assert run(["jobs", "queues", "--lanes"]) == 0
    shown = capsys.readouterr().out
    assert "default/summarizer" in shown and "anonymous (normal)" in shown
    assert run(["jobs", "queues", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [QUEUE]
    plane.queues = [QUEUE | {"running": None}]
    assert run(["jobs", "queues"]) == 0
    assert capsys.readouterr().out.split()[-4:] == ["default/summarizer", "open", "3", "-"]
    for action in ("pause", "resume"):
        assert run(["jobs", action, "summarizer"]) == 0
        assert plane.paths[-1] == f"POST /v1/queues/default/summarizer/{action}"
    assert run(["jobs", "purge", "team/x", "--yes"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "team/x: purged, 3 cancelled"


# ---- access


def test_a_key_is_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    with JobsPlane(key="rk_a_b") as guarded:
        monkeypatch.setenv("RELUME_URL", guarded.url)
        monkeypatch.delenv("RELUME_KEY", raising=False)
        assert run(["jobs", "get", "job_abc"]) == 1
        assert "put a key into $RELUME_KEY" in capsys.readouterr().err
        monkeypatch.setenv("RELUME_KEY", "rk_a_b\n")
        assert run(["jobs", "get", "job_abc"]) == 0
        monkeypatch.setenv("RELUME_KEY", "rk_\x01")
        assert run(["jobs", "get", "job_abc"]) == 2
        assert "rk_" not in capsys.readouterr().err


def test_a_plane_without_jobs_is_told(plane: JobsPlane, capsys: Output) -> None:
    assert run(["jobs", "list", "--url", f"{plane.url}/relume"]) == 1
    assert "not a plane with jobs" in capsys.readouterr().err


# ---- what other commands show of jobs


def test_explain_tells_where_the_time_of_a_job_went(plane: JobsPlane, capsys: Output) -> None:
    assert run(["explain", "job_abc"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("job_abc: completed after 11,000 ms, 2 attempts\n")
    for line in ("in the queue", "1,000 ms", "2,300 ms", "40 tokens, 10.0 a second", "3,700 ms"):
        assert line in shown
    assert run(["explain", "job_abc", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["total_ms"] == 11000
    assert [each["phase"] for each in told["phases"]][:3] == [
        "accepted",
        "in the queue",
        "cold start",
    ]
    assert [each["ready"] for each in told["cold_starts"]] == [2500, 800]
    assert run(["explain", "job_nowhere"]) == 2


def test_explain_shows_each_cold_start_that_a_job_waited_for(
    plane: JobsPlane, capsys: Output
) -> None:
    assert run(["explain", "job_abc"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("cold start of summarizer") == shown.count("weights") == 2
    assert "2,500 ms, forked from the warm template" in shown and "other" not in shown
    assert run(["explain", "job_queued"]) == 0
    assert "cold start of" not in capsys.readouterr().out, "no worker has it yet"


def test_explain_of_a_job_that_waits_says_its_place(plane: JobsPlane, capsys: Output) -> None:
    assert run(["explain", "job_queued"]) == 0
    assert "position 3" in capsys.readouterr().out


def happened(stage: str, type_: str, id_: str, **attributes: str) -> Record:
    event = CloudEvent({"specversion": "1.0", "source": "/s", "type": type_, "id": id_})
    return Record(
        at="2026-01-01T00:00:00.000Z",
        stage=stage,
        broker="default/summarizer",
        event=event.with_attributes(**attributes),
    )


def test_explain_of_an_event_that_became_a_job_tells_the_life_of_the_job(
    plane: JobsPlane, capsys: Output
) -> None:
    plane.observer.publish(happened("completed", "relume.job", "job_abc", causationid="order-1"))
    reply = happened("accepted", "relume.inference.response", "r", causationid="order-1")
    plane.observer.publish(reply)
    assert run(["explain", "order-1"]) == 0
    shown = capsys.readouterr().out
    assert "relume.inference.response  r" in shown
    assert "job_abc: completed after 11,000 ms, 2 attempts\n" in shown
    assert run(["explain", "order-1", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["id"] for each in told["jobs"]] == ["job_abc"]
    assert len(told["records"]) == 2


def test_explain_at_a_gateway_finds_a_job_by_its_id_and_by_the_event_as_which_it_came(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    with JobsPlane(key="rk_a_b", gateway=True) as gateway:
        gateway.jobs["job_event"] = JOB | {"id": "job_event", "event": {"id": "order-1"}}
        monkeypatch.setenv("RELUME_KEY", "rk_a_b")
        named_jobs = (("job_abc", "job_abc"), ("order-1", "job_event"), ("ord", "job_event"))
        for named, shown in named_jobs:
            assert run(["explain", "--url", gateway.url, named]) == 0
            assert capsys.readouterr().out.startswith(f"{shown}: completed after 11,000 ms")
        assert run(["explain", "--url", gateway.url, "order-2"]) == 2
        assert "none of the newest 1,000 jobs came as it" in capsys.readouterr().err
        monkeypatch.delenv("RELUME_KEY")
        for named in ("job_abc", "order-1"):
            assert run(["explain", "--url", gateway.url, named]) == 1
            assert "put a key into $RELUME_KEY" in capsys.readouterr().err


def test_dlq_lists_dead_jobs_and_redrive_retries_one(plane: JobsPlane, capsys: Output) -> None:
    assert run(["dlq", "list"]) == 0
    shown = capsys.readouterr().out
    assert "job_dead" in shown and "attempts" in shown and "job_abc" not in shown
    assert run(["dlq", "list", "-o", "json", "--reason", "attempts"]) == 0
    [letter] = json.loads(capsys.readouterr().out)
    assert (letter["sequence"], letter["job"], letter["said"]) == (None, "job_dead", "status 500")
    for narrow in (["--trigger", "x"], ["--type", "x"], ["--reason", "other"]):
        assert run(["dlq", "list", "-o", "json", *narrow]) == 0
        assert json.loads(capsys.readouterr().out) == []
    assert run(["dlq", "redrive", "job_dead"]) == 0
    assert plane.paths[-1] == "POST /v1/jobs/job_dead/retry"
    assert run(["dlq", "redrive", "job_nowhere"]) == 1
    assert run(["dlq", "redrive", "zero"]) == 2


def test_status_has_a_line_for_each_queue(plane: JobsPlane, capsys: Output) -> None:
    assert run(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[-2:]] == [
        ["QUEUE", "STATE", "WAITING", "RUNNING"],
        ["default/summarizer", "open", "3", "1"],
    ]
