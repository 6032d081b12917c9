"""Jobs: durable asynchronous inference. Every job that was accepted is settled exactly once."""
