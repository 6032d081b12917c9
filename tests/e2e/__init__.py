"""A package, so that one plane serves all its modules and is gone when the last of them ends."""
