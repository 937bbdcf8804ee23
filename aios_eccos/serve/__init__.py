"""Calls in, answers out: router, dispatcher, engine, recorder."""
