"""Test doubles for the eventing plane, behind the same contract suite as JetStream."""
