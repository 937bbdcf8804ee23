"""The stand-in for the SDK."""
