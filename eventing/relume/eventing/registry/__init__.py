"""The event types that Relume sends and takes: schemas, AsyncAPI, EventType manifests."""
