"""CESQL, the CloudEvents SQL expression language 1.0: parse, compile, run."""
