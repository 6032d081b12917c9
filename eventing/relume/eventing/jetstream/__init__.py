"""The durable log of every Broker on NATS JetStream; only this package imports nats."""
