"""How large an event may be on its way, so that no part of the plane refuses what another took.

An event is accepted only when its attributes can travel as HTTP headers through every server and
client of the plane, and those of its answer too. An answer repeats attributes of its request one by
one (`correlationid` twice), so the bound that matters is the one for a single value: what fits in a
request fits in its answer. Every size is that of the header, where a character outside ASCII is
percent-encoded and takes six bytes or more.

The smallest limits on the way that are not ours: 64 KiB for a line and 100 headers in Python's own
server, which the gatekeeper works around; 256 headers and 4 MiB in vLLM's server where it runs on
h11; 1 MiB for all headers in Go's server, which Knative's data plane is made of.
"""

KIB = 1024
MIB = 1024 * KIB

#: The value of one attribute as a header. Name and value fit a line of 64 KiB.
ATTRIBUTE_BYTES = 60 * KIB
#: The name of an attribute; the specification recommends at most 20 characters.
ATTRIBUTE_NAME_BYTES = 256
#: All attributes of an event as headers, and the headers of its producer that go on with it.
ATTRIBUTES_BYTES = 512 * KIB
ATTRIBUTES = 200

#: What our HTTP clients read of an answer: one header, and how many there may be.
HEADER_BYTES = 128 * KIB
HEADERS = 512
#: What our HTTP servers read of a request before its body.
HEAD_BYTES = 4 * MIB

#: The data of an event, and of an answer.
EVENT_BYTES = 7 * MIB
