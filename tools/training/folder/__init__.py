"""All that a training has on disk: its states, its record and lock, its history, and the picture of that."""
