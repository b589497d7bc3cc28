"""The commands of ``slimnets``, a file each: its arguments, its call and what it prints."""
