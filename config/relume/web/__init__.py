"""What stands in front of every ASGI application of ours: HTTP/1.1 itself, and coded bodies."""
