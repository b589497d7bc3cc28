"""One engine a file, with ``prepare(problem, name) -> Prepared``. Only the engine's own process imports the file."""
