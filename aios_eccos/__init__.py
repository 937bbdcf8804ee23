"""aios-eccos: least-cost LLM routing under a quality floor, as a plugin for the AIOS kernel.

Import from the submodules; this package's own name carries the version only, so that importing
it costs nothing.
"""

__version__ = "0.1.0"
