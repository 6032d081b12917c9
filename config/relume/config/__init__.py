"""Manifests as types: what the user wrote, validated, with file, line and field in every error."""
