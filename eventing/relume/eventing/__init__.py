"""CloudEvents, filters, delivery, and the Broker on JetStream."""
