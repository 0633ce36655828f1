"""The command line: thin commands that parse, call and print. Start-up imports nothing heavy."""
