"""The `relume` command: it reads options, calls the parts, and prints what they return."""
