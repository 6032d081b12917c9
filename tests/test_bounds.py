"""Every buffer, queue, cache and table of a running plane, and what bounds it.

The table is held to the code in both directions: a collection that an object of the plane keeps and
that is not listed fails, and so does a row without its collection. What grows with the size or the
number of requests and events has a bound in bytes, or in entries of a bounded size, and a test that
goes beyond it.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from relume.base import limits
from relume.eventing import event_log, observer, request_reply
from relume.eventing.delivery import dispatcher
from relume.eventing.jetstream import cursor, job_api, job_cursors, job_listing
from relume.eventing.jetstream.streams import BrokerStreams
from relume.eventing.jobs import access, predictor, quotas, runner
from relume.eventing.jobs.door_settings import DoorSettings
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.stream import StreamSettings
from relume.eventing.settings import MAX_MESSAGE_BYTES, EventingSettings
from relume.plane import control, local_jobs
from relume.plane.page import door, history, live_events
from relume.serving import ledger, throttler
from relume.serving.settings import ServingSettings
from tests.test_checklists import defined

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "eventing": ROOT / "eventing/relume/eventing",
    "serving": ROOT / "serving/relume/serving",
    "plane": ROOT / "cli/relume/plane",
    "runtimes": ROOT / "runtimes/relume/runtimes",
}
# Doubles for tests, documents that are made once, and the store of models, which runs before.
LEFT_OUT = ("testing.py", "testing_places.py", "registry", "models")
MAKERS = frozenset(
    {"deque", "dict", "list", "set", "OrderedDict", "defaultdict", "Counter", "Queue", "fromkeys"}
    | {"BoundedRecords"}
)
EVENTING, SERVING, JOBS = EventingSettings(), ServingSettings(), JobSettings()
MIB = 1024 * 1024


@dataclass(frozen=True)
class Bound:
    """A row. `most` is the bound, in entries or bytes; None: the plan or the sockets bound it.

    `shown_by` is the test that goes beyond the bound.
    """

    what: str
    most: int | None
    why: str
    shown_by: str | None = None


PLAN = "as many as the manifests name"
# Where it is: module, class and attribute.
TABLE = {
    # What happened to events.
    "eventing.observer:BoundedRecords._records": Bound(
        "bytes",
        observer.WAITING_BYTES,
        "the oldest records make room",
        "test_a_listener_that_falls_behind_holds_no_more_than_its_bytes",
    ),
    "eventing.observer:Observer._ring": Bound(
        "bytes",
        observer.KEPT_BYTES,
        "the oldest records make room",
        "test_the_ring_is_bounded_by_bytes_and_the_newest_record_stays",
    ),
    "eventing.observer:Observer._subscriptions": Bound(
        "listeners",
        control.MOST_STREAMS + door.MOST_PAGES,
        "each holds at most WAITING_BYTES of records",
        "test_a_listener_that_falls_behind_holds_no_more_than_its_bytes",
    ),
    "plane.control:Watchers._open": Bound(
        "streams",
        control.MOST_STREAMS,
        "one more is refused with 503",
        "test_there_is_a_bound_for_open_streams_and_a_place_is_free_again",
    ),
    # What an open page is told.
    "plane.page.history:History._samples": Bound(
        "bytes",
        history.KEPT_BYTES,
        "the oldest make room; an hour of them at most",
        "test_history_is_bounded_by_bytes_and_the_newest_sample_stays",
    ),
    "plane.page.history:Sampler._counted": Bound(
        "services, Brokers and Triggers", 3 * history.MOST_EACH, "no more of each are sampled"
    ),
    "plane.page.feed:Feed._memory": Bound("services", None, PLAN),
    "plane.page.board:Board._items": Bound(
        "items", 4 * history.MOST_EACH + ledger.KEPT_ENTRIES, "no more of each section are shown"
    ),
    "plane.page.board:Board._ordered_at": Bound("sections", 6, "written in the source"),
    "plane.page.live_events:LiveEvents._followed": Bound(
        "texts of each page", live_events.FOLLOWED, "the oldest are forgotten"
    ),
    "plane.page.door:Page._readers": Bound(
        "pages",
        door.MOST_PAGES,
        "one more is refused with 503, and one that does not read is dropped",
        "test_so_many_pages_may_be_open_and_a_place_is_free_again",
    ),
    "plane.control:DeadLetterRoutes.routes": Bound("routes", 4, "written in the source"),
    # What comes in.
    "eventing.envelope:Envelope.headers": Bound(
        "bytes",
        limits.ATTRIBUTES_BYTES,
        "the door refuses more",
        "test_headers_that_every_delivery_repeats_have_the_same_bounds",
    ),
    "eventing.ingress:Ingress.accepted": Bound(
        "Brokers, and those that a reload has removed", None, PLAN
    ),
    "eventing.ingress:Ingress.duplicates": Bound(
        "Brokers, and those that a reload has removed", None, PLAN
    ),
    # What is on its way to subscribers.
    "eventing.delivery.dispatcher:Dispatcher._flights": Bound(
        "bytes of each Trigger",
        EVENTING.held_bytes,
        "no more are fetched; what was asked for before may still come. In an ordered Trigger, "
        "while events wait for one that lies before them, `held` is the bound",
        "test_events_are_held_up_to_so_many_bytes_even_when_all_of_them_fail",
    ),
    "eventing.delivery.dispatcher:Dispatcher._settled": Bound(
        "numbers",
        dispatcher._REMEMBERED,
        "the oldest are forgotten",
        "test_the_settled_events_that_are_remembered_are_bounded",
    ),
    "eventing.delivery.turns:Slots._waiters": Bound(
        "events of each Trigger", EVENTING.held, "each is one of `_flights`"
    ),
    "eventing.delivery.turns:Turns._early": Bound(
        "numbers",
        None,
        "those that are wanted are among `_flights`; those that are filtered out are numbers, and "
        "`beat` ends the wait after two leases",
    ),
    "eventing.delivery.turns:Turns._order": Bound("numbers", None, "the keys of `_early`"),
    "eventing.delivery.turns:Turns._lanes": Bound(
        "events of each Trigger", EVENTING.held, "each is one of `_flights`"
    ),
    "eventing.jetstream.cursor:JetStreamCursor._received": Bound(
        "bytes of each Trigger",
        2 * cursor._REQUEST_BYTES,
        "at most two pull requests are open, and each brings so many bytes",
        "test_large_events_are_fetched_ahead_by_bytes_and_all_of_them_come",
    ),
    "eventing.jetstream.cursor:JetStreamCursor.returned": Bound(
        "subjects of each Trigger", EVENTING.held, "max_ack_pending of the consumer"
    ),
    "eventing.delivery.connections:Connections._idle": Bound(
        "connections", None, "some of `_open`; each is closed two seconds after its last use"
    ),
    "eventing.delivery.connections:Connections._lookups": Bound(
        "names", None, "one for each host that a delivery under way connects to"
    ),
    "eventing.delivery.connections:Connections._open": Bound(
        "connections", None, "one for each delivery under way, and for two seconds after it"
    ),
    "eventing.delivery.answer:AnswerReader._headers": Bound(
        "bytes of each connection",
        limits.HEADERS * limits.HEADER_BYTES,
        "more headers, or a longer one, are no answer",
        "test_what_has_no_end_where_an_answer_must_end_is_cut_off",
    ),
    "eventing.jetstream.client:DirectClient.handlers": Bound(
        "handlers", None, "subscriptions: one for each Trigger, and one for all answers"
    ),
    "eventing.jetstream.store:Requests._waiting": Bound(
        "futures", None, "one for each message under way; its caller holds the message"
    ),
    # Jobs: who may call, and what one process runs.
    "eventing.jobs.access:Access._trusted": Bound(
        "API keys",
        access._REMEMBERED,
        "the oldest are forgotten",
        "test_the_keys_that_are_remembered_are_bounded",
    ),
    "eventing.jobs.plane:JobsPlane._queues": Bound("services", None, PLAN),
    "plane.gateway:Gateway._services": Bound("services", None, PLAN),
    # What is known of the log.
    "eventing.jetstream.streams:BrokerStreams.places": Bound(
        "numbers of each Broker",
        event_log.RECALLED,
        "the oldest are forgotten",
        "test_the_places_of_long_events_are_bounded",
    ),
    "eventing.jetstream.streams:BrokerStreams.marks": Bound(
        "pairs of numbers of each Broker",
        int(EVENTING.duplicate_window_s),
        "one for each sweep of the duplicate window, and at most one each second",
    ),
    "eventing.jetstream.streams:BrokerStreams.removed": Bound(
        "keys of each Broker", None, "redriven dead letters that lie in the stream until the sweep"
    ),
    "eventing.jetstream.streams:BrokerStreams.cursors": Bound("Triggers", None, PLAN),
    "eventing.jetstream.dead_letters:JetStreamDeadLetters._keys": Bound(
        "keys", None, "dead letters that were put back and are not removed yet: one at a time"
    ),
    "eventing.jetstream.store:JetStreamStore.brokers": Bound("Brokers", None, PLAN),
    # The store of jobs.
    "eventing.jetstream.pages:Pages._waiting": Bound(
        "bytes of each request under way",
        job_api._PAGE_BYTES + MAX_MESSAGE_BYTES,
        "a page ends with the message that goes beyond its bytes; its caller holds one at a time",
        "test_many_chunks_are_read_and_followed_whole",
    ),
    "eventing.jetstream.job_api:JobApi.listeners": Bound(
        "callbacks", None, "one for each reader of a stream, which is an open request"
    ),
    "eventing.jetstream.job_chunks:JobChunks._followers": Bound(
        "streams", StreamSettings().most, "one more stream is refused with 503"
    ),
    "eventing.jetstream.job_live:LiveSubject._held": Bound(
        "bytes of each reader",
        JobSettings().unread_bytes + MAX_MESSAGE_BYTES,
        "all are forgotten when there are more, and read from the store",
        "test_a_follower_that_is_slow_misses_and_repeats_nothing",
    ),
    "eventing.jetstream.job_lanes:Lanes._known": Bound(
        "names", None, "one for each lane with a job in the last hour; idle ones are removed"
    ),
    "eventing.jetstream.job_lanes:Lanes._noticed": Bound(
        "names", None, "lanes that were made since the last list, half a minute ago"
    ),
    "eventing.jetstream.job_lanes:Lanes._making": Bound(
        "tasks", None, "one for each lane that is made now, for which a submit waits"
    ),
    "eventing.jetstream.job_lanes:Lanes._cursors": Bound(
        "cursors", None, "those that this process works on; each goes when it is stopped"
    ),
    "eventing.jetstream.job_listing:JobListing._queues": Bound(
        "queues of at most 64 numbers", job_listing._REMEMBERED, "all are forgotten then"
    ),
    "eventing.jetstream.job_cursors:SettledCursor._settled": Bound(
        "records", None, "what one fetch brought: none is fetched while there is one"
    ),
    "eventing.jetstream.job_cursors:SharedCursor.unsaid": Bound(
        "subjects",
        EventingSettings().held,
        "a leased job or event has one, until it is leased again",
    ),
    "eventing.jetstream.job_cursors:ParkedCursor._put_off": Bound(
        "subjects", job_cursors.PUT_OFF_REMEMBERED, "the oldest are forgotten"
    ),
    "eventing.jobs.runner:_Conflicts._counts": Bound(
        "numbers", runner._REMEMBERED, "the oldest are forgotten"
    ),
    "plane.local_jobs:_Telling._told": Bound(
        "pairs of numbers", local_jobs.TOLD, "the oldest are forgotten"
    ),
    "eventing.jetstream.jobs:JetStreamJobs._outboxes": Bound(
        "cursors", None, "one for each publisher of this process"
    ),
    "eventing.jetstream.server:NatsServer._tasks": Bound("tasks", 2, "written in the source"),
    "eventing.wiring:_Draft.logs": Bound("Brokers and channels", None, PLAN),
    "eventing.wiring:_Draft.lines": Bound("Triggers", None, PLAN),
    "eventing.wiring:_Draft.pings": Bound("PingSources", None, PLAN),
    # The queues of jobs.
    "eventing.jobs.estimates:Estimates._services": Bound("services", None, PLAN),
    "eventing.jobs.fair_cursor:FairCursor._arrived": Bound(
        "jobs of each service",
        None,
        "no lane is asked for more than there are free slots for",
        "test_a_flood_is_asked_for_no_more_than_there_is_room_for",
    ),
    "eventing.jobs.fair_cursor:FairCursor._feeds": Bound(
        "lanes", None, "tenants with a job in the last hour, at three priorities"
    ),
    "eventing.jobs.fair_cursor:FairCursor._counts": Bound("lanes", None, "the same lanes"),
    "eventing.jobs.answers:_JsonResponse.raw_headers": Bound(
        "headers", None, "those that the code gives to one answer"
    ),
    "eventing.jobs.fair_cursor:FairCursor._tasks": Bound("tasks", None, "written in the source"),
    "eventing.jobs.fair_share:FairShare._rings": Bound(
        "lanes", None, "tenants with a job that waits, at three priorities"
    ),
    "eventing.jobs.fair_share:FairShare._behind": Bound("priorities", 3, "there are three"),
    "eventing.jobs.queue_clock:QueueClock._heads": Bound(
        "lanes", None, "the first job of each lane in which one waits"
    ),
    "eventing.jobs.quotas:Quotas._sizes": Bound(
        "lanes",
        quotas.LANES,
        "the lane that was used least is forgotten",
        "test_a_million_tenants_take_no_more_memory_than_ten_thousand",
    ),
    "eventing.jobs.quotas:_Sizes._sums": Bound(
        "numbers",
        quotas.SUMS_EACH * 40,
        "each sum is of twice as many jobs as the one before",
        "test_few_sums_tell_the_newest_sizes_well",
    ),
    # Jobs: what comes in, and who waits for an answer or reads one.
    "eventing.jobs.job:Job.headers": Bound(
        "bytes",
        DoorSettings().max_header_bytes,
        "the door refuses more",
        "test_headers_that_are_too_long_together_are_refused_by_the_longest",
    ),
    "eventing.jobs.request_body:RequestBody._parts": Bound(
        "bytes of each request",
        DoorSettings().max_json_bytes,
        "JSON is read as a whole, within what the door holds of all requests; everything else "
        "goes to the object store as it comes in",
        "test_many_large_bodies_at_once_are_turned_away_and_small_ones_are_not",
    ),
    "eventing.jobs.stream:Streams._open": Bound(
        "callers", StreamSettings().most, "those with an open stream"
    ),
    "eventing.jobs.watching:Watched.wakes": Bound(
        "events", None, "one for each open request of the job: streams are bounded, polls end"
    ),
    "eventing.jobs.watching:Watches._jobs": Bound(
        "jobs",
        None,
        "those for which a request is open: a poll ends within `max_wait_s`, and streams are "
        "bounded by `StreamSettings.most`",
        "test_there_is_a_bound_for_open_streams_and_a_place_is_free_again",
    ),
    "eventing.jobs.watching:Watches._ending": Bound(
        "tasks", None, "watches that are being closed, for some turns of the event loop"
    ),
    # Requests that wait for the answer to their event.
    "eventing.request_reply:RequestReplies._doors": Bound("RequestReplies", None, PLAN),
    "eventing.request_reply:WaitingCallers._futures": Bound(
        "requests", None, "each is an open request, which ends with its timeout"
    ),
    "eventing.request_reply:WaitingCallers._answers": Bound(
        "bytes",
        request_reply._REMEMBERED_BYTES,
        "the oldest are forgotten",
        "test_the_answers_that_are_remembered_are_bounded",
    ),
    "eventing.plane:EventingPlane._logs": Bound("Brokers and channels", None, PLAN),
    "eventing.plane:EventingPlane._placed": Bound(
        "Brokers and channels", None, "those of all plans since the start, with their Triggers"
    ),
    "eventing.lines:Lines._lines": Bound("Triggers", None, PLAN),
    "eventing.lines:Lines._leaving": Bound(
        "Triggers that were removed", None, "each ends after `leave_s` of the settings"
    ),
    "eventing.pings:Pings._running": Bound("PingSources", None, PLAN),
    "plane.functions:FunctionLauncher._preparing": Bound("functions", None, PLAN),
    "eventing.plane:EventingPlane._outboxes": Bound("logs of the program's parts", None, PLAN),
    "eventing.plane:EventingPlane._with_letters": Bound("Brokers, and those logs", None, PLAN),
    # Jobs on their way to the predictor. There are as many at once as a service has slots.
    "eventing.jobs.chunk_log:ChunkLog._waiting": Bound(
        "bytes of each job",
        JOBS.unstored_bytes,
        "the predictor is not read; one more read may come",
        "test_a_predictor_is_not_read_faster_than_its_parts_are_stored",
    ),
    "eventing.jobs.readers:Readers._writers": Bound(
        "jobs", None, "each has a slot of its service while its answer is written"
    ),
    "eventing.jobs.sse:EventParser._data": Bound(
        "bytes of each job",
        predictor._PART_BYTES,
        "a larger part of a stream fails the attempt",
        "test_an_event_without_an_end_is_refused",
    ),
    "eventing.jobs.assembly:_Choice.text": Bound(
        "bytes of each job",
        JOBS.max_body_bytes,
        "a longer stream is given up",
        "test_a_stream_without_an_end_is_given_up_at_the_limit",
    ),
    "eventing.jobs.assembly:_Choice.reasoning": Bound("parts of a stream", None, "as _Choice.text"),
    "eventing.jobs.assembly:_Choice.tool_calls": Bound(
        "parts of a stream", None, "as _Choice.text"
    ),
    "eventing.jobs.assembly:_Choice.message": Bound("parts of a stream", None, "as _Choice.text"),
    "eventing.jobs.assembly:_Choice.beside": Bound("parts of a stream", None, "as _Choice.text"),
    "eventing.jobs.assembly:_ToolCall.arguments": Bound(
        "parts of a stream", None, "as _Choice.text"
    ),
    "eventing.jobs.assembly:Assembly._choices": Bound("parts of a stream", None, "as _Choice.text"),
    "eventing.jobs.assembly:Assembly._beside": Bound("parts of a stream", None, "as _Choice.text"),
    "eventing.jobs.assembly:Assembly.head": Bound("parts of a stream", None, "as _Choice.text"),
    "eventing.jobs.predictor:Answer.headers": Bound(
        "headers", limits.HEADERS, "an answer with more is none"
    ),
    "eventing.jobs.runner:JobRunner._faulty": Bound(
        "numbers", None, "one for each job that a fault of our own code ends, until it is settled"
    ),
    # What is published of settled jobs.
    "eventing.jobs.outbox:Outbox._dispatchers": Bound("dispatchers", 3, "written in the source"),
    "eventing.jobs.unsent:Parked._waiting": Bound(
        "numbers", None, "one for each event that waits for a sink; its event is in the store"
    ),
    "eventing.jobs.unsent:Away._sinks": Bound(
        "sinks", None, "those that the configuration allows; one that is back is forgotten"
    ),
    # Requests to services.
    "serving.body:RequestBody._chunks": Bound(
        "bytes of each request",
        SERVING.body_limit,
        "4 MiB are read ahead, and less when many requests are under way; only /openai/v1, which "
        "looks for the model, gathers up to 64 MiB of each",
        "test_the_more_requests_are_under_way_the_less_each_reads_ahead",
    ),
    "serving.throttler:Throttler._waiters": Bound(
        "requests of each service",
        throttler.MOST_HELD,
        "one more is refused with 429 (checklist A7). Each holds the beginning of an event's id, "
        "and what is read ahead",
        "test_a7_one_request_more_than_may_be_held_is_told_when_to_come_again",
    ),
    "serving.prediction:Progress.phases": Bound("phases", None, "names that the plane knows"),
    "serving.throttler:Throttler._backends": Bound("replicas", None, "maxReplicas"),
    "serving.timeouts:RequestClocks._timers": Bound("timers of each request", 3, "its clocks"),
    "serving.service:Service._replicas": Bound("replicas", None, "maxReplicas"),
    "serving.revision:Revision._replicas": Bound("replicas", None, "maxReplicas"),
    "serving.ledger:Ledger._entries": Bound(
        "cold starts",
        ledger.KEPT_ENTRIES,
        "the oldest are forgotten; an event's id is cut",
        "test_the_last_hundred_are_remembered",
    ),
    "serving.ledger:ColdStart.phases": Bound("phases", None, "names that the plane knows"),
    "serving.probe:Startup.phases_ms": Bound("phases", None, "names that the plane knows"),
    "serving.windows:AverageWindow._buckets": Bound("buckets", None, "one a second of the window"),
    "serving.windows:MaxWindow._values": Bound("values", None, "one for each tick of the window"),
    "plane.known_names:KnownNames._names": Bound(
        "names", None, "one for each --allowed-origin of the command"
    ),
    "serving.cross_origin:CrossOrigin._keys": Bound("services", None, PLAN),
    "serving.cross_origin:CrossOrigin._services": Bound("services", None, PLAN),
    "serving.openai:ModelNames.listed": Bound("names", None, PLAN),
    "serving.openai:ModelNames._found": Bound("names", None, PLAN),
    "serving.routing:Router._services": Bound("services", None, PLAN),
    "serving.plane:ServingPlane._traffic": Bound("services", None, PLAN),
    "serving.budget:Budget._pins": Bound("services", None, PLAN),
    "serving.budget:Budget._holdings": Bound("replicas", None, "maxReplicas of each service"),
    "serving.budget:Budget._waiters": Bound("replicas", None, "maxReplicas of each service"),
    "serving.budget:_Waiter.displaced": Bound("services", None, PLAN),
    "serving.memory:Memory._places": Bound("replicas", None, "maxReplicas of each service"),
    "serving.memory:Memory._tenants": Bound("services", None, PLAN),
    "serving.memory:Memory._dropping": Bound("tasks", None, "one for each thing that is kept"),
    "plane.memory:Footprints._largest": Bound("services", None, PLAN),
    "plane.memory:Footprints._loaded": Bound("services", None, PLAN),
    "plane.memory:Footprints._processes": Bound(
        "processes", None, "those that ended are forgotten at the next measurement, in 10 s"
    ),
    "plane.launchers:EveryLauncher._estimates": Bound("services", None, PLAN),
    "plane.launchers:EveryLauncher._makes": Bound("services", None, PLAN),
    "plane.launchers:EveryLauncher._forks": Bound(
        "processes", None, "those that ended are forgotten whenever the others are looked at"
    ),
    "serving.plane:ServingPlane._ending": Bound(
        "services", None, "those that a reload has removed or replaced and that still answer"
    ),
    "plane.llm_d:RouterFiles._members": Bound("services", None, PLAN),
    "plane.llm_d:RouterFiles._closing": Bound("removed services", None, "those that still answer"),
    "plane.llm_d:_Members._addresses": Bound("replicas at once", None, "maxReplicas"),
    "plane.launch:LocalPredictor.phases_ms": Bound("phases", None, "it stays empty"),
    "runtimes.function.environments:Environments._making": Bound("functions", None, PLAN),
    "runtimes.function.environments:Environments._failed": Bound("functions", None, PLAN),
    # In the predictor and in the template.
    "runtimes.middleware:CloudEvents._running": Bound(
        "pairs of texts", None, "one for each event under way; containerConcurrency bounds them"
    ),
    "runtimes.deferred:Deferred.instead": Bound("names", None, "those in runtimes/unused.py"),
    "runtimes.deferred:_LaterLoader._instead": Bound("names", None, "the same, and `later`"),
    "runtimes.model_templates:ModelTemplates._kept": Bound("services", None, PLAN),
    "runtimes.model_templates:ModelTemplates._retiring": Bound(
        "processes", None, "each ends with the last predictor that was forked from it"
    ),
    "runtimes.model_templates:ModelTemplates._tasks": Bound(
        "tasks", None, "one for each engine, and one for each predictor that runs"
    ),
    "runtimes.model_templates:_ModelTemplate.forks": Bound("predictors", None, "maxReplicas"),
    "runtimes.template:_Template._connections": Bound("predictors", None, "maxReplicas"),
    "runtimes.template:_Template._unread": Bound(
        "bytes of each connection", 1 << 20, "a longer request ends the connection"
    ),
}
# What holds no collection, and is bounded all the same: where, and the bound in bytes.
PASSING = {
    "one event": (limits.EVENT_BYTES, "test_an_event_that_is_too_large_is_refused"),
    "one body of a request for a job": (
        JobSettings().max_body_bytes,
        "test_a_body_above_the_limit_is_refused_and_not_stored",
    ),
    "what a reader of a stream has not read": (
        JobSettings().unread_bytes,
        "test_a_reader_that_stops_reading_holds_one_part_and_is_given_up",
    ),
    "all bodies on their way in at the door": (
        EVENTING.intake_bytes,
        "test_a_large_request_is_turned_away_while_others_fill_the_door",
    ),
    "one reply of a subscriber": (
        EVENTING.max_event_bytes,
        "test_a_reply_without_end_is_read_up_to_the_limit",
    ),
    "all replies that are read for a Trigger whose subscriber says no bound": (
        EVENTING.in_flight * EVENTING.max_event_bytes,
        "test_no_more_deliveries_run_at_once_than_the_subscriber_can_take",
    ),
    "one stored message": (
        MAX_MESSAGE_BYTES,
        "test_a_batch_with_an_event_that_does_not_fit_stores_nothing",
    ),
    "one header of an answer": (
        limits.HEADER_BYTES,
        "test_a_reply_whose_attributes_cannot_travel_is_a_dead_letter_without_retry",
    ),
    "one turn of a stream of records": (
        observer.WHOLE_BYTES,
        "test_others_have_a_turn_between_the_records_of_a_replay",
    ),
}


def collections_of(source: str, module: str) -> Iterator[str]:
    """The attributes of classes in which a module keeps collections, as `module:Class.name`."""
    for found in ast.walk(ast.parse(source)):
        if not isinstance(found, ast.ClassDef):
            continue
        for node in ast.walk(found):
            if isinstance(node, ast.Assign | ast.AnnAssign) and _is_collection(node.value):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Attribute) and _is_self(target.value):
                        yield f"{module}:{found.name}.{target.attr}"
                    elif isinstance(target, ast.Name) and node in found.body:
                        yield f"{module}:{found.name}.{target.id}"


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _is_collection(value: ast.expr | None) -> bool:
    literals = ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp
    if isinstance(value, literals):
        return True
    if not isinstance(value, ast.Call):
        return False
    function = value.func.value if isinstance(value.func, ast.Subscript) else value.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    factories = (k.value for k in value.keywords if k.arg == "default_factory")
    return name in MAKERS or any(getattr(each, "id", "") in MAKERS for each in factories)


def every_collection() -> set[str]:
    found: set[str] = set()
    for name, folder in FOLDERS.items():
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).parts
            if not set(parts) & set(LEFT_OUT):
                module = ".".join([name, *parts]).removesuffix(".py")
                found.update(collections_of(file.read_text(encoding="utf-8"), module))
    return found


def test_the_table_lists_every_collection_of_the_plane_and_nothing_else() -> None:
    found = every_collection()
    assert found - TABLE.keys() == set(), "say in TABLE what bounds it"
    assert TABLE.keys() - found == set(), "this is gone"


def test_every_bound_is_explained_and_its_test_is_there() -> None:
    shown = {row.shown_by for row in TABLE.values() if row.shown_by}
    shown |= {test for _, test in PASSING.values()}
    assert shown - defined() == set()
    for where, row in TABLE.items():
        assert row.what and row.why, where
        assert row.most is None or row.most > 0, where


def test_what_holds_data_of_events_or_requests_has_a_bound_in_bytes_and_a_test() -> None:
    for where, row in TABLE.items():
        if row.what.startswith("bytes") and "template" not in where:
            assert row.most is not None and row.most <= 256 * MIB, where
            assert row.shown_by is not None, where
    assert all(most <= 700 * MIB for most, _ in PASSING.values())


@pytest.mark.parametrize(
    "line",
    [
        "self._x = {}",
        "self._x: dict[str, bytes] = {}",
        "self._x = deque[int]()",
        "self._x = collections.deque(maxlen=3)",
        "self._x = asyncio.Queue()",
        "self._x = dict.fromkeys(names, 0)",
        "self._x = [each for each in names]",
    ],
)
def test_a_new_collection_is_found(line: str) -> None:
    source = f"class A:\n    def __init__(self, names):\n        {line}\n"
    assert list(collections_of(source, "m")) == ["m:A._x"]


def test_a_field_of_a_dataclass_is_found() -> None:
    source = "class A:\n    x: dict[str, int] = field(default_factory=dict)\n"
    assert list(collections_of(source, "m")) == ["m:A.x"]


def test_the_places_of_long_events_are_bounded() -> None:
    from relume.eventing.event_log import BrokerKey
    from relume.eventing.jetstream.store import Stored

    streams = BrokerStreams.named(BrokerKey("default", "b"))
    for number in range(event_log.RECALLED + 50):
        streams.stored(Stored(number, True, observer.WHOLE_BYTES + 1), str(number))
        streams.stored(Stored(number, True, 10), f"short {number}")
    assert len(streams.places) == event_log.RECALLED
    assert next(iter(streams.places)) == "50"
