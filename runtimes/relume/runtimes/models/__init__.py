"""The model store: where models come from, and the folders they are kept in."""
