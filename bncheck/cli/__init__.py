"""The command line: click parses, one file a command calls, prints and exits."""
