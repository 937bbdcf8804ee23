"""The real AIOS kernel before stub model servers. `python -m integration.run` runs everything."""
