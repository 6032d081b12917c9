"""A package, so that one state folder serves all its tests."""
