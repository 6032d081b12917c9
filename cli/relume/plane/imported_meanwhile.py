"""The modules that a plane needs and that take long to import."""


def import_servers() -> None:
    """Import them, in a thread while nats-server starts."""
    import relume.eventing.jetstream.log
    import relume.eventing.plane
    import relume.eventing.registry.documents
    import relume.plane.control
    import relume.plane.local_jobs
    import relume.plane.local_page
    import relume.plane.server
    import relume.serving.cross_origin
    import relume.serving.plane  # noqa: F401
