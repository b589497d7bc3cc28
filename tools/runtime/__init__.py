"""TensorFlow on this machine: import, sessions, frozen graphs, random weights, locks, and the machine itself."""
