"""TensorFlow on this machine: importing it, sessions, frozen graphs, random weights, the machine itself."""
