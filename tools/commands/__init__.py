"""The commands of ``slimnets``. Each file holds one command: its arguments, its call and its printing."""
