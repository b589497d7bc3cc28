"""The programs: ``slimnets COMMAND`` and the libraries behind them."""
