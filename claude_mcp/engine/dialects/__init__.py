"""One module per engine. Each holds values of ``Dialect`` and no code."""
