"""What a terminal shows: tables, progress, sentences for who gave options."""
