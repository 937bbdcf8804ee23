"""The command line: `main` lists the commands, one module a command."""
