"""The command line `o3v`."""
