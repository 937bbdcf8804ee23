"""The edge to AIOS: the only folder that knows the kernel. `contract` says what it relies on."""
