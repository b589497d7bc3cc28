"""An engine a file, each with ``prepare(problem, name) -> Prepared``; imported in its own process alone."""
