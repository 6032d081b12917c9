"""The Broker on one machine: its ingress, filters, delivery, dead letters, and JetStream."""
