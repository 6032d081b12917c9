"""One Trigger's delivery: filter, order, attempts, retries, replies and dead letters."""
