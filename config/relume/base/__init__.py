"""What every part uses: errors, the clock, the vocabulary, error bodies, child processes."""
