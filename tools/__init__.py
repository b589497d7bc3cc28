"""The programs: ``slimnets COMMAND``, and the functions under them."""
