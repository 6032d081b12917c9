"""The `relume` command: thin; composes the parts."""
