"""Switching the plugin on and off, and checking the installation."""
