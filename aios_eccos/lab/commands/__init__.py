"""The commands of the command line that measure: `aios_eccos.cli.main` lists them by name."""
