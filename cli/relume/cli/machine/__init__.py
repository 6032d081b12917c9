"""The commands of one machine: they run a plane, or talk to one that runs."""
