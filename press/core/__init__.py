"""What every room stands on: errors, files, the command line, other programs, locked packages, the machine."""
