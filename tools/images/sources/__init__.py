"""Where images come from: files, folders, archives and records, local and remote."""
