"""Output to the terminal: tables, progress, and error messages that speak of options."""
