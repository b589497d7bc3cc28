"""The figures of the networks on a GPU. Each setting runs in a process of its own, in turns with its peer's."""
