"""CloudEvents 1.0.2: one event, and its forms over HTTP and in JSON."""
