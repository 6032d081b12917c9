"""What every part stands on: errors, the clock, the vocabulary, error bodies, child processes."""
