"""Names that are made of what callers choose."""

from relume.eventing.jetstream.job_streams import lane_subjects, tenant_token
from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.store import Lane


def test_a_tenant_is_80_bits_of_a_hash_in_the_subject_of_its_lane() -> None:
    # Two names with one hash would share a lane. 48 bits collide after some 2^24 names.
    token = tenant_token("team.a *>")
    assert len(bytes.fromhex(token)) == 10
    assert token != tenant_token("team.b *>")
    lane = Lane(ServiceName("ns", "it"), "normal", "team.a *>")
    assert lane_subjects(lane) == f"relume.work.ns_it.normal.{token}.*"
